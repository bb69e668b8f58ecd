//! Takes fields out of an object.

use serde_json::{Map, Value};

use super::{DEDUCED_MAP, item_element};
use crate::managed::element::Element;
use crate::managed::model::{List, MapOf, Model, Relation, Shape};
use crate::managed::set::Set;

/// The value without the fields of the set and all below them. What nothing is left of is null.
pub(in crate::managed) fn remove(value: &Value, fields: &Set, model: &dyn Model) -> Value {
    match (model.shape(), value) {
        (Shape::Map(MapOf { is_atomic: true, .. }), _)
        | (Shape::List(List { relation: Relation::Atomic, .. }), _) => Value::Null,
        (Shape::Map(map), Value::Object(entries)) => remove_entries(entries, fields, map),
        (Shape::List(list), Value::Array(items)) => remove_items(items, fields, list),
        (Shape::Deduced, Value::Object(entries)) => remove_entries(entries, fields, DEDUCED_MAP),
        (Shape::Map(_) | Shape::List(_), _) | (Shape::Deduced, Value::Array(_)) => Value::Null,
        (Shape::Scalar(_) | Shape::Whole | Shape::Deduced, value) => value.clone(),
    }
}

fn remove_entries(entries: &Map<String, Value>, fields: &Set, map: MapOf<'_>) -> Value {
    let mut out = Map::new();
    for (name, value) in entries {
        let element = Element::field(name);
        if fields.has_here(element.as_str()) {
            continue;
        }
        let left = match (fields.below(element.as_str()), map.model(name)) {
            (Some(below), Some(model)) => remove(value, below, model),
            (None, _) | (Some(_), None) => value.clone(),
        };
        out.insert(name.clone(), left);
    }
    if out.is_empty() { Value::Null } else { Value::Object(out) }
}

fn remove_items(items: &[Value], fields: &Set, list: List<'_>) -> Value {
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        let Ok(element) = item_element(list, item) else {
            out.push(item.clone());
            continue;
        };
        if fields.has_here(element.as_str()) {
            continue;
        }
        out.push(match fields.below(element.as_str()) {
            Some(below) => remove(item, below, list.items),
            None => item.clone(),
        });
    }
    if out.is_empty() { Value::Null } else { Value::Array(out) }
}
