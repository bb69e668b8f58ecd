//! Lays an applied object over the live one. Nothing is taken away here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{Trail, View, entries, item_element, items, view};
use crate::managed::element::Element;
use crate::managed::model::{List, MapOf, Model};

/// The live object with what is applied: values of the applied one win, items of lists are in its
/// order where it names them. Absent if there is nothing.
///
/// # Errors
/// If an item of a list cannot be told from others.
pub(in crate::managed) fn merge(
    live: &Value,
    applied: &Value,
    model: &dyn Model,
) -> Result<Value, String> {
    let merged = walk(Trail::Root, Some(live), Some(applied), model)?;
    Ok(merged.unwrap_or_else(|| Value::Object(Map::new())))
}

fn walk(
    at: Trail<'_>,
    live: Option<&Value>,
    applied: Option<&Value>,
    model: &dyn Model,
) -> Result<Option<Value>, String> {
    match view(model, live, applied) {
        View::Leaf => Ok(applied.or(live).cloned()),
        View::Map(map) => merge_entries(at, entries(live), entries(applied), map),
        View::Items(list) => merge_items(at, items(live), items(applied), list),
        // A map that takes the place of something else, or the other way round.
        View::Mixed(_) => Ok(applied.cloned()),
    }
}

fn merge_entries(
    at: Trail<'_>,
    live: Option<&Map<String, Value>>,
    applied: Option<&Map<String, Value>>,
    map: MapOf<'_>,
) -> Result<Option<Value>, String> {
    let mut out = Map::new();
    let names: BTreeSet<&String> =
        live.into_iter().chain(applied).flat_map(|it| it.keys()).collect();
    for name in names {
        let (live, applied) =
            (live.and_then(|it| it.get(name)), applied.and_then(|it| it.get(name)));
        let merged = match (map.model(name), live, applied) {
            (_, live, None) => live.cloned(),
            (Some(model), live, applied) => walk(Trail::Field(&at, name), live, applied, model)?,
            (None, _, Some(_)) => {
                return Err(format!("{at}.{name}: field not declared in schema"));
            }
        };
        if let Some(merged) = merged {
            out.insert(name.clone(), merged);
        }
    }
    Ok((!out.is_empty()).then_some(Value::Object(out)))
}

/// A list, its items by what makes them themselves. Items that stand twice have no value.
struct Indexed<'a> {
    order: Vec<Element>,
    items: BTreeMap<Element, Option<&'a Value>>,
}

fn index<'a>(at: Trail<'_>, list: List<'_>, items: &'a [Value]) -> Result<Indexed<'a>, String> {
    let mut out = Indexed { order: Vec::with_capacity(items.len()), items: BTreeMap::new() };
    for (i, item) in items.iter().enumerate() {
        let element =
            item_element(list, item).map_err(|why| format!("{at}: element {i}: {why}"))?;
        let is_twice = out.items.contains_key(&element);
        out.items.insert(element.clone(), (!is_twice).then_some(item));
        out.order.push(element);
    }
    Ok(out)
}

/// Items that only the live list has keep their places among those that both have; those of the
/// applied list come in its order.
fn merge_items(
    at: Trail<'_>,
    live: &[Value],
    applied: &[Value],
    list: List<'_>,
) -> Result<Option<Value>, String> {
    let (before, after) = (index(at, list, live)?, index(at, list, applied)?);
    let mut shared = after.order.iter().filter(|it| before.items.contains_key(*it));
    let mut next_shared = shared.next();
    let mut done: BTreeSet<&Element> = BTreeSet::new();
    let mut out = Vec::with_capacity(live.len().max(applied.len()));
    let (mut l, mut r) = (0, 0);
    while l < before.order.len() || r < after.order.len() {
        let (left, right) = (before.order.get(l), after.order.get(r));
        if let (Some(left), Some(right)) = (left, right)
            && left != right
            && after.items.contains_key(left)
            && next_shared.is_some_and(|it| it != left)
        {
            // Both have it, but another one of theirs comes first.
            l += 1;
            continue;
        }
        if let Some(left) = left
            && Some(left) != right
        {
            if !after.items.contains_key(left) {
                out.extend(live.get(l).cloned());
                l += 1;
                continue;
            }
            if done.contains(left) {
                l += 1;
            }
        }
        let Some(right) = right else { continue };
        done.insert(right);
        let here = Trail::Item(&at, right);
        let (old, new) = (before.items.get(right).copied(), after.items.get(right).copied());
        out.extend(walk(here, old.flatten(), new.flatten(), list.items)?);
        if left == Some(right) {
            l += 1;
        }
        r += 1;
        if next_shared == Some(right) {
            next_shared = shared.next();
        }
    }
    Ok((!out.is_empty()).then_some(Value::Array(out)))
}
