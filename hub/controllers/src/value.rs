//! Reading and changing JSON objects by path.

use jiff::Timestamp;
use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// The value at `path`, or null.
pub fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, key| value.get(key).unwrap_or(&NULL))
}

/// The string at `path`, or "" as Kubernetes reads an absent string.
pub fn str_at<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).as_str().unwrap_or_default()
}

/// The integer at `path`, or 0.
pub fn int_at(value: &Value, path: &[&str]) -> i64 {
    at(value, path).as_i64().unwrap_or_default()
}

/// The integer at `path`, if there is one.
pub fn maybe_int_at(value: &Value, path: &[&str]) -> Option<i64> {
    at(value, path).as_i64()
}

pub fn bool_at(value: &Value, path: &[&str]) -> bool {
    at(value, path).as_bool().unwrap_or_default()
}

/// The list at `path`, or an empty one.
pub fn list_at<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path).as_array().map_or(&[], Vec::as_slice)
}

/// The time at `path`, with or without fractions of a second.
pub fn time_at(value: &Value, path: &[&str]) -> Option<Timestamp> {
    at(value, path).as_str().and_then(|text| text.parse().ok())
}

/// Whether null, or a list, map or string with nothing in it.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Sets the value at `path`, making the objects on the way.
pub fn set(value: &mut Value, path: &[&str], new: Value) {
    let Some((last, parents)) = path.split_last() else {
        *value = new;
        return;
    };
    let mut place = value;
    for key in parents {
        place = object_mut(place).entry(*key).or_insert_with(|| Value::Object(Map::new()));
    }
    object_mut(place).insert((*last).to_owned(), new);
}

/// The fields of an object; anything else becomes an object first.
pub fn object_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            unreachable!("the value was made an object just above")
        }
    }
}

/// The JSON merge patch that turns `old` into `new`, if they differ.
pub fn merge_diff(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        if let Some(change) = merge_diff(old.get(key).unwrap_or(&NULL), value) {
            patch.insert(key.clone(), change);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Kubernetes' text form of a time, in whole seconds.
pub fn time_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Kubernetes' text form of a precise time, with six digits.
pub fn micro_time_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_diff_names_what_changed_and_nulls_what_left() {
        let check = |old: Value, new: Value, expect: Option<Value>| {
            assert_eq!(merge_diff(&old, &new), expect, "{old} -> {new}");
        };
        check(json!({"a": 1}), json!({"a": 1}), None);
        check(json!({"a": 1, "b": 2}), json!({"a": 1}), Some(json!({"b": null})));
        check(
            json!({"a": {"x": 1, "y": 1}}),
            json!({"a": {"x": 2, "y": 1}}),
            Some(json!({"a": {"x": 2}})),
        );
        check(json!({"a": [1]}), json!({"a": [2]}), Some(json!({"a": [2]})));
        check(Value::Null, json!({"a": 1}), Some(json!({"a": 1})));
    }

    #[test]
    fn times_read_back() {
        let time: Timestamp = "2026-11-20T08:00:00.123456Z".parse().unwrap();
        assert_eq!(time_text(time), "2026-11-20T08:00:00Z");
        assert_eq!(micro_time_text(time), "2026-11-20T08:00:00.123456Z");
    }
}
