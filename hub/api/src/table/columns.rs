//! Which columns a resource has. Columns of priority 1 are those of `kubectl get -o wide`.
//!
//! One long table: a new resource is one more constant and one more arm of [`of`].

use jiff::Timestamp;
use serde_json::Value;

use super::{event, network, node, pod, storage, workload};

/// One column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) ty: &'static str,
    pub(super) format: &'static str,
    pub(super) description: &'static str,
    pub(super) priority: u8,
    pub(super) cell: Cell,
}

/// Where a cell comes from. Paths are JSON pointers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell {
    /// How long ago the object was made.
    Age,
    Boolean(&'static str),
    Computed(fn(&Value) -> Value),
    ComputedSince(fn(&Value, Timestamp) -> Value),
    /// How many entries there are at all paths together.
    Count(&'static [&'static str]),
    Integer(&'static str),
    /// Text, and what stands for none.
    Text(&'static str, &'static str),
}

/// The columns of a resource.
pub(super) fn of(group: &str, plural: &str) -> &'static [Column] {
    match (group, plural) {
        ("", "configmaps") => CONFIG_MAPS,
        ("", "endpoints") => ENDPOINTS,
        ("" | "events.k8s.io", "events") => EVENTS,
        ("", "namespaces") => NAMESPACES,
        ("", "nodes") => NODES,
        ("", "persistentvolumeclaims") => PERSISTENT_VOLUME_CLAIMS,
        ("", "persistentvolumes") => PERSISTENT_VOLUMES,
        ("", "pods") => PODS,
        ("", "podtemplates") => POD_TEMPLATES,
        ("", "replicationcontrollers") => REPLICATION_CONTROLLERS,
        ("", "resourcequotas") => RESOURCE_QUOTAS,
        ("", "secrets") => SECRETS,
        ("", "serviceaccounts") => SERVICE_ACCOUNTS,
        ("", "services") => SERVICES,
        ("admissionregistration.k8s.io", it) if it.ends_with("webhookconfigurations") => WEBHOOKS,
        ("apiregistration.k8s.io", "apiservices") => API_SERVICES,
        ("apps", "controllerrevisions") => CONTROLLER_REVISIONS,
        ("apps", "daemonsets") => DAEMON_SETS,
        ("apps", "deployments") => DEPLOYMENTS,
        ("apps", "replicasets") => REPLICA_SETS,
        ("apps", "statefulsets") => STATEFUL_SETS,
        ("autoscaling", "horizontalpodautoscalers") => HORIZONTAL_POD_AUTOSCALERS,
        ("batch", "cronjobs") => CRON_JOBS,
        ("batch", "jobs") => JOBS,
        ("certificates.k8s.io", "certificatesigningrequests") => CERTIFICATE_SIGNING_REQUESTS,
        ("coordination.k8s.io", "leases") => LEASES,
        ("discovery.k8s.io", "endpointslices") => ENDPOINT_SLICES,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => FLOW_SCHEMAS,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => PRIORITY_LEVELS,
        ("networking.k8s.io", "ingressclasses") => INGRESS_CLASSES,
        ("networking.k8s.io", "ingresses") => INGRESSES,
        ("networking.k8s.io", "networkpolicies") => NETWORK_POLICIES,
        ("node.k8s.io", "runtimeclasses") => RUNTIME_CLASSES,
        ("policy", "poddisruptionbudgets") => POD_DISRUPTION_BUDGETS,
        ("rbac.authorization.k8s.io", "clusterrolebindings" | "rolebindings") => ROLE_BINDINGS,
        ("scheduling.k8s.io", "priorityclasses") => PRIORITY_CLASSES,
        ("storage.k8s.io", "csidrivers") => CSI_DRIVERS,
        ("storage.k8s.io", "csinodes") => CSI_NODES,
        ("storage.k8s.io", "storageclasses") => STORAGE_CLASSES,
        ("storage.k8s.io", "volumeattachments") => VOLUME_ATTACHMENTS,
        _ => OTHERS,
    }
}

const fn column(
    name: &'static str,
    ty: &'static str,
    cell: Cell,
    description: &'static str,
) -> Column {
    Column { name, ty, format: "", description, priority: 0, cell }
}

const fn text(name: &'static str, path: &'static str, description: &'static str) -> Column {
    column(name, "string", Cell::Text(path, ""), description)
}

const fn integer(name: &'static str, path: &'static str, description: &'static str) -> Column {
    column(name, "integer", Cell::Integer(path), description)
}

const fn boolean(name: &'static str, path: &'static str, description: &'static str) -> Column {
    column(name, "boolean", Cell::Boolean(path), description)
}

const fn computed(
    name: &'static str,
    compute: fn(&Value) -> Value,
    description: &'static str,
) -> Column {
    column(name, "string", Cell::Computed(compute), description)
}

const fn since(
    name: &'static str,
    compute: fn(&Value, Timestamp) -> Value,
    description: &'static str,
) -> Column {
    column(name, "string", Cell::ComputedSince(compute), description)
}

const fn count(
    name: &'static str,
    paths: &'static [&'static str],
    description: &'static str,
) -> Column {
    column(name, "string", Cell::Count(paths), description)
}

impl Column {
    /// Shows the column only with `-o wide`.
    const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }

    const fn of_type(mut self, ty: &'static str) -> Self {
        self.ty = ty;
        self
    }

    /// Marks what the client may use to name the object.
    const fn as_name(mut self) -> Self {
        self.format = "name";
        self
    }

    /// Says what stands for nothing.
    const fn or(mut self, missing: &'static str) -> Self {
        if let Cell::Text(path, _) = self.cell {
            self.cell = Cell::Text(path, missing);
        }
        self
    }
}

const NAME: Column = text("Name", "/metadata/name", "Name of the object.").as_name();
const AGE: Column = column("Age", "string", Cell::Age, "Time since the object was made.");
const CREATED_AT: Column =
    text("Created At", "/metadata/creationTimestamp", "When the object was made.").of_type("date");
const CONTAINERS: Column =
    computed("Containers", workload::containers, "Names of the containers of the template.").wide();
const IMAGES: Column =
    computed("Images", workload::images, "Images of the containers of the template.").wide();
const SELECTOR: Column =
    computed("Selector", workload::selector_cell, "Which pods belong to the object.").wide();
const PLAIN_SELECTOR: Column =
    computed("Selector", workload::plain_selector, "Which pods belong to the object.").wide();

const OTHERS: &[Column] = &[NAME, CREATED_AT];

const PODS: &[Column] = &[
    NAME,
    computed("Ready", pod::ready, "How many of the containers are ready for traffic."),
    computed("Status", pod::status, "What the containers are up to, in one word."),
    since("Restarts", pod::restarts, "How often containers were restarted, and when last."),
    AGE,
    computed("IP", pod::ip, "Address of the pod.").wide(),
    text("Node", "/spec/nodeName", "Node on which the pod runs.").or("<none>").wide(),
    text("Nominated Node", "/status/nominatedNodeName", "Node on which room is made for the pod.")
        .or("<none>")
        .wide(),
    computed("Readiness Gates", pod::readiness_gates, "How many of the readiness gates are true.")
        .wide(),
];

const POD_TEMPLATES: &[Column] = &[
    NAME,
    computed("Containers", workload::template_containers, "Names of the containers."),
    computed("Images", workload::template_images, "Images of the containers."),
    computed("Pod Labels", workload::template_labels, "Labels of the pods."),
];

const REPLICATION_CONTROLLERS: &[Column] = &[
    NAME,
    integer("Desired", "/spec/replicas", "How many pods there should be."),
    integer("Current", "/status/replicas", "How many pods there are."),
    integer("Ready", "/status/readyReplicas", "How many pods are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    PLAIN_SELECTOR,
];

const REPLICA_SETS: &[Column] = &[
    NAME,
    integer("Desired", "/spec/replicas", "How many pods there should be."),
    integer("Current", "/status/replicas", "How many pods there are."),
    integer("Ready", "/status/readyReplicas", "How many pods are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

const DEPLOYMENTS: &[Column] = &[
    NAME,
    computed("Ready", workload::ready, "How many of the desired pods are ready."),
    integer("Up-to-date", "/status/updatedReplicas", "How many pods are of the newest template.")
        .of_type("string"),
    integer("Available", "/status/availableReplicas", "How many pods have been ready long enough.")
        .of_type("string"),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

const DAEMON_SETS: &[Column] = &[
    NAME,
    integer("Desired", "/status/desiredNumberScheduled", "How many nodes should run the pod."),
    integer("Current", "/status/currentNumberScheduled", "How many of these nodes run the pod."),
    integer("Ready", "/status/numberReady", "On how many of these nodes it is ready."),
    integer("Up-to-date", "/status/updatedNumberScheduled", "How many run the newest template."),
    integer("Available", "/status/numberAvailable", "How many have been ready long enough."),
    computed("Node Selector", workload::node_selector, "Which nodes should run the pod."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

const STATEFUL_SETS: &[Column] = &[
    NAME,
    computed("Ready", workload::ready, "How many of the desired pods are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
];

const CONTROLLER_REVISIONS: &[Column] = &[
    NAME,
    computed("Controller", workload::revision_controller, "What the revision belongs to."),
    integer("Revision", "/revision", "Number of the revision.").of_type("string"),
    AGE,
];

const JOBS: &[Column] = &[
    NAME,
    computed("Status", workload::job_status, "How far the job is."),
    computed("Completions", workload::job_completions, "How many of the pods have succeeded."),
    since("Duration", workload::job_duration, "How long the job took, or takes so far."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

const CRON_JOBS: &[Column] = &[
    NAME,
    text("Schedule", "/spec/schedule", "When jobs are made, as in cron."),
    computed("Timezone", workload::cron_job_time_zone, "Time zone of the schedule."),
    computed("Suspend", workload::cron_job_suspend, "Whether no jobs are made."),
    count("Active", &["/status/active"], "How many jobs run.").of_type("integer"),
    since("Last Schedule", workload::cron_job_last_schedule, "When a job was made last."),
    AGE,
    computed("Containers", workload::cron_job_containers, "Names of the containers.").wide(),
    computed("Images", workload::cron_job_images, "Images of the containers.").wide(),
    computed("Selector", workload::cron_job_selector, "Which pods belong to the jobs.").wide(),
];

const HORIZONTAL_POD_AUTOSCALERS: &[Column] = &[
    NAME,
    computed("Reference", workload::autoscaler_reference, "What is scaled."),
    computed("Targets", workload::autoscaler_targets, "Observed and desired metrics."),
    computed("MinPods", workload::autoscaler_min, "Least number of pods."),
    integer("MaxPods", "/spec/maxReplicas", "Greatest number of pods.").of_type("string"),
    integer("Replicas", "/status/currentReplicas", "How many pods there are.").of_type("string"),
    AGE,
];

const POD_DISRUPTION_BUDGETS: &[Column] = &[
    NAME,
    text("Min Available", "/spec/minAvailable", "How many pods must stay.").or("N/A"),
    text("Max Unavailable", "/spec/maxUnavailable", "How many pods may be away.").or("N/A"),
    integer("Allowed Disruptions", "/status/disruptionsAllowed", "How many pods may go now."),
    AGE,
];

const SERVICES: &[Column] = &[
    NAME,
    text("Type", "/spec/type", "How the service is exposed."),
    computed("Cluster-IP", network::cluster_ip, "Address within the cluster."),
    computed("External-IP", network::external_ip, "Addresses outside of the cluster."),
    computed("Port(s)", network::service_ports, "Ports, with node ports where there are any."),
    AGE,
    PLAIN_SELECTOR,
];

const ENDPOINTS: &[Column] = &[
    NAME,
    computed("Endpoints", network::endpoints, "Addresses and ports behind the service."),
    AGE,
];

const ENDPOINT_SLICES: &[Column] = &[
    NAME,
    text("AddressType", "/addressType", "Kind of the addresses."),
    computed("Ports", network::slice_ports, "Ports of every endpoint."),
    computed("Endpoints", network::slice_endpoints, "Addresses of the endpoints."),
    AGE,
];

const INGRESSES: &[Column] = &[
    NAME,
    text("Class", "/spec/ingressClassName", "Which controller serves it.").or("<none>"),
    computed("Hosts", network::ingress_hosts, "Hosts that requests are matched against."),
    computed("Address", network::ingress_address, "Where requests come in."),
    computed("Ports", network::ingress_ports, "Ports that are open."),
    AGE,
];

const INGRESS_CLASSES: &[Column] = &[
    NAME,
    text("Controller", "/spec/controller", "Which controller serves the class."),
    computed("Parameters", network::ingress_class_parameters, "Where its parameters are."),
    AGE,
];

const NETWORK_POLICIES: &[Column] =
    &[NAME, computed("Pod-Selector", network::pod_selector, "Which pods it applies to."), AGE];

const NODES: &[Column] = &[
    NAME,
    computed("Status", node::status, "Whether the node is ready and takes pods."),
    computed("Roles", node::roles, "Roles of the node, from its labels."),
    AGE,
    text("Version", "/status/nodeInfo/kubeletVersion", "Version of the node agent."),
    computed("Internal-IP", node::internal_ip, "Address within the cluster.").wide(),
    computed("External-IP", node::external_ip, "Address outside of the cluster.").wide(),
    text("OS-Image", "/status/nodeInfo/osImage", "Operating system.").or("<unknown>").wide(),
    text("Kernel-Version", "/status/nodeInfo/kernelVersion", "Version of the kernel.")
        .or("<unknown>")
        .wide(),
    text("Container-Runtime", "/status/nodeInfo/containerRuntimeVersion", "Container runtime.")
        .or("<unknown>")
        .wide(),
];

const EVENTS: &[Column] = &[
    since("Last Seen", event::last_seen, "When it happened last."),
    text("Type", "/type", "Normal or Warning."),
    text("Reason", "/reason", "Why, in one word."),
    computed("Object", event::object, "What it happened to."),
    computed("Subobject", event::subobject, "Which part of that.").wide(),
    computed("Source", event::source, "Who reports it.").wide(),
    computed("Message", event::message, "What happened, in a sentence."),
    since("First Seen", event::first_seen, "When it happened first.").wide(),
    computed("Count", event::count, "How often it happened.").wide(),
    NAME.wide(),
];

const NAMESPACES: &[Column] =
    &[NAME, text("Status", "/status/phase", "Active or Terminating."), AGE];

const CONFIG_MAPS: &[Column] =
    &[NAME, count("Data", &["/data", "/binaryData"], "How many entries it has."), AGE];

const SECRETS: &[Column] = &[
    NAME,
    text("Type", "/type", "What the secret is for."),
    count("Data", &["/data"], "How many entries it has."),
    AGE,
];

const SERVICE_ACCOUNTS: &[Column] =
    &[NAME, count("Secrets", &["/secrets"], "How many secrets it lists."), AGE];

const LEASES: &[Column] =
    &[NAME, text("Holder", "/spec/holderIdentity", "Who holds the lease."), AGE];

const RESOURCE_QUOTAS: &[Column] = &[
    NAME,
    computed("Request", workload::quota_requests, "Used and granted requests."),
    computed("Limit", workload::quota_limits, "Used and granted limits."),
    AGE,
];

const PERSISTENT_VOLUMES: &[Column] = &[
    NAME,
    text("Capacity", "/spec/capacity/storage", "Size of the volume."),
    computed("Access Modes", storage::volume_access_modes, "How it can be mounted."),
    text("Reclaim Policy", "/spec/persistentVolumeReclaimPolicy", "What follows its release."),
    computed("Status", storage::phase, "Whether it is bound."),
    computed("Claim", storage::volume_claim, "Which claim it is bound to."),
    text("StorageClass", "/spec/storageClassName", "Class of the volume."),
    text("VolumeAttributesClass", "/spec/volumeAttributesClassName", "Class of its attributes.")
        .or("<unset>"),
    text("Reason", "/status/reason", "Why it is in that state."),
    AGE,
    text("VolumeMode", "/spec/volumeMode", "Filesystem or Block.").or("<unset>").wide(),
];

const PERSISTENT_VOLUME_CLAIMS: &[Column] = &[
    NAME,
    computed("Status", storage::phase, "Whether it is bound."),
    text("Volume", "/spec/volumeName", "Which volume it is bound to."),
    computed("Capacity", storage::claim_capacity, "Size of that volume."),
    computed("Access Modes", storage::claim_access_modes, "How it can be mounted."),
    text("StorageClass", "/spec/storageClassName", "Class of the volume."),
    text("VolumeAttributesClass", "/spec/volumeAttributesClassName", "Class of its attributes.")
        .or("<unset>"),
    AGE,
    text("VolumeMode", "/spec/volumeMode", "Filesystem or Block.").or("<unset>").wide(),
];

const STORAGE_CLASSES: &[Column] = &[
    computed("Name", storage::class_name, "Name of the class.").as_name(),
    text("Provisioner", "/provisioner", "Who makes volumes."),
    text("ReclaimPolicy", "/reclaimPolicy", "What follows the release of volumes.").or("Delete"),
    text("VolumeBindingMode", "/volumeBindingMode", "When volumes are bound.").or("<unset>"),
    boolean("AllowVolumeExpansion", "/allowVolumeExpansion", "Whether volumes can grow.")
        .of_type("string"),
    AGE,
];

const VOLUME_ATTACHMENTS: &[Column] = &[
    NAME,
    text("Attacher", "/spec/attacher", "Who attaches the volume.").as_name(),
    text("PV", "/spec/source/persistentVolumeName", "The volume."),
    text("Node", "/spec/nodeName", "The node."),
    boolean("Attached", "/status/attached", "Whether it is attached."),
    AGE,
];

const CSI_DRIVERS: &[Column] = &[
    NAME,
    boolean("AttachRequired", "/spec/attachRequired", "Whether volumes are attached first."),
    boolean("PodInfoOnMount", "/spec/podInfoOnMount", "Whether it is told of the pod."),
    computed("Modes", storage::driver_modes, "Which life cycles of volumes it knows."),
    AGE,
];

const CSI_NODES: &[Column] = &[
    NAME,
    count("Drivers", &["/spec/drivers"], "How many drivers are on the node.").of_type("integer"),
    AGE,
];

const API_SERVICES: &[Column] = &[
    NAME,
    computed("Service", storage::api_service, "Which service serves the group."),
    computed("Available", storage::api_service_available, "Whether it answers."),
    AGE,
];

const CERTIFICATE_SIGNING_REQUESTS: &[Column] = &[
    NAME,
    AGE,
    text("SignerName", "/spec/signerName", "Who should sign."),
    text("Requestor", "/spec/username", "Who asks."),
    text("RequestedDuration", "/spec/expirationSeconds", "For how many seconds.").or("<none>"),
    computed("Condition", storage::request_condition, "How far the request is."),
];

const WEBHOOKS: &[Column] =
    &[NAME, count("Webhooks", &["/webhooks"], "How many webhooks it has.").of_type("integer"), AGE];

const PRIORITY_CLASSES: &[Column] = &[
    NAME,
    integer("Value", "/value", "The priority."),
    boolean("Global-Default", "/globalDefault", "Whether pods without a class have it."),
    text("PreemptionPolicy", "/preemptionPolicy", "Whether its pods displace others."),
    AGE,
];

const RUNTIME_CLASSES: &[Column] =
    &[NAME, text("Handler", "/handler", "Which runtime handles the pods."), AGE];

const ROLE_BINDINGS: &[Column] = &[
    NAME,
    computed("Role", network::role, "Which role is given."),
    AGE,
    computed("Users", network::users, "Which users have it.").wide(),
    computed("Groups", network::groups, "Which groups have it.").wide(),
    computed("ServiceAccounts", network::service_accounts, "Which service accounts have it.")
        .wide(),
];

const FLOW_SCHEMAS: &[Column] = &[
    NAME,
    text("PriorityLevel", "/spec/priorityLevelConfiguration/name", "Priority of the requests."),
    integer("MatchingPrecedence", "/spec/matchingPrecedence", "Which schema goes first.")
        .of_type("string"),
    text("DistinguisherMethod", "/spec/distinguisherMethod/type", "What tells flows apart.")
        .or("<none>"),
    AGE,
];

const PRIORITY_LEVELS: &[Column] = &[
    NAME,
    text("Type", "/spec/type", "Exempt or Limited."),
    text("NominalConcurrencyShares", "/spec/limited/nominalConcurrencyShares", "Its share.")
        .or("<none>"),
    text("Queues", "/spec/limited/limitResponse/queuing/queues", "How many queues.").or("<none>"),
    text("HandSize", "/spec/limited/limitResponse/queuing/handSize", "Queues of a flow.")
        .or("<none>"),
    text("QueueLengthLimit", "/spec/limited/limitResponse/queuing/queueLengthLimit", "Queue size.")
        .or("<none>"),
    AGE,
];
