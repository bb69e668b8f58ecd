//! Endpoints.

use serde_json::Value;

use super::one_of;
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

pub(super) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

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

/// An endpoint must not point at the host itself: that would reach around every policy.
pub(super) fn special_address(address: &str, path: &Path<'_>) -> Option<FieldError> {
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
