//! Roles and bindings of Kubernetes 1.37, but those of its controllers.

use super::{ACCESS_REVIEWS, EVENTS, READ, Row, named, paths, rule};
use crate::auth::{AUTHENTICATED, MASTERS, UNAUTHENTICATED};

/// A subject: its kind and name. Service accounts are those of `kube-system`.
pub(super) type Subject = (&'static str, &'static str);

const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";

const WRITE: &str = "create delete deletecollection patch update";
const READ_WRITE: &str = "create delete deletecollection get list patch update watch";

pub(super) const VIEW: &[Row] = &[
    rule(
        READ,
        "core",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status",
    ),
    rule(
        READ,
        "core",
        "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas resourcequotas/status",
    ),
    rule(READ, "core", "namespaces"),
    rule(READ, "discovery.k8s.io", "endpointslices"),
    rule(
        READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    ),
    rule(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    rule(READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    rule(
        READ,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale",
    ),
    rule(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    rule(READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    rule(READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
];

pub(super) const EDIT: &[Row] = &[
    rule(READ, "core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    rule("impersonate", "core", "serviceaccounts"),
    rule(WRITE, "core", "pods pods/attach pods/exec pods/portforward pods/proxy"),
    rule("create", "core", "pods/eviction"),
    rule(
        WRITE,
        "core",
        "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy",
    ),
    rule("create", "core", "serviceaccounts/token"),
    rule(
        WRITE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale",
    ),
    rule(WRITE, "autoscaling", "horizontalpodautoscalers"),
    rule(WRITE, "batch", "cronjobs jobs"),
    rule(
        WRITE,
        "extensions",
        "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets replicasets/scale replicationcontrollers/scale",
    ),
    rule(WRITE, "policy", "poddisruptionbudgets"),
    rule(WRITE, "networking.k8s.io", "ingresses networkpolicies"),
    rule(READ_WRITE, "coordination.k8s.io", "leases"),
    rule(WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
];

pub(super) const ADMIN: &[Row] = &[
    rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    rule(READ_WRITE, "rbac.authorization.k8s.io", "roles rolebindings"),
];

const REVIEWS: Row = rule("create", "authentication.k8s.io", "tokenreviews");
const HEALTH: &str = "/healthz /livez /readyz /version /version/";

/// Roles without aggregation.
pub(super) const CLUSTER_ROLES: &[(&str, &[Row])] = &[
    (
        "cluster-admin",
        &[rule("*", "*", "*"), Row { verbs: "*", groups: "", resources: "", names: "", urls: "*" }],
    ),
    (
        "system:discovery",
        &[paths(
            "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/",
        )],
    ),
    (
        "system:basic-user",
        &[
            rule(
                "create",
                "authorization.k8s.io",
                "selfsubjectaccessreviews selfsubjectrulesreviews",
            ),
            rule("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    ("system:public-info-viewer", &[paths(HEALTH)]),
    (
        "system:monitoring",
        &[paths("/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*")],
    ),
    ("system:auth-delegator", &[REVIEWS, ACCESS_REVIEWS]),
    (
        "system:node",
        &[
            REVIEWS,
            rule(
                "create",
                "authorization.k8s.io",
                "localsubjectaccessreviews subjectaccessreviews",
            ),
            rule(READ, "core", "services"),
            rule("create get list watch", "core", "nodes"),
            rule("patch update", "core", "nodes nodes/status"),
            rule("create patch update", "core", "events"),
            rule("create delete get list watch", "core", "pods"),
            rule("patch update", "core", "pods/status"),
            rule("create", "core", "pods/eviction serviceaccounts/token"),
            rule(READ, "core", "configmaps secrets"),
            rule("get", "core", "endpoints persistentvolumeclaims persistentvolumes"),
            rule("get", "core", "serviceaccounts"),
            rule("get patch update", "core", "persistentvolumeclaims/status"),
            rule(
                "create get list watch",
                "certificates.k8s.io",
                "certificatesigningrequests podcertificaterequests",
            ),
            rule(READ, "certificates.k8s.io", "clustertrustbundles"),
            rule("create delete get patch update", "coordination.k8s.io", "leases"),
            rule("get", "storage.k8s.io", "volumeattachments"),
            rule(READ, "storage.k8s.io", "csidrivers"),
            rule("create delete get patch update", "storage.k8s.io", "csinodes"),
            rule(READ, "node.k8s.io", "runtimeclasses"),
            rule("get", "resource.k8s.io", "resourceclaims"),
            rule("deletecollection", "resource.k8s.io", "resourceslices"),
        ],
    ),
    (
        "system:node-bootstrapper",
        &[rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests")],
    ),
    (
        "system:node-problem-detector",
        &[rule("get", "core", "nodes"), rule("patch", "core", "nodes/status"), EVENTS],
    ),
    (
        "system:node-proxier",
        &[
            rule("list watch", "core", "endpoints services"),
            rule(READ, "core", "nodes"),
            EVENTS,
            rule("list watch", "discovery.k8s.io", "endpointslices"),
            rule("list watch", "networking.k8s.io", "servicecidrs"),
        ],
    ),
    (
        "system:kubelet-api-admin",
        &[
            rule(READ, "core", "nodes"),
            rule("proxy", "core", "nodes"),
            rule(
                "*",
                "core",
                "nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/stats",
            ),
        ],
    ),
    (
        "system:kube-aggregator",
        &[
            rule(READ, "core", "endpoints services"),
            rule(READ, "discovery.k8s.io", "endpointslices"),
        ],
    ),
    (
        "system:heapster",
        &[
            rule(READ, "core", "events namespaces nodes pods"),
            rule(READ, "extensions", "deployments"),
        ],
    ),
    (
        "system:cluster-trust-bundle-discovery",
        &[rule(READ, "certificates.k8s.io", "clustertrustbundles")],
    ),
    ("system:kube-dns", &[rule("list watch", "core", "endpoints services")]),
    (
        "system:kube-controller-manager",
        &[
            EVENTS,
            rule("create", "coordination.k8s.io", "leases"),
            named("kube-controller-manager", rule("get update", "coordination.k8s.io", "leases")),
            rule("create", "core", "secrets serviceaccounts"),
            rule("delete", "core", "secrets"),
            rule("get", "core", "configmaps namespaces secrets serviceaccounts"),
            rule("update", "core", "secrets serviceaccounts"),
            REVIEWS,
            ACCESS_REVIEWS,
            rule("list watch", "*", "*"),
            rule("create", "core", "serviceaccounts/token"),
        ],
    ),
    (
        "system:kube-scheduler",
        &[
            EVENTS,
            rule("create", "coordination.k8s.io", "leases"),
            named("kube-scheduler", rule("get update", "coordination.k8s.io", "leases")),
            rule(READ, "core", "nodes"),
            rule("delete get list watch", "core", "pods"),
            rule("create", "core", "bindings pods/binding"),
            rule("patch update", "core", "pods/status"),
            rule(READ, "core", "replicationcontrollers services"),
            rule(READ, "apps extensions", "replicasets"),
            rule(READ, "apps", "statefulsets"),
            rule(READ, "policy", "poddisruptionbudgets"),
            rule(READ, "core", "persistentvolumeclaims persistentvolumes"),
            REVIEWS,
            ACCESS_REVIEWS,
            rule(
                READ,
                "storage.k8s.io",
                "csidrivers csinodes csistoragecapacities volumeattachments",
            ),
            rule(READ, "core", "namespaces"),
            rule(READ, "resource.k8s.io", "deviceclasses devicetaintrules resourceslices"),
            rule(
                "get list patch update watch",
                "resource.k8s.io",
                "resourceclaims resourceclaims/status",
            ),
            rule("patch update", "resource.k8s.io", "resourceclaims/binding"),
            rule("get list patch update watch", "core", "pods/finalizers"),
        ],
    ),
    (
        "system:volume-scheduler",
        &[
            rule("get list patch update watch", "core", "persistentvolumes"),
            rule(READ, "storage.k8s.io", "storageclasses"),
            rule("get list patch update watch", "core", "persistentvolumeclaims"),
        ],
    ),
    (
        "system:persistent-volume-provisioner",
        &[
            rule("create delete get list watch", "core", "persistentvolumes"),
            rule("get list update watch", "core", "persistentvolumeclaims"),
            rule(READ, "storage.k8s.io", "storageclasses"),
            rule("watch", "core", "events"),
            EVENTS,
        ],
    ),
    (
        "system:service-account-issuer-discovery",
        &[paths(
            "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        )],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[rule("create", "certificates.k8s.io", "certificatesigningrequests/nodeclient")],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[rule("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient")],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &[signer("kubernetes.io/kube-apiserver-client")],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &[signer("kubernetes.io/kube-apiserver-client-kubelet")],
    ),
    (
        "system:certificates.k8s.io:kubelet-serving-approver",
        &[signer("kubernetes.io/kubelet-serving")],
    ),
    (
        "system:certificates.k8s.io:legacy-unknown-approver",
        &[signer("kubernetes.io/legacy-unknown")],
    ),
];

const fn signer(name: &'static str) -> Row {
    named(name, rule("approve", "certificates.k8s.io", "signers"))
}

/// Bindings of the roles with their names, and whom they are for.
pub(super) const CLUSTER_ROLE_BINDINGS: &[(&str, &[Subject])] = &[
    ("cluster-admin", &[("Group", MASTERS)]),
    ("system:discovery", &[("Group", AUTHENTICATED)]),
    ("system:basic-user", &[("Group", AUTHENTICATED)]),
    ("system:public-info-viewer", &[("Group", AUTHENTICATED), ("Group", UNAUTHENTICATED)]),
    ("system:monitoring", &[("Group", "system:monitoring")]),
    // Whom it was for until Kubernetes 1.8. The node authorizer lets a node do less, and enough.
    ("system:node", &[]),
    ("system:cluster-trust-bundle-discovery", &[("Group", SERVICE_ACCOUNTS)]),
    ("system:node-proxier", &[("User", "system:kube-proxy")]),
    ("system:kube-controller-manager", &[("User", CONTROLLER_MANAGER)]),
    ("system:kube-dns", &[("ServiceAccount", "kube-dns")]),
    ("system:kube-scheduler", &[("User", SCHEDULER)]),
    ("system:volume-scheduler", &[("User", SCHEDULER)]),
    ("system:service-account-issuer-discovery", &[("Group", SERVICE_ACCOUNTS)]),
];

/// A role in a namespace, and its binding.
pub(super) struct InNamespace {
    pub(super) namespace: &'static str,
    pub(super) role: &'static str,
    pub(super) rows: &'static [Row],
    pub(super) binding: &'static str,
    pub(super) subjects: &'static [Subject],
}

pub(super) const IN_NAMESPACES: &[InNamespace] = &[
    // With this one servers of aggregated APIs begin.
    InNamespace {
        namespace: "kube-system",
        role: "extension-apiserver-authentication-reader",
        rows: &[named("extension-apiserver-authentication", rule(READ, "core", "configmaps"))],
        binding: "system::extension-apiserver-authentication-reader",
        subjects: &[("User", CONTROLLER_MANAGER), ("User", SCHEDULER)],
    },
    InNamespace {
        namespace: "kube-system",
        role: "system::leader-locking-kube-controller-manager",
        rows: &[
            rule("watch", "core", "configmaps"),
            named("kube-controller-manager", rule("get update", "core", "configmaps")),
        ],
        binding: "system::leader-locking-kube-controller-manager",
        subjects: &[("User", CONTROLLER_MANAGER), ("ServiceAccount", "kube-controller-manager")],
    },
    InNamespace {
        namespace: "kube-system",
        role: "system::leader-locking-kube-scheduler",
        rows: &[
            rule("watch", "core", "configmaps"),
            named("kube-scheduler", rule("get update", "core", "configmaps")),
        ],
        binding: "system::leader-locking-kube-scheduler",
        subjects: &[("User", SCHEDULER), ("ServiceAccount", "kube-scheduler")],
    },
    InNamespace {
        namespace: "kube-system",
        role: "system:controller:bootstrap-signer",
        rows: &[rule(READ, "core", "secrets")],
        binding: "system:controller:bootstrap-signer",
        subjects: &[("ServiceAccount", "bootstrap-signer")],
    },
    InNamespace {
        namespace: "kube-system",
        role: "system:controller:cloud-provider",
        rows: &[rule("create get list watch", "core", "configmaps")],
        binding: "system:controller:cloud-provider",
        subjects: &[("ServiceAccount", "cloud-provider")],
    },
    InNamespace {
        namespace: "kube-system",
        role: "system:controller:token-cleaner",
        rows: &[rule("delete get list watch", "core", "secrets"), EVENTS],
        binding: "system:controller:token-cleaner",
        subjects: &[("ServiceAccount", "token-cleaner")],
    },
    InNamespace {
        namespace: "kube-public",
        role: "system:controller:bootstrap-signer",
        rows: &[
            rule(READ, "core", "configmaps"),
            named("cluster-info", rule("update", "core", "configmaps")),
            EVENTS,
        ],
        binding: "system:controller:bootstrap-signer",
        subjects: &[("ServiceAccount", "bootstrap-signer")],
    },
];
