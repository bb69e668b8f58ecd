//! Checks of the kinds of `discovery.k8s.io`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::endpoints::{PROTOCOLS, special_address};
use super::{immutable, one_of};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 100;
const MAX_ADDRESSES: usize = 100;

/// Checks an EndpointSlice.
pub fn endpoint_slice(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(one_of(object, "addressType", &Path::Root, &["FQDN", "IPv4", "IPv6"]));
    let family = object::text(object, "addressType");
    let list = object::list(object, "endpoints");
    let path = Path::Root.field("endpoints");
    if list.len() > MAX_ENDPOINTS {
        errors.push(FieldError::too_many(path, list.len(), MAX_ENDPOINTS));
    }
    for (i, endpoint) in list.iter().enumerate() {
        errors.extend(slice_addresses(endpoint, family, &path.index(i)));
    }
    let ports = object::list(object, "ports");
    let path = Path::Root.field("ports");
    if ports.len() > MAX_PORTS {
        errors.push(FieldError::too_many(path, ports.len(), MAX_PORTS));
    }
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at = path.index(i);
        let name = object::text(port, "name");
        if !name.is_empty() {
            for wrong in names::dns1123_label(name) {
                errors.push(FieldError::invalid(at.field("name"), name, wrong));
            }
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(at.field("name"), name));
        }
        if let Some(number) = object::int(port, "port") {
            for wrong in names::port_number(number) {
                errors.push(FieldError::invalid(at.field("port"), number, wrong));
            }
        }
        errors.extend(one_of(port, "protocol", &at, PROTOCOLS));
    }
    errors
}

/// Checks a changed EndpointSlice.
pub fn endpoint_slice_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::Root.field("addressType");
    immutable(new.get("addressType"), old.get("addressType"), &path).into_iter().collect()
}

fn slice_addresses(endpoint: &Value, family: &str, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let addresses = object::list(endpoint, "addresses");
    let path = at.field("addresses");
    if addresses.is_empty() {
        errors.push(FieldError::required(path, "must contain at least 1 address"));
    } else if addresses.len() > MAX_ADDRESSES {
        errors.push(FieldError::too_many(path, addresses.len(), MAX_ADDRESSES));
    }
    for (j, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
        let item = path.index(j);
        match (family, address.parse::<std::net::IpAddr>()) {
            ("FQDN", _) => {
                for wrong in names::dns1123_subdomain(address) {
                    errors.push(FieldError::invalid(item, address, wrong));
                }
            }
            ("IPv4", Ok(std::net::IpAddr::V6(_))) => {
                errors.push(FieldError::invalid(item, address, "must be an IPv4 address"))
            }
            ("IPv6", Ok(std::net::IpAddr::V4(_))) => {
                errors.push(FieldError::invalid(item, address, "must be an IPv6 address"))
            }
            (_, Ok(_)) => errors.extend(special_address(address, &item)),
            (_, Err(_)) => errors.extend(super::ip(address, item)),
        }
    }
    let host = object::text(endpoint, "hostname");
    if !host.is_empty() {
        for wrong in names::dns1123_label(host) {
            errors.push(FieldError::invalid(at.field("hostname"), host, wrong));
        }
    }
    errors
}
