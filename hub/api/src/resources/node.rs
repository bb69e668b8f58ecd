//! Resources of `node.k8s.io`.

use super::{CORE, Row};
use crate::strategy;

pub(super) static ROWS: &[Row] = &[Row {
    plural: "runtimeclasses",
    singular: "runtimeclass",
    kind: "RuntimeClass",
    namespaced: false,
    schema: "io.k8s.api.node.v1.RuntimeClass",
    strategy: &strategy::node::RUNTIME_CLASS,
    ..GROUP
}];

/// What the rows of the group share.
const GROUP: Row = Row { group: "node.k8s.io", ..CORE };
