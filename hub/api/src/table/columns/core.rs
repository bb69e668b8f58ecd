//! Columns of the core group.

use super::{
    AGE, CONTAINERS, Column, IMAGES, NAME, PLAIN_SELECTOR, computed, count, integer, since, text,
};
use crate::table::{event, network, node, pod, storage, workload};

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "componentstatuses" => Some(COMPONENT_STATUSES),
        "configmaps" => Some(CONFIG_MAPS),
        "endpoints" => Some(ENDPOINTS),
        "events" => Some(EVENTS),
        "namespaces" => Some(NAMESPACES),
        "nodes" => Some(NODES),
        "persistentvolumeclaims" => Some(PERSISTENT_VOLUME_CLAIMS),
        "persistentvolumes" => Some(PERSISTENT_VOLUMES),
        "pods" => Some(PODS),
        "podtemplates" => Some(POD_TEMPLATES),
        "replicationcontrollers" => Some(REPLICATION_CONTROLLERS),
        "resourcequotas" => Some(RESOURCE_QUOTAS),
        "secrets" => Some(SECRETS),
        "serviceaccounts" => Some(SERVICE_ACCOUNTS),
        "services" => Some(SERVICES),
        _ => None,
    }
}

const CONFIG_MAPS: &[Column] =
    &[NAME, count("Data", &["/data", "/binaryData"], "How many entries it has."), AGE];

const ENDPOINTS: &[Column] = &[
    NAME,
    computed("Endpoints", network::endpoints, "Addresses and ports behind the service."),
    AGE,
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

const RESOURCE_QUOTAS: &[Column] = &[
    NAME,
    computed("Request", workload::quota_requests, "Used and granted requests."),
    computed("Limit", workload::quota_limits, "Used and granted limits."),
    AGE,
];

const SECRETS: &[Column] = &[
    NAME,
    text("Type", "/type", "What the secret is for."),
    count("Data", &["/data"], "How many entries it has."),
    AGE,
];

const SERVICE_ACCOUNTS: &[Column] =
    &[NAME, count("Secrets", &["/secrets"], "How many secrets it lists."), AGE];

const SERVICES: &[Column] = &[
    NAME,
    text("Type", "/spec/type", "How the service is exposed."),
    computed("Cluster-IP", network::cluster_ip, "Address within the cluster."),
    computed("External-IP", network::external_ip, "Addresses outside of the cluster."),
    computed("Port(s)", network::service_ports, "Ports, with node ports where there are any."),
    AGE,
    PLAIN_SELECTOR,
];

const COMPONENT_STATUSES: &[Column] = &[
    NAME,
    computed("Status", workload::component_status, "Whether the component is healthy."),
    computed("Message", workload::component_message, "What it says of itself."),
    computed("Error", workload::component_error, "What is wrong with it."),
];
