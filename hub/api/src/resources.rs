//! The table of built-in resources. A new one is one row here, and a strategy where it has rules.

use std::borrow::Cow;

use crate::resource::{FieldLabel, Resource, Subresource};
use crate::strategy::{self, Strategy};

/// All built-in resources, ordered by group and plural.
pub fn builtin() -> &'static [Resource] {
    &BUILTIN
}

/// Looks up a resource by what stands in paths.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    BUILTIN.iter().find(|it| it.plural == plural && it.group == group && it.version == version)
}

/// Looks up a resource by what stands in objects.
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    BUILTIN.iter().find(|it| it.kind == kind && it.group == group && it.version == version)
}

static BUILTIN: [Resource; 13] = [
    Row {
        plural: "configmaps",
        singular: "configmap",
        kind: "ConfigMap",
        short_names: &["cm"],
        schema: "io.k8s.api.core.v1.ConfigMap",
        strategy: &strategy::ConfigMap,
        ..CORE
    }
    .resource(),
    Row {
        plural: "endpoints",
        singular: "endpoints",
        kind: "Endpoints",
        short_names: &["ep"],
        schema: "io.k8s.api.core.v1.Endpoints",
        strategy: &strategy::Endpoints,
        ..CORE
    }
    .resource(),
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
        strategy: &strategy::Event,
        ..CORE
    }
    .resource(),
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
        strategy: &strategy::Namespace,
        ..CORE
    }
    .resource(),
    Row {
        plural: "nodes",
        singular: "node",
        kind: "Node",
        short_names: &["no"],
        namespaced: false,
        subresources: &[status("", "v1", "Node")],
        field_labels: &[boolean("spec.unschedulable")],
        schema: "io.k8s.api.core.v1.Node",
        strategy: &strategy::Node,
        ..CORE
    }
    .resource(),
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
    }
    .resource(),
    Row {
        plural: "secrets",
        singular: "secret",
        kind: "Secret",
        field_labels: &[field("type")],
        schema: "io.k8s.api.core.v1.Secret",
        strategy: &strategy::Secret,
        ..CORE
    }
    .resource(),
    Row {
        plural: "serviceaccounts",
        singular: "serviceaccount",
        kind: "ServiceAccount",
        short_names: &["sa"],
        schema: "io.k8s.api.core.v1.ServiceAccount",
        strategy: &strategy::ServiceAccount,
        ..CORE
    }
    .resource(),
    Row {
        plural: "services",
        singular: "service",
        kind: "Service",
        short_names: &["svc"],
        categories: ALL,
        subresources: &[status("", "v1", "Service")],
        field_labels: &[field("spec.clusterIP"), field("spec.type")],
        schema: "io.k8s.api.core.v1.Service",
        strategy: &strategy::Service,
        ..CORE
    }
    .resource(),
    Row {
        group: "apps",
        plural: "deployments",
        singular: "deployment",
        kind: "Deployment",
        short_names: &["deploy"],
        categories: ALL,
        subresources: &[SCALE, status("apps", "v1", "Deployment")],
        schema: "io.k8s.api.apps.v1.Deployment",
        strategy: &strategy::Deployment,
        ..CORE
    }
    .resource(),
    Row {
        group: "apps",
        plural: "replicasets",
        singular: "replicaset",
        kind: "ReplicaSet",
        short_names: &["rs"],
        categories: ALL,
        subresources: &[SCALE, status("apps", "v1", "ReplicaSet")],
        field_labels: &[FieldLabel {
            label: "status.replicas",
            path: "status.replicas",
            absent: "0",
        }],
        schema: "io.k8s.api.apps.v1.ReplicaSet",
        strategy: &strategy::ReplicaSet,
        ..CORE
    }
    .resource(),
    Row {
        group: "coordination.k8s.io",
        plural: "leases",
        singular: "lease",
        kind: "Lease",
        schema: "io.k8s.api.coordination.v1.Lease",
        strategy: &strategy::Lease,
        ..CORE
    }
    .resource(),
    Row {
        group: "discovery.k8s.io",
        plural: "endpointslices",
        singular: "endpointslice",
        kind: "EndpointSlice",
        schema: "io.k8s.api.discovery.v1.EndpointSlice",
        strategy: &strategy::EndpointSlice,
        ..CORE
    }
    .resource(),
];

const ALL: &[&str] = &["all"];
const WITHOUT_COLLECTION: &[&str] =
    &["create", "delete", "get", "list", "patch", "update", "watch"];
const EVERY_VERB: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

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
    status("", "v1", "Pod"),
];

const SCALE: Subresource = Subresource {
    name: "scale",
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    verbs: &["get", "patch", "update"],
};

const fn status(group: &'static str, version: &'static str, kind: &'static str) -> Subresource {
    Subresource { name: "status", group, version, kind, verbs: &["get", "patch", "update"] }
}

const fn pod(
    name: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
) -> Subresource {
    Subresource { name, group: "", version: "v1", kind, verbs }
}

const fn field(path: &'static str) -> FieldLabel {
    FieldLabel { label: path, path, absent: "" }
}

const fn boolean(path: &'static str) -> FieldLabel {
    FieldLabel { label: path, path, absent: "false" }
}

/// A row as it is written in the table: plain borrows, so that rows can share what they leave out.
#[derive(Clone, Copy)]
struct Row {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    namespaced: bool,
    verbs: &'static [&'static str],
    subresources: &'static [Subresource],
    schema: &'static str,
    field_labels: &'static [FieldLabel],
    strategy: &'static dyn Strategy,
}

/// What most rows share.
const CORE: Row = Row {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    verbs: EVERY_VERB,
    subresources: &[],
    schema: "",
    field_labels: &[],
    strategy: &strategy::Plain,
};

impl Row {
    const fn resource(self) -> Resource {
        Resource {
            group: Cow::Borrowed(self.group),
            version: Cow::Borrowed(self.version),
            kind: Cow::Borrowed(self.kind),
            plural: Cow::Borrowed(self.plural),
            singular: Cow::Borrowed(self.singular),
            short_names: Cow::Borrowed(self.short_names),
            categories: Cow::Borrowed(self.categories),
            namespaced: self.namespaced,
            verbs: Cow::Borrowed(self.verbs),
            subresources: Cow::Borrowed(self.subresources),
            schema: Cow::Borrowed(self.schema),
            field_labels: Cow::Borrowed(self.field_labels),
            strategy: self.strategy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_and_has_a_schema() {
        for row in builtin() {
            assert!(std::ptr::eq(find(&row.group, &row.version, &row.plural).unwrap(), row));
            assert!(std::ptr::eq(find_kind(&row.group, &row.version, &row.kind).unwrap(), row));
            assert!(crate::schema::lookup(&row.schema).is_some(), "{}", row.schema);
        }
        assert!(find("", "v1", "replicasets").is_none());
    }

    #[test]
    fn rows_are_ordered() {
        assert!(builtin().is_sorted_by_key(|it| (&it.group, &it.plural)));
    }
}
