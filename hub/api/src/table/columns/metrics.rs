//! Columns of `metrics.k8s.io`, as metrics-server has them.

use super::{Column, NAME, computed, text};
use crate::table::usage;

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "nodes" | "pods" => Some(USAGE),
        _ => None,
    }
}

const USAGE: &[Column] = &[
    NAME,
    computed("cpu", usage::cpu, "CPU time per time.").in_format("quantity"),
    computed("memory", usage::memory, "Memory that cannot be dropped.").in_format("quantity"),
    text("Window", "/window", "Time over which it was measured.").in_format("duration"),
];
