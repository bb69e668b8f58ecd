//! Columns of `policy`.

use super::{AGE, Column, NAME, integer, text};

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "poddisruptionbudgets" => Some(POD_DISRUPTION_BUDGETS),
        _ => None,
    }
}

const POD_DISRUPTION_BUDGETS: &[Column] = &[
    NAME,
    text("Min Available", "/spec/minAvailable", "How many pods must stay.").or("N/A"),
    text("Max Unavailable", "/spec/maxUnavailable", "How many pods may be away.").or("N/A"),
    integer("Allowed Disruptions", "/status/disruptionsAllowed", "How many pods may go now."),
    AGE,
];
