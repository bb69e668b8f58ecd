//! Whether an applied object fits its type, in the words of Kubernetes' typed values.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{DEDUCED_MAP, Trail, item_element};
use crate::managed::model::{List, MapOf, Model, Relation, Scalar, Shape};
use crate::status::quote;

/// Errors that are told at most.
const MAX_ERRORS: usize = 100;

/// Checks a value. Where a list may not have duplicates, they are errors.
///
/// # Errors
/// All that is wrong, in one text.
pub(in crate::managed) fn check(value: &Value, model: &dyn Model) -> Result<(), String> {
    let mut errors = Vec::new();
    walk(Trail::Root, value, model, &mut errors);
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("errors:\n  {}", many.join("\n  "))),
    }
}

fn wrong(at: Trail<'_>, why: &str, errors: &mut Vec<String>) {
    if errors.len() < MAX_ERRORS {
        errors.push(match at {
            Trail::Root => why.to_owned(),
            Trail::Field(..) | Trail::Item(..) | Trail::Index(..) => format!("{at}: {why}"),
        });
    }
}

fn walk(at: Trail<'_>, value: &Value, model: &dyn Model, errors: &mut Vec<String>) {
    match (model.shape(), value) {
        (_, Value::Null) | (Shape::Whole, _) => {}
        (Shape::Scalar(scalar), value) => check_scalar(at, scalar, value, errors),
        (Shape::List(list), Value::Array(items)) => check_items(at, items, list, errors),
        (Shape::List(_), other) => {
            wrong(at, &format!("expected list, got &{{{}}}", go(other)), errors)
        }
        (Shape::Map(map), Value::Object(_)) => check_map(at, value, map, errors),
        (Shape::Map(_), other) => {
            wrong(at, &format!("expected map, got &{{{}}}", go(other)), errors)
        }
        (Shape::Deduced, Value::Object(_)) => check_map(at, value, DEDUCED_MAP, errors),
        (Shape::Deduced, _) => {}
    }
}

fn check_scalar(at: Trail<'_>, scalar: Scalar, value: &Value, errors: &mut Vec<String>) {
    match (scalar, value) {
        (Scalar::Boolean | Scalar::Any, Value::Bool(_))
        | (Scalar::Numeric | Scalar::Any, Value::Number(_))
        | (Scalar::String | Scalar::Any, Value::String(_)) => {}
        (Scalar::Numeric, other) => {
            let found = go_type(other);
            wrong(at, &format!("expected numeric (int or float), got {found}"), errors);
        }
        (Scalar::String, other) => {
            let shown = go_syntax(other);
            wrong(
                at,
                &format!("expected string, got &value.valueUnstructured{{Value:{shown}}}"),
                errors,
            );
        }
        (Scalar::Boolean, other) => {
            wrong(at, &format!("expected boolean, got &{{{}}}", go(other)), errors);
        }
        (Scalar::Any, other) => {
            wrong(at, &format!("expected any scalar, got &{{{}}}", go(other)), errors);
        }
    }
}

fn check_map(at: Trail<'_>, value: &Value, map: MapOf<'_>, errors: &mut Vec<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let here = Trail::Field(&at, name);
        match map.model(name) {
            Some(model) => walk(here, value, model, errors),
            None => wrong(here, "field not declared in schema", errors),
        }
    }
}

fn check_items(at: Trail<'_>, items: &[Value], list: List<'_>, errors: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (i, item) in items.iter().enumerate() {
        if matches!(list.relation, Relation::Atomic) {
            walk(Trail::Index(&at, i), item, list.items, errors);
            continue;
        }
        match item_element(list, item) {
            Ok(element) => {
                walk(Trail::Item(&at, &element), item, list.items, errors);
                if seen.contains(&element) {
                    wrong(at, &format!("duplicate entries for key {element}"), errors);
                }
                seen.insert(element);
            }
            Err(why) => return wrong(at, &format!("element {i}: {why}"), errors),
        }
    }
}

/// A value as Go's `%v` prints it.
fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(go).collect::<Vec<_>>().join(" "))
        }
        Value::Object(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(name, value)| format!("{name}:{}", go(value))).collect();
            format!("map[{}]", entries.join(" "))
        }
    }
}

/// A value as Go's `%#v` prints it.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(name, value)| format!("{}:{}", quote(name), go_syntax(value)))
                .collect();
            format!("map[string]interface {{}}{{{}}}", entries.join(", "))
        }
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
