//! The set of fields that an applied object names.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{DEDUCED_MAP, Trail, item_element};
use crate::managed::element::Element;
use crate::managed::model::{List, MapOf, Model, Relation, Shape};
use crate::managed::set::Set;

/// All fields of a value. Declared fields above others are not named; keys of maps and items are.
pub(in crate::managed) fn fields(value: &Value, model: &dyn Model) -> Set {
    let mut out = Set::default();
    walk(Trail::Root, value, model, &mut out);
    out
}

fn walk(at: Trail<'_>, value: &Value, model: &dyn Model, out: &mut Set) {
    match (model.shape(), value) {
        (Shape::Scalar(_) | Shape::Whole, _) => out.insert(at.elements()),
        (Shape::List(List { relation: Relation::Atomic, .. }), _)
        | (Shape::Map(MapOf { is_atomic: true, .. }), _) => out.insert(at.elements()),
        (Shape::List(list), Value::Array(items)) => walk_items(at, items, list, out),
        (Shape::Map(map), Value::Object(_)) => walk_map(at, value, map, out),
        (Shape::List(_) | Shape::Map(_) | Shape::Deduced, Value::Null) => {}
        (Shape::Deduced, Value::Object(_)) => walk_map(at, value, DEDUCED_MAP, out),
        (Shape::Deduced, _) => out.insert(at.elements()),
        // What does not fit was refused before.
        (Shape::List(_) | Shape::Map(_), _) => {}
    }
}

fn walk_map(at: Trail<'_>, value: &Value, map: MapOf<'_>, out: &mut Set) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let here = Trail::Field(&at, name);
        let is_declared = map.fields.is_some_and(|it| it.field(name).is_some());
        if let Some(model) = map.model(name) {
            walk(here, value, model, out);
        }
        let is_empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
        if is_empty || !is_declared {
            out.insert(here.elements());
        }
    }
}

fn walk_items(at: Trail<'_>, items: &[Value], list: List<'_>, out: &mut Set) {
    let elements: Vec<Option<Element>> =
        items.iter().map(|it| item_element(list, it).ok()).collect();
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<&Element> =
        elements.iter().flatten().filter(|it| !seen.insert(*it)).collect();
    for (item, element) in items.iter().zip(&elements) {
        let Some(element) = element else { continue };
        let here = Trail::Item(&at, element);
        if !twice.contains(element) {
            walk(here, item, list.items, out);
        }
        out.insert(here.elements());
    }
}
