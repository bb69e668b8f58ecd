//! Columns of `coordination.k8s.io`.

use super::{AGE, Column, NAME, text};

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "leases" => Some(LEASES),
        _ => None,
    }
}

const LEASES: &[Column] =
    &[NAME, text("Holder", "/spec/holderIdentity", "Who holds the lease."), AGE];
