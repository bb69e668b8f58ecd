//! Columns of `apiregistration.k8s.io`.

use super::{AGE, Column, NAME, computed};
use crate::table::storage;

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "apiservices" => Some(API_SERVICES),
        _ => None,
    }
}

const API_SERVICES: &[Column] = &[
    NAME,
    computed("Service", storage::api_service, "Which service serves the group."),
    computed("Available", storage::api_service_available, "Whether it answers."),
    AGE,
];
