//! Columns of `autoscaling`.

use super::{AGE, Column, NAME, computed, integer};
use crate::table::workload;

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "horizontalpodautoscalers" => Some(HORIZONTAL_POD_AUTOSCALERS),
        _ => None,
    }
}

const HORIZONTAL_POD_AUTOSCALERS: &[Column] = &[
    NAME,
    computed("Reference", workload::autoscaler_reference, "What is scaled."),
    computed("Targets", workload::autoscaler_targets, "Observed and desired metrics."),
    computed("MinPods", workload::autoscaler_min, "Least number of pods."),
    integer("MaxPods", "/spec/maxReplicas", "Greatest number of pods.").of_type("string"),
    integer("Replicas", "/status/currentReplicas", "How many pods there are.").of_type("string"),
    AGE,
];
