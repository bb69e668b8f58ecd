//! Reading and setting fields of objects, where `null` is absent and absent is empty.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// The value at a dotted path; `null` is absent.
pub fn get<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut at = object;
    for part in path.split('.') {
        at = at.get(part)?;
    }
    if at.is_null() { None } else { Some(at) }
}

/// The string at a dotted path, empty if absent.
pub fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    get(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// The integer at a dotted path.
pub fn int(object: &Value, path: &str) -> Option<i64> {
    get(object, path).and_then(Value::as_i64)
}

/// The boolean at a dotted path, false if absent.
pub fn flag(object: &Value, path: &str) -> bool {
    get(object, path).and_then(Value::as_bool).unwrap_or(false)
}

/// The items of the list at a dotted path, none if absent.
pub fn list<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    get(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The entries of the map at a dotted path, none if absent.
pub fn entries<'a>(
    object: &'a Value,
    path: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    get(object, path).and_then(Value::as_object).into_iter().flatten()
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, "metadata.name")
}

/// `metadata.namespace`, empty if there is none.
pub fn namespace(object: &Value) -> &str {
    text(object, "metadata.namespace")
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    text(object, "metadata.uid")
}

/// `metadata.resourceVersion`.
pub fn resource_version(object: &Value) -> &str {
    text(object, "metadata.resourceVersion")
}

/// `metadata.labels`, or `null`.
pub fn labels(object: &Value) -> &Value {
    get(object, "metadata.labels").unwrap_or(&NULL)
}

/// One label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object).get(key)?.as_str()
}

/// One annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    get(object, "metadata.annotations")?.get(key)?.as_str()
}

/// A map of strings, such as labels, as a typed map.
pub fn string_map(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

/// Whether deletion was asked for.
pub fn is_terminating(object: &Value) -> bool {
    get(object, "metadata.deletionTimestamp").is_some()
}

/// The owner reference with `controller: true`.
pub fn controller_of(object: &Value) -> Option<&Value> {
    list(object, "metadata.ownerReferences").iter().find(|it| flag(it, "controller"))
}

/// The object at `key`, made if it is absent.
pub fn ensure<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    let map = as_map(object);
    as_map(map.entry(key.to_owned()).or_insert(Value::Null))
}

/// Turns a value into a map if it is none, and returns that.
pub fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            unreachable!("made an object above")
        }
    }
}

/// Sets a field unless it has a value.
pub fn default(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    let slot = map.entry(key.to_owned()).or_insert(Value::Null);
    if slot.is_null() {
        *slot = value.into();
    }
}

/// Sets a string field unless it has a value that is not empty.
pub fn default_text(map: &mut Map<String, Value>, key: &str, value: &str) {
    let slot = map.entry(key.to_owned()).or_insert(Value::Null);
    if slot.is_null() || slot.as_str() == Some("") {
        *slot = Value::from(value);
    }
}

/// Mutable items of the list at `key`.
pub fn items_mut<'a>(object: &'a mut Value, key: &str) -> &'a mut [Value] {
    object.get_mut(key).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// Removes fields that are `null`, at every depth below maps and lists.
pub fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(prune_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
