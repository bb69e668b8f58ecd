//! Defaults of the kinds of `resource.k8s.io`.

use serde_json::Value;

use crate::object;

/// Fills in a ResourceClaim.
pub fn claim(object: &mut Value) {
    spec(object.get_mut("spec"));
}

/// Fills in a ResourceClaimTemplate.
pub fn claim_template(object: &mut Value) {
    spec(object.pointer_mut("/spec/spec"));
}

fn spec(spec: Option<&mut Value>) {
    let Some(devices) = spec.and_then(|it| it.get_mut("devices")) else { return };
    for request in object::items_mut(devices, "requests") {
        if let Some(exactly) = request.get_mut("exactly") {
            wanted(exactly);
        }
        object::items_mut(request, "firstAvailable").iter_mut().for_each(wanted);
    }
}

fn wanted(wanted: &mut Value) {
    let map = object::as_map(wanted);
    object::default_text(map, "allocationMode", "ExactCount");
    let count = map.get("count").and_then(Value::as_i64).unwrap_or(0);
    if map["allocationMode"] == "ExactCount" && count == 0 {
        map.insert("count".to_owned(), 1.into());
    }
    for toleration in object::items_mut(wanted, "tolerations") {
        object::default_text(object::as_map(toleration), "operator", "Equal");
    }
}
