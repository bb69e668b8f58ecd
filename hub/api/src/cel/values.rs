//! Values between JSON and CEL.

use std::sync::Arc;

use kube_cel::cel::Value;
use kube_cel::cel::objects::{Key, OptionalValue};
use serde_json::{Map, Number};

/// A JSON value as CEL sees it without a schema: whole numbers are integers.
pub fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(it) => Value::Bool(*it),
        serde_json::Value::Number(it) => number(it),
        serde_json::Value::String(it) => text(it),
        serde_json::Value::Array(items) => Value::List(Arc::new(items.iter().map(value).collect())),
        serde_json::Value::Object(map) => {
            Value::Map(fields(map.iter().map(|(key, it)| (key.clone(), value(it)))))
        }
    }
}

/// A value that may be absent, as in `oldSelf.hasValue()`.
pub fn optional(value: Option<Value>) -> Value {
    Value::Opaque(Arc::new(match value {
        Some(value) => OptionalValue::of(value),
        None => OptionalValue::none(),
    }))
}

/// A CEL value as JSON; what has no form there is its text.
#[expect(clippy::wildcard_enum_match_arm, reason = "what has no form in JSON is one case")]
pub fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(it) => (*it).into(),
        Value::Int(it) => (*it).into(),
        Value::UInt(it) => (*it).into(),
        Value::Float(it) => (*it).into(),
        Value::String(it) => it.as_str().into(),
        Value::Bytes(it) => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(it.as_slice()).into()
        }
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(map) => {
            let entries = map.map.iter().map(|(key, it)| (key_text(key), json(it)));
            serde_json::Value::Object(entries.collect::<Map<_, _>>())
        }
        other => format!("{other:?}").into(),
    }
}

/// A map of names to values.
pub fn map(entries: impl Iterator<Item = (String, Value)>) -> Value {
    Value::Map(fields(entries))
}

fn text(it: &str) -> Value {
    Value::String(Arc::new(it.to_owned()))
}

fn number(it: &Number) -> Value {
    match (it.as_i64(), it.as_u64()) {
        (Some(whole), _) => Value::Int(whole),
        (None, Some(whole)) => Value::UInt(whole),
        (None, None) => Value::Float(it.as_f64().unwrap_or_default()),
    }
}

fn fields(entries: impl Iterator<Item = (String, Value)>) -> kube_cel::cel::objects::Map {
    let map = entries.map(|(key, value)| (Key::String(Arc::new(key)), value)).collect();
    kube_cel::cel::objects::Map { map: Arc::new(map) }
}

fn key_text(key: &Key) -> String {
    match key {
        Key::Int(it) => it.to_string(),
        Key::Uint(it) => it.to_string(),
        Key::Bool(it) => it.to_string(),
        Key::String(it) => it.to_string(),
    }
}

/// How much there is to look at in a value.
pub(super) fn weight(json: &serde_json::Value) -> u64 {
    match json {
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => 1,
        serde_json::Value::String(it) => 1 + u64::try_from(it.len() / 64).unwrap_or(u64::MAX),
        serde_json::Value::Array(items) => 1 + items.iter().map(weight).sum::<u64>(),
        serde_json::Value::Object(map) => {
            let below = map.iter().map(|(key, it)| {
                1 + u64::try_from(key.len() / 64).unwrap_or(u64::MAX) + weight(it)
            });
            1 + below.sum::<u64>()
        }
    }
}
