//! Resources of the core group.

use super::{ALL, CORE, Row, SCALE, WITHOUT_COLLECTION, boolean, count, field, status};
use crate::resource::{FieldLabel, Subresource};
use crate::strategy;

pub(super) static ROWS: &[Row] = &[
    Row {
        plural: "bindings",
        singular: "binding",
        kind: "Binding",
        verbs: &["create"],
        schema: "io.k8s.api.core.v1.Binding",
        ..CORE
    },
    Row {
        plural: "componentstatuses",
        singular: "componentstatus",
        kind: "ComponentStatus",
        short_names: &["cs"],
        namespaced: false,
        verbs: &["get", "list"],
        schema: "io.k8s.api.core.v1.ComponentStatus",
        ..CORE
    },
    Row {
        plural: "configmaps",
        singular: "configmap",
        kind: "ConfigMap",
        short_names: &["cm"],
        schema: "io.k8s.api.core.v1.ConfigMap",
        strategy: &strategy::core::CONFIG_MAP,
        ..CORE
    },
    Row {
        plural: "endpoints",
        singular: "endpoints",
        kind: "Endpoints",
        short_names: &["ep"],
        schema: "io.k8s.api.core.v1.Endpoints",
        strategy: &strategy::core::ENDPOINTS,
        ..CORE
    },
    Row {
        plural: "events",
        singular: "event",
        kind: "Event",
        short_names: &["ev"],
        schema: "io.k8s.api.core.v1.Event",
        field_labels: &[
            field("involvedObject.apiVersion"),
            field("involvedObject.fieldPath"),
            field("involvedObject.kind"),
            field("involvedObject.name"),
            field("involvedObject.namespace"),
            field("involvedObject.resourceVersion"),
            field("involvedObject.uid"),
            field("reason"),
            field("reportingComponent"),
            FieldLabel { label: "source", path: "source.component", absent: "" },
            field("type"),
        ],
        strategy: &strategy::core::EVENT,
        ..CORE
    },
    Row {
        plural: "limitranges",
        singular: "limitrange",
        kind: "LimitRange",
        short_names: &["limits"],
        schema: "io.k8s.api.core.v1.LimitRange",
        strategy: &strategy::core::LIMIT_RANGE,
        ..CORE
    },
    Row {
        plural: "namespaces",
        singular: "namespace",
        kind: "Namespace",
        short_names: &["ns"],
        namespaced: false,
        verbs: WITHOUT_COLLECTION,
        subresources: &[
            Subresource {
                name: "finalize",
                group: "",
                version: "v1",
                kind: "Namespace",
                verbs: &["update"],
            },
            status("", "v1", "Namespace"),
        ],
        field_labels: &[field("status.phase")],
        schema: "io.k8s.api.core.v1.Namespace",
        strategy: &strategy::core::NAMESPACE,
        ..CORE
    },
    Row {
        plural: "nodes",
        singular: "node",
        kind: "Node",
        short_names: &["no"],
        namespaced: false,
        subresources: &[proxy("NodeProxyOptions"), status("", "v1", "Node")],
        field_labels: &[boolean("spec.unschedulable")],
        schema: "io.k8s.api.core.v1.Node",
        strategy: &strategy::core::NODE,
        ..CORE
    },
    Row {
        plural: "persistentvolumeclaims",
        singular: "persistentvolumeclaim",
        kind: "PersistentVolumeClaim",
        short_names: &["pvc"],
        subresources: &[status("", "v1", "PersistentVolumeClaim")],
        schema: "io.k8s.api.core.v1.PersistentVolumeClaim",
        strategy: &strategy::volumes::PERSISTENT_VOLUME_CLAIM,
        ..CORE
    },
    Row {
        plural: "persistentvolumes",
        singular: "persistentvolume",
        kind: "PersistentVolume",
        short_names: &["pv"],
        namespaced: false,
        subresources: &[status("", "v1", "PersistentVolume")],
        schema: "io.k8s.api.core.v1.PersistentVolume",
        strategy: &strategy::volumes::PersistentVolume,
        ..CORE
    },
    Row {
        plural: "pods",
        singular: "pod",
        kind: "Pod",
        short_names: &["po"],
        categories: ALL,
        subresources: POD_SUBRESOURCES,
        field_labels: &[
            boolean("spec.hostNetwork"),
            field("spec.nodeName"),
            field("spec.restartPolicy"),
            field("spec.schedulerName"),
            field("spec.serviceAccountName"),
            field("status.nominatedNodeName"),
            field("status.phase"),
            field("status.podIP"),
        ],
        schema: "io.k8s.api.core.v1.Pod",
        strategy: &strategy::Pod,
        ..CORE
    },
    Row {
        plural: "podtemplates",
        singular: "podtemplate",
        kind: "PodTemplate",
        schema: "io.k8s.api.core.v1.PodTemplate",
        strategy: &strategy::core::POD_TEMPLATE,
        ..CORE
    },
    Row {
        plural: "replicationcontrollers",
        singular: "replicationcontroller",
        kind: "ReplicationController",
        short_names: &["rc"],
        categories: ALL,
        subresources: &[SCALE, status("", "v1", "ReplicationController")],
        field_labels: &[count("status.replicas")],
        schema: "io.k8s.api.core.v1.ReplicationController",
        strategy: &strategy::core::REPLICATION_CONTROLLER,
        ..CORE
    },
    Row {
        plural: "resourcequotas",
        singular: "resourcequota",
        kind: "ResourceQuota",
        short_names: &["quota"],
        subresources: &[status("", "v1", "ResourceQuota")],
        schema: "io.k8s.api.core.v1.ResourceQuota",
        strategy: &strategy::core::RESOURCE_QUOTA,
        ..CORE
    },
    Row {
        plural: "secrets",
        singular: "secret",
        kind: "Secret",
        field_labels: &[field("type")],
        schema: "io.k8s.api.core.v1.Secret",
        strategy: &strategy::core::SECRET,
        ..CORE
    },
    Row {
        plural: "serviceaccounts",
        singular: "serviceaccount",
        kind: "ServiceAccount",
        short_names: &["sa"],
        subresources: &[Subresource {
            name: "token",
            group: "authentication.k8s.io",
            version: "v1",
            kind: "TokenRequest",
            verbs: &["create"],
        }],
        schema: "io.k8s.api.core.v1.ServiceAccount",
        strategy: &strategy::core::SERVICE_ACCOUNT,
        ..CORE
    },
    Row {
        plural: "services",
        singular: "service",
        kind: "Service",
        short_names: &["svc"],
        categories: ALL,
        subresources: &[proxy("ServiceProxyOptions"), status("", "v1", "Service")],
        field_labels: &[field("spec.clusterIP"), field("spec.type")],
        schema: "io.k8s.api.core.v1.Service",
        strategy: &strategy::SERVICE,
        ..CORE
    },
];

const POD_SUBRESOURCES: &[Subresource] = &[
    pod("attach", "PodAttachOptions", &["create", "get"]),
    pod("binding", "Binding", &["create"]),
    pod("ephemeralcontainers", "Pod", &["get", "patch", "update"]),
    Subresource {
        name: "eviction",
        group: "policy",
        version: "v1",
        kind: "Eviction",
        verbs: &["create"],
    },
    pod("exec", "PodExecOptions", &["create", "get"]),
    pod("log", "Pod", &["get"]),
    pod("portforward", "PodPortForwardOptions", &["create", "get"]),
    proxy("PodProxyOptions"),
    pod("resize", "Pod", &["get", "patch", "update"]),
    status("", "v1", "Pod"),
];

const fn pod(
    name: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
) -> Subresource {
    Subresource { name, group: "", version: "v1", kind, verbs }
}

const fn proxy(kind: &'static str) -> Subresource {
    pod("proxy", kind, &["create", "delete", "get", "patch", "update"])
}
