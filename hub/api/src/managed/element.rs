//! One step of a path to a field, in the canonical text of `FieldsV1`: `f:name`, `k:{"name":"web"}`,
//! `v:"a"`, `i:0`. Two steps are the same step exactly if their texts are equal.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Number, Value};

/// One step of a path.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Element(Box<str>);

impl Element {
    /// The field or map key `name`.
    pub fn field(name: &str) -> Self {
        let mut text = String::with_capacity(name.len() + 2);
        text.push_str("f:");
        text.push_str(name);
        Self(text.into())
    }

    /// The item of a list whose key fields have these values.
    pub fn key(fields: &BTreeMap<&str, &Value>) -> Self {
        let mut text = String::from("k:{");
        for (i, (name, value)) in fields.iter().enumerate() {
            text.push_str(if i == 0 { "" } else { "," });
            text.push_str(&Value::from(*name).to_string());
            text.push(':');
            push_value(&mut text, value);
        }
        text.push('}');
        Self(text.into())
    }

    /// The item of a set that is this value.
    pub fn value(value: &Value) -> Self {
        let mut text = String::from("v:");
        push_value(&mut text, value);
        Self(text.into())
    }

    /// Reads the text that a client sent. `Ok(None)` is a kind of step that nobody knows yet.
    ///
    /// # Errors
    /// In Kubernetes' words, if it is no step.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let Some((kind, rest)) = text.split_at_checked(2) else {
            return Err("key must be 2 characters long:".to_owned());
        };
        if !kind.ends_with(':') {
            return Err(format!("missing colon: {text}"));
        }
        match kind {
            "f:" => Ok(Some(Self(text.into()))),
            "v:" => {
                let value: Value = serde_json::from_str(rest).map_err(|err| err.to_string())?;
                Ok(Some(Self::value(&value)))
            }
            "k:" => {
                let fields: BTreeMap<String, Value> =
                    serde_json::from_str(rest).map_err(|err| err.to_string())?;
                let fields = fields.iter().map(|(name, value)| (name.as_str(), value)).collect();
                Ok(Some(Self::key(&fields)))
            }
            "i:" => {
                let index: u32 = rest.parse().map_err(|_| format!("bad index: {text}"))?;
                Ok(Some(Self(format!("i:{index}").into())))
            }
            _ => Ok(None),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the field, if this is one.
    pub fn field_name(&self) -> Option<&str> {
        self.0.strip_prefix("f:")
    }
}

impl Borrow<str> for Element {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// As in messages: `.name`, `[name="web"]`, `[="a"]`, `[0]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_at_checked(2) {
            Some(("f:", name)) => write!(f, ".{name}"),
            Some(("k:", text)) => {
                let fields: BTreeMap<String, Value> =
                    serde_json::from_str(text).unwrap_or_default();
                f.write_str("[")?;
                for (i, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}{name}={value}", if i == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Some(("v:", value)) => write!(f, "[={value}]"),
            _ => write!(f, "[{}]", self.0.trim_start_matches("i:")),
        }
    }
}

/// Numbers that are equal get equal text: `1.0` is `1`.
fn push_value(text: &mut String, value: &Value) {
    /// Above, not every integer is a float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = value.as_f64().filter(|it| {
        value.as_i64().is_none()
            && value.as_u64().is_none()
            && it.fract() == 0.0
            && it.abs() < EXACT
    });
    match whole {
        Some(whole) => text.push_str(&format!("{whole:.0}")),
        None => text.push_str(&value.to_string()),
    }
}

/// Whether two values are equal as Kubernetes sees it: `1` and `1.0` are.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || same_number(one, other),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|it| same(one, it)))
        }
        (one, other) => one == other,
    }
}

fn same_number(one: &Number, other: &Number) -> bool {
    (one.is_f64() || other.is_f64()) && one.as_f64() == other.as_f64()
}
