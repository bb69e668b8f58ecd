//! Resources of `apps`.

use super::{ALL, CORE, Row, SCALE, count, status};
use crate::strategy;

pub(super) static ROWS: &[Row] = &[
    Row {
        plural: "controllerrevisions",
        singular: "controllerrevision",
        kind: "ControllerRevision",
        schema: "io.k8s.api.apps.v1.ControllerRevision",
        strategy: &strategy::apps::CONTROLLER_REVISION,
        ..GROUP
    },
    Row {
        plural: "daemonsets",
        singular: "daemonset",
        kind: "DaemonSet",
        short_names: &["ds"],
        categories: ALL,
        subresources: &[status("apps", "v1", "DaemonSet")],
        schema: "io.k8s.api.apps.v1.DaemonSet",
        strategy: &strategy::apps::DAEMON_SET,
        ..GROUP
    },
    Row {
        plural: "deployments",
        singular: "deployment",
        kind: "Deployment",
        short_names: &["deploy"],
        categories: ALL,
        subresources: &[SCALE, status("apps", "v1", "Deployment")],
        schema: "io.k8s.api.apps.v1.Deployment",
        strategy: &strategy::apps::DEPLOYMENT,
        ..GROUP
    },
    Row {
        plural: "replicasets",
        singular: "replicaset",
        kind: "ReplicaSet",
        short_names: &["rs"],
        categories: ALL,
        subresources: &[SCALE, status("apps", "v1", "ReplicaSet")],
        field_labels: &[count("status.replicas")],
        schema: "io.k8s.api.apps.v1.ReplicaSet",
        strategy: &strategy::apps::REPLICA_SET,
        ..GROUP
    },
    Row {
        plural: "statefulsets",
        singular: "statefulset",
        kind: "StatefulSet",
        short_names: &["sts"],
        categories: ALL,
        subresources: &[SCALE, status("apps", "v1", "StatefulSet")],
        schema: "io.k8s.api.apps.v1.StatefulSet",
        strategy: &strategy::apps::STATEFUL_SET,
        ..GROUP
    },
];

/// What the rows of the group share.
const GROUP: Row = Row { group: "apps", ..CORE };
