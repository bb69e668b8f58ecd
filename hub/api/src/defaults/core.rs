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
