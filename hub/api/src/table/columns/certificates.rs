//! Columns of `certificates.k8s.io`.

use super::{AGE, Column, NAME, computed, text};
use crate::table::storage;

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "certificatesigningrequests" => Some(CERTIFICATE_SIGNING_REQUESTS),
        _ => None,
    }
}

const CERTIFICATE_SIGNING_REQUESTS: &[Column] = &[
    NAME,
    AGE,
    text("SignerName", "/spec/signerName", "Who should sign."),
    text("Requestor", "/spec/username", "Who asks."),
    text("RequestedDuration", "/spec/expirationSeconds", "For how many seconds.").or("<none>"),
    computed("Condition", storage::request_condition, "How far the request is."),
];
