//! Columns of `admissionregistration.k8s.io`.

use super::{AGE, Column, NAME, count};

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "mutatingwebhookconfigurations" | "validatingwebhookconfigurations" => Some(WEBHOOKS),
        _ => None,
    }
}

const WEBHOOKS: &[Column] =
    &[NAME, count("Webhooks", &["/webhooks"], "How many webhooks it has.").of_type("integer"), AGE];
