//! Reading JSON objects by path.

use serde_json::Value;

static NULL: Value = Value::Null;

pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, key| value.get(key).unwrap_or(&NULL))
}

pub(crate) fn str_at<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).as_str().unwrap_or_default()
}

pub(crate) fn list_at<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path).as_array().map_or(&[], Vec::as_slice)
}

/// The entries of a string map.
pub(crate) fn map_at(value: &Value, path: &[&str]) -> impl Iterator<Item = (String, String)> {
    let fields = at(value, path).as_object();
    let text = |(key, value): (&String, &Value)| (key.clone(), value.as_str().unwrap_or("").into());
    fields.into_iter().flatten().map(text).collect::<Vec<_>>().into_iter()
}

/// The strings of a list.
pub(crate) fn strings_at(value: &Value, path: &[&str]) -> Vec<String> {
    list_at(value, path).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
