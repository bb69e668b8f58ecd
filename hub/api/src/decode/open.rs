//! Reads any JSON value, for places whose content is not ours.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::typed::MAX_DEPTH;
use super::words::Dotted;
use crate::path::Path;

/// Duplicate fields that are told.
const MAX_TWICE: usize = 100;

/// The seed: any value, so deep already.
pub(super) struct Open<'a> {
    pub(super) depth: u8,
    /// Where fields that stand twice are noted, if they are.
    pub(super) twice: Option<Twice<'a>>,
}

/// Fields that stand twice, and where the value is that may have more of them.
pub(super) struct Twice<'a> {
    pub(super) path: Path<'a>,
    pub(super) found: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Open<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.depth > MAX_DEPTH {
            return Err(D::Error::custom("exceeded max depth"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Open<'_> {
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

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        loop {
            let twice = self
                .twice
                .as_mut()
                .map(|it| Twice { path: it.path.index(out.len()), found: &mut *it.found });
            match items.next_element_seed(Open { depth: self.depth + 1, twice })? {
                Some(item) => out.push(item),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let twice = self.twice.as_mut().map(|it| {
                let path = it.path.field(&key);
                if out.contains_key(&key) && it.found.len() < MAX_TWICE {
                    it.found.push(format!("duplicate field \"{}\"", Dotted(&path)));
                }
                Twice { path, found: &mut *it.found }
            });
            let value = entries.next_value_seed(Open { depth: self.depth + 1, twice })?;
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}
