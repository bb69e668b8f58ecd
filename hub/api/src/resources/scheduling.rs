//! Resources of `scheduling.k8s.io`.

use super::{CORE, Row};
use crate::strategy;

pub(super) static ROWS: &[Row] = &[Row {
    plural: "priorityclasses",
    singular: "priorityclass",
    kind: "PriorityClass",
    short_names: &["pc"],
    namespaced: false,
    schema: "io.k8s.api.scheduling.v1.PriorityClass",
    strategy: &strategy::scheduling::PRIORITY_CLASS,
    ..GROUP
}];

/// What the rows of the group share.
const GROUP: Row = Row { group: "scheduling.k8s.io", ..CORE };
