//! Reads any serde source into a JSON value along a schema, noting what does not fit.
//!
//! Like Go's decoder it goes on after a wrong type and tells the first one; unknown and duplicate
//! fields are all noted, in the order of the document.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Number, Value};

use super::open::Open;
use super::words::{Dotted, go_path, go_type, short_name};
use crate::path::Path;
use crate::quantity::Quantity;
use crate::schema::{Schema, Type};
use crate::time;

/// Deepest nesting that is followed. Far above any Kubernetes type, far below any stack's end.
pub(super) const MAX_DEPTH: u8 = 120;
/// Unknown and duplicate fields that are told; more would only make the answer unreadable.
const MAX_STRICT: usize = 100;

/// What was found on the way.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The first thing that cannot be decoded.
    pub(super) wrong: Option<String>,
    /// Unknown and duplicate fields.
    pub(super) strict: Vec<String>,
}

impl Findings {
    fn wrong(&mut self, why: impl FnOnce() -> String) {
        if self.wrong.is_none() {
            self.wrong = Some(why());
        }
    }

    fn strict(&mut self, what: &str, path: Path<'_>) {
        let text = format!("{what} field \"{}\"", Dotted(&path));
        if self.strict.len() < MAX_STRICT && !self.strict.contains(&text) {
            self.strict.push(text);
        }
    }
}

/// The seed: what is expected at one place.
pub(super) struct Typed<'a> {
    schema: &'static Schema,
    /// Short name of the struct that holds the field, for error messages.
    owner: &'a str,
    path: Path<'a>,
    depth: u8,
    findings: &'a mut Findings,
}

impl<'a> Typed<'a> {
    pub(super) fn root(schema: &'static Schema, name: &'a str, findings: &'a mut Findings) -> Self {
        Self { schema, owner: name, path: Path::Root, depth: 0, findings }
    }
}

impl<'de> DeserializeSeed<'de> for Typed<'_> {
    /// Absent if the value is `null`, or does not fit.
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.depth > MAX_DEPTH {
            return Err(D::Error::custom("exceeded max depth"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Typed<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Self::Value, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        match self.resolved().ty {
            None | Some(Type::Boolean) => Ok(Some(Value::Bool(value))),
            Some(_) => Ok(self.mismatch("bool")),
        }
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(self.number(Number::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(self.number(Number::from(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        match Number::from_f64(value) {
            Some(number) => Ok(self.number(number)),
            None => Ok(self.mismatch("number")),
        }
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(self.text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let schema = self.resolved();
        if schema.open || schema.ty.is_none() {
            let mut out = Vec::new();
            while let Some(item) =
                items.next_element_seed(Open { depth: self.depth, twice: None })?
            {
                out.push(item);
            }
            return Ok(Some(Value::Array(out)));
        }
        let Some(item_schema) = schema.items.as_deref().filter(|_| schema.ty == Some(Type::Array))
        else {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(self.mismatch("array"));
        };
        let mut out = Vec::new();
        loop {
            let seed = Typed {
                schema: item_schema,
                owner: self.owner,
                path: self.path.index(out.len()),
                depth: self.depth + 1,
                findings: self.findings,
            };
            match items.next_element_seed(seed)? {
                Some(item) => out.push(item.unwrap_or_else(|| zero(item_schema))),
                None => return Ok(Some(Value::Array(out))),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let schema = self.resolved();
        if schema.open || schema.ty.is_none() {
            return Open { depth: self.depth, twice: None }.visit_map(entries).map(Some);
        }
        if schema.ty != Some(Type::Object) {
            while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(self.mismatch("object"));
        }
        let owner = self.schema.reference.as_deref().map_or(self.owner, short_name);
        let mut out = Map::new();
        let mut seen_null: Vec<String> = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            let in_map = schema.additional_properties.is_some();
            let path = if in_map { self.path.key(&key) } else { self.path.field(&key) };
            let known = schema.properties.get(&key).or(schema.additional_properties.as_deref());
            let Some(field) = known else {
                self.findings.strict("unknown", path);
                entries.next_value::<IgnoredAny>()?;
                continue;
            };
            if out.contains_key(&key) || seen_null.contains(&key) {
                self.findings.strict("duplicate", path);
            }
            let seed = Typed {
                schema: field,
                owner,
                path,
                depth: self.depth + 1,
                findings: self.findings,
            };
            let value = entries.next_value_seed(seed)?;
            let value = match value {
                None if in_map => Some(zero(field)),
                value => value.filter(|it| !is_omitted(it, field)),
            };
            match value {
                Some(value) => {
                    out.insert(key, value);
                }
                None => {
                    out.remove(&key);
                    seen_null.push(key);
                }
            }
        }
        Ok(Some(Value::Object(out)))
    }
}

impl Typed<'_> {
    fn resolved(&self) -> &'static Schema {
        self.schema.resolved()
    }

    fn mismatch(self, found: &str) -> Option<Value> {
        let Self { schema, owner, path, findings, .. } = self;
        findings.wrong(|| {
            let ty = go_type(schema);
            match go_path(&path) {
                root if root.is_empty() => {
                    format!("json: cannot unmarshal {found} into Go value of type {ty}")
                }
                field => format!(
                    "json: cannot unmarshal {found} into Go struct field {owner}.{field} of type {ty}"
                ),
            }
        });
        None
    }

    fn number(self, number: Number) -> Option<Value> {
        let schema = self.resolved();
        match schema.ty {
            None | Some(Type::Number) => Some(Value::Number(number)),
            Some(Type::Integer) => {
                let whole = number.as_i64();
                let fits = match schema.format.as_deref() {
                    Some("int32") => whole.is_some_and(|it| i32::try_from(it).is_ok()),
                    _ => whole.is_some(),
                };
                if fits {
                    Some(Value::Number(number))
                } else {
                    self.mismatch(&format!("number {number}"))
                }
            }
            Some(Type::String) => match schema.format.as_deref() {
                Some("int-or-string") => {
                    if number.as_i64().is_some_and(|it| i32::try_from(it).is_ok()) {
                        Some(Value::Number(number))
                    } else {
                        self.findings.wrong(|| {
                            format!(
                                "json: cannot unmarshal number {number} into Go value of type int32"
                            )
                        });
                        None
                    }
                }
                Some("quantity") => self.text(number.to_string()),
                _ => self.mismatch("number"),
            },
            Some(Type::Array | Type::Boolean | Type::Object) => self.mismatch("number"),
        }
    }

    fn text(self, text: String) -> Option<Value> {
        let schema = self.resolved();
        match schema.ty {
            None => Some(Value::String(text)),
            Some(Type::String) => match schema.format.as_deref() {
                Some("quantity") => {
                    let text = text.trim();
                    if let Err(err) = Quantity::parse(text) {
                        self.findings.wrong(|| err.to_string());
                        return None;
                    }
                    Some(Value::from(text))
                }
                Some("byte") => {
                    if let Some(at) = bad_base64(&text) {
                        self.findings.wrong(|| format!("illegal base64 data at input byte {at}"));
                        return None;
                    }
                    Some(Value::String(text))
                }
                Some("date-time") => self.time(&text),
                _ => Some(Value::String(text)),
            },
            Some(Type::Array | Type::Boolean | Type::Integer | Type::Number | Type::Object) => {
                self.mismatch("string")
            }
        }
    }

    fn time(self, text: &str) -> Option<Value> {
        if text.is_empty() {
            return None;
        }
        let micro = self.schema.reference.as_deref().is_some_and(|it| it.ends_with("MicroTime"));
        match time::parse(text) {
            Some(ts) if micro => Some(Value::from(time::format_micro(ts))),
            Some(ts) => Some(Value::from(time::format(ts))),
            None => {
                let layout = if micro {
                    "2006-01-02T15:04:05.000000Z07:00"
                } else {
                    "2006-01-02T15:04:05Z07:00"
                };
                self.findings.wrong(|| {
                    format!("parsing time \"{text}\" as \"{layout}\": cannot parse \"{text}\" as \"2006\"")
                });
                None
            }
        }
    }
}

/// Whether Go would leave the value out of what it writes: zeros of most fields that are neither
/// structs nor pointers. Kept, they would make equal objects differ.
fn is_omitted(value: &Value, field: &Schema) -> bool {
    // No managed fields at all are the wish to forget them.
    let says_more = field.items.as_deref().is_some_and(|it| {
        it.reference.as_deref() == Some("io.k8s.apimachinery.pkg.apis.meta.v1.ManagedFieldsEntry")
    });
    !says_more
        && field.omits_zero
        && match value {
            Value::Null => true,
            Value::Bool(it) => !it,
            Value::Number(it) => it.as_i64() == Some(0),
            Value::String(it) => it.is_empty(),
            Value::Array(it) => it.is_empty(),
            // A struct is written even if it is empty; only maps are left out.
            Value::Object(it) => it.is_empty() && field.additional_properties.is_some(),
        }
}

/// What `null` means where something must stand: Go's zero value.
fn zero(schema: &'static Schema) -> Value {
    match schema.resolved().ty {
        Some(Type::Object) => Value::Object(Map::new()),
        Some(Type::Array) => Value::Array(Vec::new()),
        Some(Type::String) => Value::from(""),
        Some(Type::Integer | Type::Number) => Value::from(0),
        Some(Type::Boolean) => Value::from(false),
        None => Value::Null,
    }
}

/// Where a text stops being standard base64.
fn bad_base64(text: &str) -> Option<usize> {
    use base64::Engine as _;
    // Go skips line breaks.
    let plain: String;
    let text = if text.contains(['\n', '\r']) {
        plain = text.replace(['\n', '\r'], "");
        &plain
    } else {
        text
    };
    match base64::engine::general_purpose::STANDARD.decode(text) {
        Ok(_) => None,
        Err(
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _),
        ) => Some(at),
        Err(base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding) => {
            Some(text.len())
        }
    }
}
