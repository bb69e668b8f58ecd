//! What Kubernetes' controllers may do, each as a service account of its own. The hub's own controllers ask nobody:
//! this is for controllers that run beside it, and for who reads, binds or aggregates these roles.

use super::{ACCESS_REVIEWS, EVENTS, READ, Row, named, rule};

const READ_CREATE: &str = "create get list watch";
const READ_DELETE: &str = "delete get list watch";
const READ_UPDATE: &str = "get list update watch";
/// All but `deletecollection`.
const MANAGE: &str = "create delete get list patch update watch";
/// What a controller does to the pods that it makes.
const PODS: Row = rule("create delete list patch watch", "core", "pods");
const REVISIONS: Row = rule(MANAGE, "apps", "controllerrevisions");

/// Service accounts of `kube-system`; the role of each is `system:controller:<name>`.
pub(super) const CONTROLLERS: &[(&str, &[Row])] = &[
    (
        "attachdetach-controller",
        &[
            rule("list watch", "core", "persistentvolumeclaims persistentvolumes pods"),
            rule(READ, "core", "nodes"),
            rule("patch update", "core", "nodes/status"),
            EVENTS,
            rule("create delete get list watch", "storage.k8s.io", "volumeattachments"),
            rule(READ, "storage.k8s.io", "csidrivers csinodes"),
        ],
    ),
    (
        "certificate-controller",
        &[
            rule(READ_DELETE, "certificates.k8s.io", "certificatesigningrequests"),
            rule(
                "update",
                "certificates.k8s.io",
                "certificatesigningrequests/approval certificatesigningrequests/status",
            ),
            named(
                "kubernetes.io/kube-apiserver-client-kubelet",
                rule("approve", "certificates.k8s.io", "signers"),
            ),
            named(
                "kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown",
                rule("sign", "certificates.k8s.io", "signers"),
            ),
            ACCESS_REVIEWS,
            EVENTS,
        ],
    ),
    (
        "clusterrole-aggregation-controller",
        &[rule(
            "escalate get list patch update watch",
            "rbac.authorization.k8s.io",
            "clusterroles",
        )],
    ),
    (
        "cronjob-controller",
        &[
            rule(READ_UPDATE, "batch", "cronjobs"),
            rule(MANAGE, "batch", "jobs"),
            rule("update", "batch", "cronjobs/finalizers cronjobs/status"),
            rule("delete list watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "daemon-set-controller",
        &[
            rule(READ, "apps extensions", "daemonsets"),
            rule("update", "apps extensions", "daemonsets/finalizers daemonsets/status"),
            rule("list watch", "core", "nodes"),
            PODS,
            rule("create", "core", "pods/binding"),
            REVISIONS,
            EVENTS,
        ],
    ),
    (
        "deployment-controller",
        &[
            rule(READ_UPDATE, "apps extensions", "deployments"),
            rule("update", "apps extensions", "deployments/finalizers deployments/status"),
            rule(MANAGE, "apps extensions", "replicasets"),
            rule(READ_UPDATE, "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "device-taint-eviction-controller",
        &[
            rule(READ_DELETE, "core", "pods"),
            rule("patch update", "core", "pods/status"),
            rule(
                READ,
                "resource.k8s.io",
                "deviceclasses devicetaintrules resourceclaims resourceslices",
            ),
            rule("patch update", "resource.k8s.io", "devicetaintrules/status"),
            EVENTS,
        ],
    ),
    (
        "disruption-controller",
        &[
            rule(READ, "apps extensions", "deployments replicasets"),
            rule(READ, "core", "replicationcontrollers"),
            rule(READ, "policy", "poddisruptionbudgets"),
            rule(READ, "apps", "statefulsets"),
            rule("update", "policy", "poddisruptionbudgets/status"),
            rule("patch update", "core", "pods/status"),
            rule("get", "*", "*/scale"),
            EVENTS,
        ],
    ),
    (
        "endpoint-controller",
        &[
            rule(READ, "core", "pods services"),
            rule("create delete get list update watch", "core", "endpoints"),
            rule("create", "core", "endpoints/restricted"),
            EVENTS,
        ],
    ),
    (
        "endpointslice-controller",
        &[
            rule(READ, "core", "nodes pods services"),
            rule("update", "core", "services/finalizers"),
            rule("create delete get list update watch", "discovery.k8s.io", "endpointslices"),
            EVENTS,
        ],
    ),
    (
        "endpointslicemirroring-controller",
        &[
            rule(READ, "core", "endpoints services"),
            rule("update", "core", "endpoints/finalizers services/finalizers"),
            rule("create delete get list update watch", "discovery.k8s.io", "endpointslices"),
            EVENTS,
        ],
    ),
    (
        "ephemeral-volume-controller",
        &[
            rule(READ, "core", "pods"),
            rule("update", "core", "pods/finalizers"),
            rule(READ_CREATE, "core", "persistentvolumeclaims"),
            EVENTS,
        ],
    ),
    (
        "expand-controller",
        &[
            rule("get list patch update watch", "core", "persistentvolumes"),
            rule("patch update", "core", "persistentvolumeclaims/status"),
            rule(READ, "core", "persistentvolumeclaims"),
            EVENTS,
        ],
    ),
    ("generic-garbage-collector", &[rule("delete get list patch update watch", "*", "*"), EVENTS]),
    (
        "horizontal-pod-autoscaler",
        &[
            rule(READ, "autoscaling", "horizontalpodautoscalers"),
            rule("update", "autoscaling", "horizontalpodautoscalers/status"),
            rule("get update", "*", "*/scale"),
            rule("list watch", "core metrics.k8s.io", "pods"),
            rule(READ, "custom.metrics.k8s.io external.metrics.k8s.io", "*"),
            EVENTS,
        ],
    ),
    (
        "job-controller",
        &[
            rule("get list patch update watch", "batch", "jobs"),
            rule("update", "batch", "jobs/finalizers jobs/status"),
            PODS,
            EVENTS,
        ],
    ),
    (
        "kube-apiserver-serving-clustertrustbundle-publisher",
        &[
            named(
                "kubernetes.io/kube-apiserver-serving",
                rule("attest", "certificates.k8s.io", "signers"),
            ),
            rule("create delete list update watch", "certificates.k8s.io", "clustertrustbundles"),
            EVENTS,
        ],
    ),
    (
        "legacy-service-account-token-cleaner",
        &[
            named(
                "kube-apiserver-legacy-service-account-token-tracking",
                rule("get", "core", "configmaps"),
            ),
            rule("delete patch", "core", "secrets"),
        ],
    ),
    (
        "namespace-controller",
        &[
            rule(READ_DELETE, "core", "namespaces"),
            rule("update", "core", "namespaces/finalize namespaces/status"),
            rule("delete deletecollection get list watch", "*", "*"),
        ],
    ),
    (
        "node-controller",
        &[
            rule("delete get list patch update watch", "core", "nodes"),
            rule("patch update", "core", "nodes/status pods/status"),
            rule(READ_DELETE, "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "persistent-volume-binder",
        &[
            rule("create delete get list update watch", "core", "persistentvolumes"),
            rule("update", "core", "persistentvolumeclaims/status persistentvolumes/status"),
            rule(READ_UPDATE, "core", "persistentvolumeclaims"),
            rule("create delete get list watch", "core", "pods"),
            rule(READ, "storage.k8s.io", "storageclasses"),
            rule("list watch", "core", "nodes"),
            EVENTS,
            rule("watch", "core", "events"),
        ],
    ),
    (
        "pod-garbage-collector",
        &[
            rule("delete list watch", "core", "pods"),
            rule(READ, "core", "nodes"),
            rule("patch", "core", "pods/status"),
        ],
    ),
    (
        "podcertificaterequestcleaner",
        &[rule(READ_DELETE, "certificates.k8s.io", "podcertificaterequests")],
    ),
    ("pv-protection-controller", &[rule(READ_UPDATE, "core", "persistentvolumes"), EVENTS]),
    (
        "pvc-protection-controller",
        &[
            rule(READ_UPDATE, "core", "persistentvolumeclaims"),
            rule("update", "core", "persistentvolumeclaims/status"),
            rule(READ, "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "replicaset-controller",
        &[
            rule(READ_UPDATE, "apps extensions", "replicasets"),
            rule("update", "apps extensions", "replicasets/finalizers replicasets/status"),
            PODS,
            EVENTS,
        ],
    ),
    (
        "replication-controller",
        &[
            rule(READ_UPDATE, "core", "replicationcontrollers"),
            rule(
                "update",
                "core",
                "replicationcontrollers/finalizers replicationcontrollers/status",
            ),
            PODS,
            EVENTS,
        ],
    ),
    (
        "resource-claim-controller",
        &[
            rule(READ, "core", "pods"),
            rule("update", "core", "pods/finalizers"),
            rule(MANAGE, "resource.k8s.io", "resourceclaims"),
            rule("patch update", "resource.k8s.io", "resourceclaims/binding resourceclaims/status"),
            rule("patch update", "core", "pods/status"),
            EVENTS,
        ],
    ),
    (
        "resourcequota-controller",
        &[rule("list watch", "*", "*"), rule("update", "core", "resourcequotas/status"), EVENTS],
    ),
    ("root-ca-cert-publisher", &[rule("create update", "core", "configmaps"), EVENTS]),
    (
        "route-controller",
        &[rule("list watch", "core", "nodes"), rule("patch", "core", "nodes/status"), EVENTS],
    ),
    (
        "selinux-warning-controller",
        &[
            EVENTS,
            rule(READ, "core", "persistentvolumeclaims persistentvolumes pods"),
            rule(READ, "storage.k8s.io", "csidrivers"),
        ],
    ),
    ("service-account-controller", &[rule("create", "core", "serviceaccounts"), EVENTS]),
    (
        "service-cidrs-controller",
        &[
            rule("get list patch update watch", "networking.k8s.io", "servicecidrs"),
            rule(
                "patch update",
                "networking.k8s.io",
                "servicecidrs/finalizers servicecidrs/status",
            ),
            rule(READ, "networking.k8s.io", "ipaddresses"),
            EVENTS,
        ],
    ),
    (
        "service-controller",
        &[
            rule(READ, "core", "services"),
            rule("patch update", "core", "services/status"),
            rule("list watch", "core", "nodes"),
            EVENTS,
        ],
    ),
    (
        "statefulset-controller",
        &[
            rule(READ, "apps", "statefulsets"),
            rule("update", "apps", "statefulsets/finalizers statefulsets/status"),
            rule(MANAGE, "core", "pods"),
            REVISIONS,
            rule("create delete get list update watch", "core", "persistentvolumeclaims"),
            rule("update", "core", "pods/finalizers"),
            EVENTS,
        ],
    ),
    (
        "storage-version-migrator-controller",
        &[
            rule("create list patch watch", "*", "*"),
            rule("update", "storagemigration.k8s.io", "storageversionmigrations/status"),
        ],
    ),
    ("ttl-after-finished-controller", &[rule(READ_DELETE, "batch", "jobs"), EVENTS]),
    ("ttl-controller", &[rule("list patch update watch", "core", "nodes"), EVENTS]),
    (
        "validatingadmissionpolicy-status-controller",
        &[
            rule(READ, "admissionregistration.k8s.io", "validatingadmissionpolicies"),
            rule(
                "get patch update",
                "admissionregistration.k8s.io",
                "validatingadmissionpolicies/status",
            ),
            EVENTS,
        ],
    ),
    (
        "volumeattributesclass-protection-controller",
        &[
            rule(READ, "core", "persistentvolumeclaims persistentvolumes"),
            rule(READ_UPDATE, "storage.k8s.io", "volumeattributesclasses"),
            EVENTS,
        ],
    ),
];
