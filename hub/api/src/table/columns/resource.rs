//! Columns of `resource.k8s.io`.

use super::{AGE, Column, NAME, computed, text};
use crate::table::storage;

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "deviceclasses" | "devicetaintrules" | "resourceclaimtemplates" => Some(NAMES),
        "resourceclaims" => Some(CLAIMS),
        "resourceslices" => Some(SLICES),
        _ => None,
    }
}

const NAMES: &[Column] = &[NAME, AGE];

const CLAIMS: &[Column] =
    &[NAME, computed("State", storage::device_claim_state, "What was given, and to whom."), AGE];

const SLICES: &[Column] = &[
    NAME,
    text("Node", "/spec/nodeName", "Node that the devices are on."),
    text("Driver", "/spec/driver", "Driver that offers them."),
    text("Pool", "/spec/pool/name", "Pool that they belong to."),
    AGE,
];
