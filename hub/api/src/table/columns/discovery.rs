//! Columns of `discovery.k8s.io`.

use super::{AGE, Column, NAME, computed, text};
use crate::table::network;

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "endpointslices" => Some(ENDPOINT_SLICES),
        _ => None,
    }
}

const ENDPOINT_SLICES: &[Column] = &[
    NAME,
    text("AddressType", "/addressType", "Kind of the addresses."),
    computed("Ports", network::slice_ports, "Ports of every endpoint."),
    computed("Endpoints", network::slice_endpoints, "Addresses of the endpoints."),
    AGE,
];
