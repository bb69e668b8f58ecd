//! Defaults of the kinds of `admissionregistration.k8s.io`.

use serde_json::{Map, Value, json};

use crate::object;

/// Fills in a configuration of webhooks.
pub fn webhooks(object: &mut Value, mutating: bool) {
    for webhook in object::items_mut(object, "webhooks") {
        let map = object::as_map(webhook);
        object::default(map, "failurePolicy", "Fail");
        selectors(map);
        object::default(map, "timeoutSeconds", 10);
        if mutating {
            object::default(map, "reinvocationPolicy", "Never");
        }
        if let Some(service) = map.get_mut("clientConfig").and_then(|it| it.get_mut("service")) {
            object::default(object::as_map(service), "port", 443);
        }
        for rule in object::items_mut(webhook, "rules") {
            object::default(object::as_map(rule), "scope", "*");
        }
    }
}

/// Fills in a policy.
pub fn policy(object: &mut Value) {
    let spec = object::ensure(object, "spec");
    object::default(spec, "failurePolicy", "Fail");
    if let Some(constraints) = spec.get_mut("matchConstraints").filter(|it| it.is_object()) {
        match_resources(constraints);
    }
}

/// Fills in the binding of a policy.
pub fn binding(object: &mut Value) {
    let spec = object::ensure(object, "spec");
    if let Some(resources) = spec.get_mut("matchResources").filter(|it| it.is_object()) {
        match_resources(resources);
    }
}

fn match_resources(resources: &mut Value) {
    selectors(object::as_map(resources));
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in object::items_mut(resources, list) {
            object::default(object::as_map(rule), "scope", "*");
        }
    }
}

fn selectors(map: &mut Map<String, Value>) {
    object::default(map, "matchPolicy", "Equivalent");
    object::default(map, "namespaceSelector", json!({}));
    object::default(map, "objectSelector", json!({}));
}
