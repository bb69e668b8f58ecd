//! Nodes.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

/// Checks a Node.
pub fn node(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Path::Root.field("spec");
    let taints = spec.field("taints");
    let mut seen = BTreeSet::new();
    for (i, taint) in object::list(object, "spec.taints").iter().enumerate() {
        let at = taints.index(i);
        let (key, value) = (object::text(taint, "key"), object::text(taint, "value"));
        let effect = object::text(taint, "effect");
        for wrong in names::qualified_name(key) {
            errors.push(FieldError::invalid(at.field("key"), key, wrong));
        }
        for wrong in names::label_value(value) {
            errors.push(FieldError::invalid(at.field("value"), value, wrong));
        }
        errors.extend(super::one_of(
            taint,
            "effect",
            &at,
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        ));
        if !seen.insert((key, effect)) {
            let mut error = FieldError::duplicate(at, taint.clone());
            "taints must be unique by key and effect pair".clone_into(&mut error.detail);
            errors.push(error);
        }
    }
    let cidrs = object::list(object, "spec.podCIDRs");
    let cidrs_path = spec.field("podCIDRs");
    for (i, cidr) in cidrs.iter().filter_map(Value::as_str).enumerate() {
        let valid = cidr.split_once('/').is_some_and(|(address, bits)| {
            let max = match address.parse::<std::net::IpAddr>() {
                Ok(std::net::IpAddr::V4(_)) => 32,
                Ok(std::net::IpAddr::V6(_)) => 128,
                Err(_) => return false,
            };
            bits.parse::<u8>().is_ok_and(|it| it <= max)
        });
        if !valid {
            errors.push(FieldError::invalid(
                cidrs_path.index(i),
                cidr,
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ));
        }
    }
    errors
}

/// Checks a changed Node: what was allocated to it stays.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Path::Root.field("spec");
    if object::get(old, "spec.podCIDRs").is_some()
        && object::list(old, "spec.podCIDRs") != object::list(new, "spec.podCIDRs")
    {
        errors.push(FieldError::forbidden(
            spec.field("podCIDRs"),
            "node updates may not change podCIDR except from \"\" to valid",
        ));
    }
    let provider = object::text(old, "spec.providerID");
    if !provider.is_empty() && provider != object::text(new, "spec.providerID") {
        errors.push(FieldError::forbidden(
            spec.field("providerID"),
            "node updates may not change providerID except from \"\" to valid",
        ));
    }
    errors
}
