//! Resources of `metrics.k8s.io`: what nodes and pods use. They are measured when they are asked
//! for and never stored; the names are those of metrics-server.

use super::{CORE, Row};

/// The group of these resources.
pub const NAME: &str = "metrics.k8s.io";

pub(super) static ROWS: &[Row] = &[
    Row {
        plural: "nodes",
        kind: "NodeMetrics",
        namespaced: false,
        schema: "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics",
        ..GROUP
    },
    Row {
        plural: "pods",
        kind: "PodMetrics",
        schema: "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics",
        ..GROUP
    },
];

/// What the rows of the group share. Clients make the singular names of the kinds: `podmetrics`.
const GROUP: Row = Row { group: NAME, version: "v1beta1", verbs: &["get", "list"], ..CORE };
