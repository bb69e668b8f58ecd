//! Decoding custom resources: any JSON, then what their definition says.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::typed::MAX_DEPTH;
use super::words::Dotted;
use super::{Decoded, FieldValidation, Target, TypeMeta, cannot_be_handled, conform_kind};
use crate::custom::{Custom, fill, prune};
use crate::path::Path;
use crate::status::Status;

/// Unknown and duplicate fields that are told.
const MAX_STRICT: usize = 100;

const METADATA: Target<'static> = Target {
    group: "",
    version: "v1",
    kind: "ObjectMeta",
    schema: "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
};

/// Reads any value, noting fields that stand twice.
pub(super) struct Any<'a> {
    pub(super) path: Path<'a>,
    pub(super) depth: u8,
    pub(super) twice: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Any<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.depth > MAX_DEPTH {
            return Err(D::Error::custom("exceeded max depth"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        loop {
            let path = self.path.index(out.len());
            let seed = Any { path, depth: self.depth + 1, twice: self.twice };
            match items.next_element_seed(seed)? {
                Some(item) => out.push(item),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let path = self.path.field(&key);
            if out.contains_key(&key) && self.twice.len() < MAX_STRICT {
                self.twice.push(format!("duplicate field \"{}\"", Dotted(&path)));
            }
            let seed = Any { path, depth: self.depth + 1, twice: self.twice };
            let value = entries.next_value_seed(seed)?;
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

/// What is read becomes an object of its kind: metadata as everywhere, all else by the schema.
pub(super) fn shape(
    target: Target<'_>,
    custom: &Custom,
    value: Value,
    twice: Vec<String>,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    if !value.is_object() {
        let why = "json: cannot unmarshal into Go value: the object is missing";
        return Err(cannot_be_handled(target, why));
    }
    let mut object = value;
    TypeMeta::of(&object).check(target)?;
    let mut strict = twice;
    let metadata = object.get("metadata").filter(|it| !it.is_null()).cloned();
    if let Some(metadata) = metadata {
        let wrong = |status: Status| {
            let why = status.message.split(" as a ObjectMeta: ").last().unwrap_or_default();
            cannot_be_handled(target, why)
        };
        // Nothing of ours: labels may be called `kind`.
        let decoded = conform_kind(METADATA, &metadata, FieldValidation::Warn).map_err(wrong)?;
        let mut metadata = decoded.object;
        if let Some(map) = metadata.as_object_mut() {
            map.remove("apiVersion");
            map.remove("kind");
        }
        let told = |it: String| it.replacen("field \"", "field \"metadata.", 1);
        strict.extend(decoded.warnings.into_iter().map(told));
        object["metadata"] = metadata;
    }
    let unknown = prune(&mut object, &custom.node, MAX_STRICT);
    strict.extend(unknown.into_iter().map(|it| format!("unknown field \"{it}\"")));
    if validation == FieldValidation::Strict && !strict.is_empty() {
        let all = strict.join(", ");
        return Err(cannot_be_handled(target, &format!("strict decoding error: {all}")));
    }
    fill(&mut object, &custom.node);
    object["apiVersion"] = Value::from(target.api_version());
    object["kind"] = Value::from(target.kind);
    let warnings = match validation {
        FieldValidation::Warn => strict,
        FieldValidation::Ignore | FieldValidation::Strict => Vec::new(),
    };
    Ok(Decoded { object, warnings })
}
