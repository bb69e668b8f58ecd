//! Request bodies in Kubernetes' protobuf: the magic `k8s\0`, then a `runtime.Unknown` around one
//! message.
//!
//! The tables are made from the `.proto` files and the Go structs, so that what comes out is the
//! JSON that Go would write of the same object: inlined structs are flat, empty values are left out
//! where Go's `omitempty` does, and what is optional stays as sent, even if zero. Fields that the
//! table does not know are skipped.

mod messages;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Number, Value};

use crate::status::Status;
use crate::{schema, time};
use messages::{Field, Shape, Type};
use wire::{Fields, Wire};

const MAGIC: &[u8] = b"k8s\0";
/// Deepest nesting that is followed; a JSON schema in a custom resource definition is the deepest
/// there is.
const MAX_DEPTH: usize = 100;

/// Why a body cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the body does not start with the k8s protobuf prefix")]
    Magic,
    #[error("unexpected end of message")]
    Truncated,
    #[error("number too long")]
    Overflow,
    #[error("illegal wire type {0}")]
    WireType(u8),
    #[error("field {0} has another wire type")]
    Mismatch(u32),
    #[error("text is not UTF-8")]
    Text,
    #[error("time is out of range")]
    Time,
    #[error("embedded JSON is malformed")]
    Json,
    #[error("nested too deeply")]
    Depth,
    #[error("content encoding {0:?} is not supported")]
    Encoding(String),
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    Kind { api_version: String, kind: String },
}

/// Decodes a body to the JSON object that it stands for. `expected` is the schema definition to
/// read it as when the body does not name a known kind.
pub fn decode(body: &[u8], expected: Option<&str>) -> Result<Value, Status> {
    envelope(body, expected, 0)
        .map_err(|err| Status::bad_request(format!("unable to decode the protobuf body: {err}")))
}

fn envelope(body: &[u8], expected: Option<&str>, depth: usize) -> Result<Value, DecodeError> {
    let unknown = body.strip_prefix(MAGIC).ok_or(DecodeError::Magic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields::new(unknown) {
        match field? {
            (1, Wire::Bytes(type_meta)) => {
                for field in Fields::new(type_meta) {
                    match field? {
                        (1, Wire::Bytes(it)) => api_version = text(it)?,
                        (2, Wire::Bytes(it)) => kind = text(it)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(it)) => raw = it,
            (3, Wire::Bytes(it)) if !it.is_empty() => return Err(DecodeError::Encoding(text(it)?)),
            _ => {}
        }
    }
    let definition = KINDS
        .get(&(api_version.as_str(), kind.as_str()))
        .copied()
        .or(expected)
        .filter(|it| messages::lookup(it).is_some());
    let Some(definition) = definition else {
        return Err(DecodeError::Kind { api_version, kind });
    };
    let mut object = message(definition, raw, depth + 1)?;
    if let Value::Object(fields) = &mut object {
        for (name, text) in [("apiVersion", api_version), ("kind", kind)] {
            if !text.is_empty() {
                fields.insert(name.to_owned(), text.into());
            }
        }
    }
    Ok(object)
}

/// Definitions by `(apiVersion, kind)`.
static KINDS: LazyLock<BTreeMap<(&str, &str), &str>> = LazyLock::new(|| {
    let mut kinds = BTreeMap::new();
    for (name, definition) in schema::definitions() {
        for (group, version, kind) in &definition.kinds {
            let api_version: &str =
                if group.is_empty() { version } else { String::leak(format!("{group}/{version}")) };
            kinds.insert((api_version, kind.as_str()), name.as_str());
        }
    }
    kinds
});

fn message(name: &str, bytes: &[u8], depth: usize) -> Result<Value, DecodeError> {
    if depth > MAX_DEPTH {
        return Err(DecodeError::Depth);
    }
    if let Some(value) = special(name, bytes, depth)? {
        return Ok(value);
    }
    let mut object = Map::new();
    let Some(fields) = messages::lookup(name) else { return Ok(object.into()) };
    for entry in Fields::new(bytes) {
        let (number, wire) = entry?;
        let Some(field) = fields.get(&number) else { continue };
        add(&mut object, field, number, wire, depth)?;
    }
    // A named list has no object around it.
    if fields.values().any(|it| it.name.is_empty()) {
        return Ok(object.remove("").unwrap_or_else(|| Vec::<Value>::new().into()));
    }
    Ok(object.into())
}

fn add(
    object: &mut Map<String, Value>,
    field: &Field,
    number: u32,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), DecodeError> {
    let one = |wire| value(&field.ty, number, wire, depth);
    match field.shape {
        Shape::List => {
            let mut values = Vec::new();
            match (wire, field.ty.packed()) {
                (Wire::Bytes(bytes), Some(kind)) => {
                    for element in wire::packed(bytes, kind) {
                        values.push(one(element?)?);
                    }
                }
                (wire, _) => values.push(one(wire)?),
            }
            let list = object.entry(&field.name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.append(&mut values);
            }
        }
        Shape::Map => {
            let Wire::Bytes(entry) = wire else { return Err(DecodeError::Mismatch(number)) };
            let (mut key, mut content) = (String::new(), field.ty.zero());
            for part in Fields::new(entry) {
                match part? {
                    (1, Wire::Bytes(it)) => key = text(it)?,
                    (2, it) => content = one(it)?,
                    _ => {}
                }
            }
            let map = object.entry(&field.name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(map) = map {
                map.insert(key, content);
            }
        }
        Shape::Inline => {
            if let Value::Object(mut inlined) = one(wire)? {
                object.append(&mut inlined);
            }
        }
        Shape::One => {
            let value = one(wire)?;
            let is_left_out = value.is_null() || (field.omits_zero && is_zero(&value));
            if !is_left_out {
                object.insert(field.name.clone(), value);
            }
        }
    }
    Ok(())
}

fn value(ty: &Type, number: u32, wire: Wire<'_>, depth: usize) -> Result<Value, DecodeError> {
    Ok(match (ty, wire) {
        (Type::Bool, Wire::Varint(it)) => (it != 0).into(),
        (Type::Integer, Wire::Varint(it)) => it.cast_signed().into(),
        (Type::Double, Wire::Fixed64(it)) => {
            Number::from_f64(f64::from_bits(it)).map_or(Value::Null, Value::Number)
        }
        (Type::Text, Wire::Bytes(it)) => text(it)?.into(),
        (Type::Bytes, Wire::Bytes(it)) => BASE64.encode(it).into(),
        (Type::Message(name), Wire::Bytes(it)) => message(name, it, depth + 1)?,
        _ => return Err(DecodeError::Mismatch(number)),
    })
}

/// Types that write their JSON themselves.
fn special(name: &str, bytes: &[u8], depth: usize) -> Result<Option<Value>, DecodeError> {
    let Some(short) = name.strip_prefix("io.k8s.apimachinery.pkg.") else {
        return match name.strip_prefix("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.")
        {
            Some("JSON") => embedded(bytes, depth).map(Some),
            Some("JSONSchemaPropsOrArray") => either(name, bytes, depth, 2, 1),
            Some("JSONSchemaPropsOrBool") => either(name, bytes, depth, 2, 1),
            Some("JSONSchemaPropsOrStringArray") => either(name, bytes, depth, 2, 1),
            _ => Ok(None),
        };
    };
    Ok(Some(match short {
        "apis.meta.v1.Time" => instant(bytes, time::format)?,
        "apis.meta.v1.MicroTime" => instant(bytes, time::format_micro)?,
        "apis.meta.v1.FieldsV1" | "runtime.RawExtension" => embedded(bytes, depth)?,
        "api.resource.Quantity" => first_text(bytes)?,
        "util.intstr.IntOrString" => int_or_string(bytes)?,
        _ => return Ok(None),
    }))
}

/// One of two fields is the whole value; the first that is present wins.
fn either(
    name: &str,
    bytes: &[u8],
    depth: usize,
    first: u32,
    second: u32,
) -> Result<Option<Value>, DecodeError> {
    let Some(fields) = messages::lookup(name) else { return Ok(None) };
    for wanted in [first, second] {
        let Some(field) = fields.get(&wanted) else { continue };
        let mut object = Map::new();
        for entry in Fields::new(bytes) {
            let (number, wire) = entry?;
            if number == wanted {
                add(&mut object, field, number, wire, depth)?;
            }
        }
        if let Some(value) = object.remove(&field.name) {
            return Ok(Some(value));
        }
    }
    Ok(Some(Value::Null))
}

fn instant(bytes: &[u8], format: fn(jiff::Timestamp) -> String) -> Result<Value, DecodeError> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields::new(bytes) {
        match field? {
            (1, Wire::Varint(it)) => seconds = it.cast_signed(),
            (2, Wire::Varint(it)) => {
                nanos = i32::try_from(it.cast_signed()).map_err(|_| DecodeError::Time)?;
            }
            _ => {}
        }
    }
    // Go's zero time is written as an empty message, its JSON is null.
    if seconds == 0 && nanos == 0 {
        return Ok(Value::Null);
    }
    let instant = jiff::Timestamp::new(seconds, nanos).map_err(|_| DecodeError::Time)?;
    Ok(format(instant).into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, DecodeError> {
    let (mut is_text, mut number, mut string) = (false, 0, String::new());
    for field in Fields::new(bytes) {
        match field? {
            (1, Wire::Varint(it)) => is_text = it == 1,
            (2, Wire::Varint(it)) => number = it.cast_signed(),
            (3, Wire::Bytes(it)) => string = text(it)?,
            _ => {}
        }
    }
    Ok(if is_text { string.into() } else { number.into() })
}

fn first_text(bytes: &[u8]) -> Result<Value, DecodeError> {
    Ok(match first_bytes(bytes)? {
        Some(it) => text(it)?.into(),
        None => "0".into(),
    })
}

fn embedded(bytes: &[u8], depth: usize) -> Result<Value, DecodeError> {
    match first_bytes(bytes)? {
        None | Some([]) => Ok(Value::Null),
        Some(nested) if nested.starts_with(MAGIC) => {
            if depth > MAX_DEPTH {
                return Err(DecodeError::Depth);
            }
            envelope(nested, None, depth + 1)
        }
        Some(json) => serde_json::from_slice(json).map_err(|_| DecodeError::Json),
    }
}

fn first_bytes(bytes: &[u8]) -> Result<Option<&[u8]>, DecodeError> {
    let mut found = None;
    for field in Fields::new(bytes) {
        if let (1, Wire::Bytes(it)) = field? {
            found = Some(it);
        }
    }
    Ok(found)
}

fn text(bytes: &[u8]) -> Result<String, DecodeError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| DecodeError::Text)
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(it) => !it,
        Value::Number(it) => it.as_f64() == Some(0.0),
        Value::String(it) => it.is_empty(),
        Value::Array(it) => it.is_empty(),
        Value::Object(it) => it.is_empty(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
