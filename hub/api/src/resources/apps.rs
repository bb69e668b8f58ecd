//! Resources of `apps`.

use super::{ALL, CORE, Row, SCALE, status};
use crate::resource::FieldLabel;
use crate::strategy;

pub(super) static ROWS: &[Row] = &[
    Row {
        plural: "deployments",
        singular: "deployment",
        kind: "Deployment",
        short_names: &["deploy"],
        categories: ALL,
        subresources: &[SCALE, status("apps", "v1", "Deployment")],
        schema: "io.k8s.api.apps.v1.Deployment",
        strategy: &strategy::apps::Deployment,
        ..GROUP
    },
    Row {
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
        strategy: &strategy::apps::ReplicaSet,
        ..GROUP
    },
];

/// What the rows of the group share.
const GROUP: Row = Row { group: "apps", ..CORE };
