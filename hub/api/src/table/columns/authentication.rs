//! Columns of `authentication.k8s.io`.

use super::Column;

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(_plural: &str) -> Option<&'static [Column]> {
    None
}
