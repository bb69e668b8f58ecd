//! Volumes, claims and classes.

use serde_json::Value;

use super::cells::{UNKNOWN, condition, list, plain, text};

pub(super) fn phase(object: &Value) -> Value {
    let phase = if object["metadata"]["deletionTimestamp"].is_null() {
        text(object, "/status/phase")
    } else {
        "Terminating"
    };
    phase.into()
}

pub(super) fn claim_capacity(claim: &Value) -> Value {
    bound(claim)
        .then(|| claim.pointer("/status/capacity/storage"))
        .flatten()
        .map_or_else(String::new, plain)
        .into()
}

pub(super) fn claim_access_modes(claim: &Value) -> Value {
    if bound(claim) { access_modes(list(claim, "/status/accessModes")) } else { "".into() }
}

pub(super) fn volume_access_modes(volume: &Value) -> Value {
    access_modes(list(volume, "/spec/accessModes"))
}

pub(super) fn volume_claim(volume: &Value) -> Value {
    let claim = &volume["spec"]["claimRef"];
    if claim.is_null() {
        return "".into();
    }
    format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")).into()
}

pub(super) fn class_name(class: &Value) -> Value {
    let name = text(class, "/metadata/name");
    let annotations = &class["metadata"]["annotations"];
    if annotations["storageclass.kubernetes.io/is-default-class"] == "true" {
        return format!("{name} (default)").into();
    }
    name.into()
}

pub(super) fn driver_modes(driver: &Value) -> Value {
    let modes: Vec<String> = list(driver, "/spec/volumeLifecycleModes").iter().map(plain).collect();
    if modes.is_empty() { "<none>".into() } else { modes.join(",").into() }
}

pub(super) fn api_service(service: &Value) -> Value {
    match service.pointer("/spec/service").filter(|it| !it.is_null()) {
        Some(it) => format!("{}/{}", text(it, "/namespace"), text(it, "/name")).into(),
        None => "Local".into(),
    }
}

pub(super) fn api_service_available(service: &Value) -> Value {
    match condition(service, "Available") {
        Some(it) if it["status"] == "True" => "True".into(),
        Some(it) => format!("{} ({})", text(it, "/status"), text(it, "/reason")).into(),
        None => UNKNOWN.into(),
    }
}

pub(super) fn request_condition(request: &Value) -> Value {
    let has = |it: &&&str| condition(request, it).is_some();
    let mut found: Vec<&str> =
        ["Approved", "Denied", "Failed"].iter().filter(has).copied().collect();
    if found.is_empty() {
        found.push("Pending");
    }
    if !text(request, "/status/certificate").is_empty() {
        found.push("Issued");
    }
    found.join(",").into()
}

/// Whether the priority level of a FlowSchema is missing, as far as that is known.
pub(super) fn missing_level(schema: &Value) -> Value {
    condition(schema, "Dangling").map_or_else(|| "?".into(), |it| it["status"].clone())
}

/// How far a claim for devices is.
pub(super) fn device_claim_state(claim: &Value) -> Value {
    let deleted = claim.pointer("/metadata/deletionTimestamp").is_some();
    let allocated = claim.pointer("/status/allocation").is_some_and(|it| !it.is_null());
    let reserved = claim.pointer("/status/reservedFor").and_then(Value::as_array);
    let reserved = reserved.is_some_and(|it| !it.is_empty());
    let states = [
        (deleted, "deleted"),
        (!deleted && !allocated, "pending"),
        (allocated, "allocated"),
        (allocated && reserved, "reserved"),
        (allocated && !reserved && deleted, "deallocating"),
    ];
    let shown = states.into_iter().filter(|(holds, _)| *holds).map(|(_, state)| state);
    shown.collect::<Vec<_>>().join(",").into()
}

fn bound(claim: &Value) -> bool {
    !text(claim, "/spec/volumeName").is_empty()
}

fn access_modes(modes: &[Value]) -> Value {
    let short = |mode: &Value| match mode.as_str()? {
        "ReadOnlyMany" => Some("ROX"),
        "ReadWriteMany" => Some("RWX"),
        "ReadWriteOnce" => Some("RWO"),
        "ReadWriteOncePod" => Some("RWOP"),
        _ => None,
    };
    modes.iter().filter_map(short).collect::<Vec<_>>().join(",").into()
}
