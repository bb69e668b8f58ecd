//! Columns of `events.k8s.io`: events are the same objects in both groups.

use super::{Column, core};

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    core::of(plural)
}
