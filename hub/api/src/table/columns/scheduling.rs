//! Columns of `scheduling.k8s.io`.

use super::{AGE, Column, NAME, boolean, integer, text};

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "priorityclasses" => Some(PRIORITY_CLASSES),
        _ => None,
    }
}

const PRIORITY_CLASSES: &[Column] = &[
    NAME,
    integer("Value", "/value", "The priority."),
    boolean("Global-Default", "/globalDefault", "Whether pods without a class have it."),
    text("PreemptionPolicy", "/preemptionPolicy", "Whether its pods displace others."),
    AGE,
];
