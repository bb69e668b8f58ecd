//! IPAddresses and ServiceCIDRs.

use std::net::IpAddr;

use serde_json::Value;

use super::{IMMUTABLE, fields, immutable};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

/// Checks the name of an IPAddress: the address itself, written as everybody writes it.
pub fn address_name(name: &str) -> Vec<String> {
    match name.parse::<IpAddr>() {
        Ok(address) if address.to_string() == name => Vec::new(),
        Ok(_) => vec!["must be a canonical format IP address".to_owned()],
        Err(_) => vec![format!("ParseAddr({name:?}): unable to parse IP")],
    }
}

/// Checks an IPAddress.
pub fn ip_address(object: &Value) -> Vec<FieldError> {
    let spec = Path::Root.field("spec");
    let at = spec.field("parentRef");
    let Some(parent) = object::get(object, "spec.parentRef") else {
        return vec![FieldError::required(at, "")];
    };
    // The core group is the empty one.
    let mut errors = fields::optional_name(parent, "group", &at, names::dns1123_subdomain);
    errors.extend(fields::required_name(parent, "resource", &at, names::path_segment));
    errors.extend(fields::required_name(parent, "name", &at, names::path_segment));
    errors.extend(fields::optional_name(parent, "namespace", &at, names::path_segment));
    errors
}

/// Checks a changed IPAddress: whose it is stays.
pub fn ip_address_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let parent = |it| object::get(it, "spec.parentRef");
    let spec = Path::Root.field("spec");
    immutable(parent(new), parent(old), &spec.field("parentRef")).into_iter().collect()
}

/// Checks a ServiceCIDR.
pub fn service_cidr(object: &Value) -> Vec<FieldError> {
    let spec = Path::Root.field("spec");
    let at = spec.field("cidrs");
    let ranges = object::list(object, "spec.cidrs");
    if ranges.is_empty() {
        return vec![FieldError::required(at, "at least one CIDR required")];
    }
    if ranges.len() > 2 {
        let detail = "may only hold up to 2 values";
        return vec![FieldError::invalid(at, object["spec"].clone(), detail)];
    }
    let families: Vec<Option<bool>> =
        ranges.iter().map(|it| Some(fields::parse_cidr(it.as_str()?)?.0.is_ipv4())).collect();
    if let [a, b] = families.as_slice()
        && (a.is_none() || b.is_none() || a == b)
    {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96";
        return vec![FieldError::invalid(at, object["spec"].clone(), detail)];
    }
    let texts = ranges.iter().filter_map(Value::as_str).enumerate();
    texts.filter_map(|(i, text)| fields::cidr(text, &at.index(i))).collect()
}

/// Checks a changed ServiceCIDR: a second family may be added, nothing else changes.
pub fn service_cidr_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let spec = Path::Root.field("spec");
    let at = spec.field("cidrs");
    let (new, old) = (object::list(new, "spec.cidrs"), object::list(old, "spec.cidrs"));
    let grows = old.len() == 1 && new.len() == 2;
    if new.len() != old.len() && !grows {
        return vec![FieldError::invalid(at, new.to_vec(), IMMUTABLE)];
    }
    let pairs = new.iter().zip(old).enumerate();
    pairs
        .filter(|(_, (new, old))| new != old)
        .map(|(i, (new, _))| FieldError::invalid(at.index(i), new.clone(), IMMUTABLE))
        .collect()
}
