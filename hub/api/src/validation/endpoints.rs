//! Endpoints and EndpointSlices.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{immutable, one_of};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 100;
const MAX_ADDRESSES: usize = 100;

/// Checks Endpoints.
pub fn endpoints(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let subsets = Path::Root.field("subsets");
    for (i, subset) in object::list(object, "subsets").iter().enumerate() {
        let at = subsets.index(i);
        let ready = object::list(subset, "addresses");
        let not_ready = object::list(subset, "notReadyAddresses");
        if ready.is_empty() && not_ready.is_empty() {
            errors
                .push(FieldError::required(at, "must specify `addresses` or `notReadyAddresses`"));
        }
        for (field, addresses) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
            let list = at.field(field);
            for (j, address) in addresses.iter().enumerate() {
                let item = list.index(j);
                errors.extend(special_address(object::text(address, "ip"), &item.field("ip")));
            }
        }
        let ports = object::list(subset, "ports");
        let list = at.field("ports");
        for (j, port) in ports.iter().enumerate() {
            let item = list.index(j);
            let name = object::text(port, "name");
            if name.is_empty() && ports.len() > 1 {
                errors.push(FieldError::required(item.field("name"), ""));
            } else if !name.is_empty() {
                for wrong in names::dns1123_label(name) {
                    errors.push(FieldError::invalid(item.field("name"), name, wrong));
                }
            }
            let number = object::int(port, "port").unwrap_or(0);
            for wrong in names::port_number(number) {
                errors.push(FieldError::invalid(item.field("port"), number, wrong));
            }
            errors.extend(one_of(port, "protocol", &item, PROTOCOLS));
        }
    }
    errors
}

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

/// An endpoint must not point at the host itself: that would reach around every policy.
fn special_address(address: &str, path: &Path<'_>) -> Option<FieldError> {
    let Ok(ip) = address.parse::<std::net::IpAddr>() else {
        return super::ip(address, path);
    };
    let (local, multicast) = match ip {
        std::net::IpAddr::V4(it) => (it.is_link_local(), it.octets()[..3] == [224, 0, 0]),
        std::net::IpAddr::V6(it) => {
            (it.is_unicast_link_local(), it.is_multicast() && it.segments()[0] & 0xf == 2)
        }
    };
    let why = if ip.is_unspecified() {
        format!("may not be unspecified ({address})")
    } else if ip.is_loopback() {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()
    } else if local {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()
    } else if multicast {
        "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()
    } else {
        return None;
    };
    Some(FieldError::invalid(path, address, why))
}
