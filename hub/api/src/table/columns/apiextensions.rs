//! Columns of `apiextensions.k8s.io`.

use super::{Column, NAME, text};

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "customresourcedefinitions" => Some(DEFINITIONS),
        _ => None,
    }
}

const DEFINITIONS: &[Column] = &[
    NAME,
    text("Created At", "/metadata/creationTimestamp", "When the definition was made.")
        .of_type("date"),
];
