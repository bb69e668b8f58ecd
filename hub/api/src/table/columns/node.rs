//! Columns of `node.k8s.io`.

use super::{AGE, Column, NAME, text};

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "runtimeclasses" => Some(RUNTIME_CLASSES),
        _ => None,
    }
}

const RUNTIME_CLASSES: &[Column] =
    &[NAME, text("Handler", "/handler", "Which runtime handles the pods."), AGE];
