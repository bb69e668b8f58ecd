//! Defaults of configuration, namespaces, nodes, endpoints and events.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::pod;
use crate::object;

/// Fills in a Secret: its type, and `data` from `stringData`.
pub fn secret(object: &mut Value) {
    let map = object::as_map(object);
    object::default_text(map, "type", "Opaque");
    let Some(Value::Object(strings)) = map.remove("stringData") else {
        return;
    };
    if strings.is_empty() {
        return;
    }
    let data = object::as_map(map.entry("data").or_insert(Value::Null));
    for (key, text) in strings {
        let text = text.as_str().unwrap_or_default();
        data.insert(key, json!(STANDARD.encode(text)));
    }
}

/// Fills in a Namespace: the label that selectors of namespaces rely on.
pub fn namespace(object: &mut Value) {
    let name = object::name(object).to_owned();
    if name.is_empty() {
        return;
    }
    let metadata = object::ensure(object, "metadata");
    let labels = object::as_map(metadata.entry("labels").or_insert(Value::Null));
    labels.insert("kubernetes.io/metadata.name".to_owned(), json!(name));
}

/// Fills in a Node.
pub fn node(object: &mut Value) {
    let spec = object::ensure(object, "spec");
    mirror_first(spec, "podCIDR", "podCIDRs");
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        for key in ["capacity", "allocatable"] {
            if let Some(list) = status.get_mut(key) {
                pod::resource_list(list);
            }
        }
        if let Some(capacity) = status.get("capacity").cloned() {
            object::default(status, "allocatable", capacity);
        }
    }
}

/// Fills in Endpoints.
pub fn endpoints(object: &mut Value) {
    for subset in object::items_mut(object, "subsets") {
        for port in object::items_mut(subset, "ports") {
            object::default_text(object::as_map(port), "protocol", "TCP");
        }
    }
}

/// Fills in an Event.
pub fn event(object: &mut Value) {
    let map = object::as_map(object);
    object::default(map, "involvedObject", json!({}));
    object::default(map, "source", json!({}));
}

/// Fills in a LimitRange: what containers get follows from what they may have.
pub fn limit_range(object: &mut Value) {
    let Some(spec) = object.get_mut("spec") else { return };
    for limit in object::items_mut(spec, "limits") {
        for key in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            if let Some(list) = limit.get_mut(key) {
                pod::resource_list(list);
            }
        }
        if object::text(limit, "type") != "Container" {
            continue;
        }
        let list = |limit: &Value, key: &str| {
            limit.get(key).and_then(Value::as_object).cloned().unwrap_or_default()
        };
        let mut default = list(limit, "default");
        fill(&mut default, list(limit, "max"));
        let mut request = list(limit, "defaultRequest");
        fill(&mut request, default.clone());
        fill(&mut request, list(limit, "min"));
        for (key, list) in [("default", default), ("defaultRequest", request)] {
            if !list.is_empty() {
                object::as_map(limit).insert(key.to_owned(), list.into());
            }
        }
    }
}

/// Fills in a ResourceQuota.
pub fn resource_quota(object: &mut Value) {
    for (part, lists) in [("spec", &["hard"][..]), ("status", &["hard", "used"])] {
        for key in lists {
            if let Some(list) = object.get_mut(part).and_then(|it| it.get_mut(key)) {
                pod::resource_list(list);
            }
        }
    }
}

/// Fills in a PodTemplate.
pub fn pod_template(object: &mut Value) {
    if let Some(template) = object.get_mut("template") {
        pod::template(template);
    }
}

/// Fills in a ReplicationController: what is not said about labels follows from the pods.
pub fn replication_controller(object: &mut Value) {
    let labels = object::get(object, "spec.template.metadata.labels").cloned();
    let spec = object::ensure(object, "spec");
    object::default(spec, "replicas", 1);
    if let Some(template) = spec.get_mut("template") {
        pod::template(template);
    }
    let unselective = spec.get("selector").and_then(Value::as_object).is_none_or(Map::is_empty);
    if let Some(labels) = labels.clone().filter(|_| unselective) {
        spec.insert("selector".to_owned(), labels);
    }
    super::batch::labels_of_template(object, labels);
}

fn fill(list: &mut Map<String, Value>, from: Map<String, Value>) {
    for (key, value) in from {
        list.entry(key).or_insert(value);
    }
}

/// Keeps an old single field and its newer plural in step: the first item is the single one.
pub(crate) fn mirror_first(map: &mut Map<String, Value>, single: &str, plural: &str) {
    let first = map.get(plural).and_then(|it| it.get(0)).cloned();
    match (map.get(single).cloned().filter(|it| it != ""), first) {
        (Some(one), None) => {
            map.insert(plural.to_owned(), json!([one]));
        }
        (None, Some(first)) => {
            map.insert(single.to_owned(), first);
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
}
