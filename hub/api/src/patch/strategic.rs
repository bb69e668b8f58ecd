//! The strategic merge patch.
//!
//! Maps are merged, lists are replaced unless the schema gives them the strategy `merge`.
//! Directives in the patch say what plain JSON cannot:
//! - `$patch: replace | delete` in a map, or in an element of a merged list;
//! - `$deleteFromPrimitiveList/<field>` removes scalars from a list;
//! - `$setElementOrder/<field>` orders a merged list;
//! - `$retainKeys` drops all other keys of a map.
//!
//! Follows
//! <https://git.k8s.io/design-proposals-archive/cli/preserve-order-in-strategic-merge-patch.md>.
//! Null equals absent, and no directive survives in the result.

use std::mem::{Discriminant, discriminant};

use serde_json::{Map, Value};

use super::go_value::{GoValue, go_type};
use crate::schema::{self, Schema};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

/// Why a patch cannot be applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum PatchError {
    #[error("invalid JSON document")]
    BadDocument,
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("invalid patch format of primitive list")]
    BadDeleteList,
    #[error("invalid patch format of retainKeys")]
    BadRetainKeys,
    #[error("invalid patch format of setElementOrder list")]
    BadElementOrder,
    #[error("The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n")]
    OrderMismatch { patch: GoValue, order: GoValue },
    #[error("map: {map} does not contain declared merge key: {key}")]
    NoMergeKey { map: GoValue, key: String },
    #[error("cannot merge lists without merge key")]
    NoDeclaredMergeKey,
    #[error("list element types are not identical: {0}")]
    MixedElements(GoValue),
    #[error("expected a []interface {{}}, but received a {0}")]
    NotAList(&'static str),
    #[error("unknown patch type: {directive} in map: {map}")]
    BadDirective { directive: GoValue, map: GoValue },
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirectiveInList,
}

impl PatchError {
    /// Whether the patch is well formed, but its content is not.
    pub(super) fn is_about_content(&self) -> bool {
        matches!(self, Self::ListOfLists)
    }

    /// Whether the patch is malformed.
    pub(super) fn is_about_form(&self) -> bool {
        matches!(
            self,
            Self::BadDocument | Self::BadDeleteList | Self::BadRetainKeys | Self::BadElementOrder
        )
    }
}

type Object = Map<String, Value>;
type Place = Option<&'static Schema>;

pub(super) fn apply(
    document: &Value,
    patch: &Value,
    definition: &str,
) -> Result<Value, PatchError> {
    let (Value::Object(original), Value::Object(patch)) = (document, patch) else {
        return Err(PatchError::BadDocument);
    };
    merge_map(original.clone(), patch.clone(), schema::lookup(definition)).map(Value::Object)
}

fn merge_map(mut original: Object, mut patch: Object, place: Place) -> Result<Object, PatchError> {
    match patch.get(DIRECTIVE).cloned() {
        None => {}
        Some(it) if it == "replace" => {
            patch.remove(DIRECTIVE);
            return Ok(cleaned_map(patch));
        }
        Some(it) if it == "delete" => return Ok(Object::new()),
        Some(it) => return Err(bad_directive(it, patch.into())),
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, place)?;
    for (key, change) in patch {
        let (name, is_deletion) = match key.split_once('/') {
            Some((DELETE_FROM_LIST, name)) => (name.to_owned(), true),
            _ if key == DELETE_FROM_LIST => return Err(PatchError::BadDeleteList),
            _ => (key, false),
        };
        let field = field(place, &name);
        let merged = match (original.remove(&name), change) {
            (_, Value::Null) => None,
            (Some(Value::Object(old)), Value::Object(change)) if !strategy_is(field, "replace") => {
                Some(merge_map(old, change, field)?.into())
            }
            (Some(Value::Array(old)), Value::Array(change))
                if is_deletion || strategy_is(field, "merge") =>
            {
                Some(merge_list(old, change, field, is_deletion)?.into())
            }
            (old, _) if is_deletion => old,
            (_, change) => cleaned(change),
        };
        if let Some(merged) = merged {
            original.insert(name, merged);
        }
    }
    Ok(original)
}

fn field(place: Place, name: &str) -> Place {
    let place = place?.resolved();
    place.properties.get(name).or(place.additional_properties.as_deref())
}

fn strategy_is(field: Place, wanted: &str) -> bool {
    field
        .and_then(|it| it.patch_strategy.as_deref())
        .is_some_and(|it| it.split(',').any(|strategy| strategy == wanted))
}

/// Drops all keys of the original that `$retainKeys` does not list.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(retained) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(retained) = retained else { return Err(PatchError::BadRetainKeys) };
    let is_retained = |key: &str| retained.iter().any(|it| it == key);
    let is_known = patch.iter().all(|(key, change)| {
        let is_directive = key.starts_with(DELETE_FROM_LIST) || key.starts_with(SET_ORDER);
        change.is_null() || is_directive || is_retained(key)
    });
    if !is_known {
        return Err(PatchError::BadRetainKeys);
    }
    original.retain(|key, _| is_retained(key));
    Ok(())
}

/// Merges and orders the lists that have a `$setElementOrder`, and takes them out of the patch.
fn merge_ordered_lists(
    original: &mut Object,
    patch: &mut Object,
    place: Place,
) -> Result<(), PatchError> {
    let keys: Vec<String> = patch.keys().filter(|it| it.starts_with(SET_ORDER)).cloned().collect();
    for key in keys {
        let Some((SET_ORDER, name)) = key.split_once('/') else {
            return Err(PatchError::BadElementOrder);
        };
        let order = list(patch.remove(&key).as_ref())?.unwrap_or_default();
        let field = field(place, name);
        let merge_key = field.and_then(|it| it.patch_merge_key.as_deref());
        let old = list(original.get(name))?;
        let change = list(patch.get(name))?;
        if let Some(change) = &change {
            validate_order(change, &order, merge_key)?;
        }
        let mut server_order = old.clone().unwrap_or_default();
        let merged = match (old, change) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(change)) => cleaned_list(change),
            (Some(old), Some(change)) if strategy_is(field, "merge") => {
                if let Some(key) = merge_key {
                    server_order = with_replacements(&old, &change, key);
                }
                merge_list(old, change, field, false)?
            }
            (Some(_), Some(change)) => cleaned_list(change),
        };
        // The order of the patch goes before the order of the object.
        let merged = ordered(merged, &order, &server_order, merge_key)?;
        patch.remove(name);
        original.insert(name.to_owned(), merged.into());
    }
    Ok(())
}

/// The order of the object after the patch has deleted elements. Kubernetes counts an added element
/// among the server's if it fills the place of a deleted one; the same patch shall give the same
/// order here.
fn with_replacements(old: &[Value], change: &[Value], merge_key: &str) -> Vec<Value> {
    let has = |list: &[Value], wanted: &Value| {
        wanted.get(merge_key).is_some_and(|id| list.iter().any(|it| it.get(merge_key) == Some(id)))
    };
    let (deleted, plain): (Vec<Value>, Vec<Value>) =
        change.iter().cloned().partition(|it| it.get(DIRECTIVE).is_some());
    let kept = old.iter().filter(|it| !has(&deleted, it));
    let added = plain.iter().filter(|it| !has(old, it));
    kept.chain(added).take(old.len()).cloned().collect()
}

fn list(value: Option<&Value>) -> Result<Option<Vec<Value>>, PatchError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list.clone())),
        Some(other) => Err(PatchError::NotAList(go_type(other))),
    }
}

fn bad_directive(directive: Value, map: Value) -> PatchError {
    PatchError::BadDirective { directive: GoValue(directive), map: GoValue(map) }
}

/// Every element of the patch that is no directive must be in the order, at the same relative
/// place.
fn validate_order(
    patch: &[Value],
    order: &[Value],
    merge_key: Option<&str>,
) -> Result<(), PatchError> {
    if order.is_empty() {
        return Ok(());
    }
    let mut wanted = order.iter();
    for element in patch.iter().filter(|it| it.get(DIRECTIVE).is_none()) {
        let id = identity(element, merge_key)?;
        let mut is_found = false;
        for candidate in wanted.by_ref() {
            if identity(candidate, merge_key)? == id {
                is_found = true;
                break;
            }
        }
        if !is_found {
            let (patch, order) = (patch.to_vec().into(), order.to_vec().into());
            let (patch, order) = (GoValue(patch), GoValue(order));
            return Err(PatchError::OrderMismatch { patch, order });
        }
    }
    Ok(())
}

fn merge_list(
    old: Vec<Value>,
    change: Vec<Value>,
    field: Place,
    is_deletion: bool,
) -> Result<Vec<Value>, PatchError> {
    let kind = element_kind(&old, &change)?;
    if kind != Some(discriminant(&Value::Object(Object::new()))) {
        if is_deletion {
            return Ok(old.into_iter().filter(|it| !change.contains(it)).collect());
        }
        let mut merged: Vec<Value> = Vec::new();
        for element in old.iter().chain(&change) {
            if !merged.contains(element) {
                merged.push(element.clone());
            }
        }
        return ordered(merged, &change, &old, None);
    }
    let merge_key = field.and_then(|it| it.patch_merge_key.as_deref());
    let merge_key = merge_key.ok_or(PatchError::NoDeclaredMergeKey)?;
    let (mut merged, change) = apply_element_directives(old, change, merge_key)?;
    let server_order = merged.clone();
    let items = field.and_then(|it| it.resolved().items.as_deref());
    for element in &change {
        let id = identity(element, Some(merge_key))?;
        let Value::Object(fields) = element else { continue };
        match merged.iter_mut().find(|it| it.get(merge_key) == Some(id)) {
            Some(Value::Object(found)) => {
                *found = merge_map(std::mem::take(found), fields.clone(), items)?;
            }
            _ => merged.push(cleaned_map(fields.clone()).into()),
        }
    }
    ordered(merged, &change, &server_order, Some(merge_key))
}

/// Carries out `$patch` in elements; returns what is left of the list, and the plain elements of
/// the patch.
fn apply_element_directives(
    mut old: Vec<Value>,
    change: Vec<Value>,
    merge_key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let (mut plain, mut replaces) = (Vec::new(), false);
    for element in change {
        match element.get(DIRECTIVE).cloned() {
            None => plain.push(element),
            Some(it) if it == "delete" => {
                let id = identity(&element, Some(merge_key))?;
                old.retain(|it| it.get(merge_key) != Some(id));
            }
            Some(it) if it == "replace" => replaces = true,
            Some(it) if it == "merge" => return Err(PatchError::MergeDirectiveInList),
            Some(it) => return Err(bad_directive(it, element)),
        }
    }
    if replaces { Ok((cleaned_list(plain), Vec::new())) } else { Ok((old, plain)) }
}

/// Puts the elements that `patch_order` names in its order, all others in that of the server, and
/// interleaves the two so that both orders hold.
fn ordered(
    merged: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    merge_key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    let position = |order: &[Value], element: &Value| -> Result<Option<usize>, PatchError> {
        let id = identity(element, merge_key)?;
        Ok(order.iter().position(|it| merge_key.map_or(Some(it), |key| it.get(key)) == Some(id)))
    };
    let (mut patched, mut others) = (Vec::new(), Vec::new());
    for element in merged {
        let at_server = position(server_order, &element)?;
        match position(patch_order, &element)? {
            Some(at) => patched.push((at, at_server, element)),
            None => others.push((at_server, element)),
        }
    }
    patched.sort_by_key(|(at, ..)| *at);
    others.sort_by_key(|(at, _)| at.unwrap_or(usize::MAX));
    let mut result = Vec::with_capacity(patched.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, at_server, element) in patched {
        let comes_first = |other: &(Option<usize>, Value)| {
            other.0.zip(at_server).is_some_and(|(other, this)| other < this)
        };
        while let Some((_, other)) = others.next_if(comes_first) {
            result.push(other);
        }
        result.push(element);
    }
    result.extend(others.map(|(_, element)| element));
    Ok(result)
}

/// What makes an element itself: the value of its merge key, or all of it.
fn identity<'a>(element: &'a Value, merge_key: Option<&str>) -> Result<&'a Value, PatchError> {
    let Some(key) = merge_key else { return Ok(element) };
    element.get(key).ok_or_else(|| PatchError::NoMergeKey {
        map: GoValue(element.clone()),
        key: key.to_owned(),
    })
}

fn element_kind(
    old: &[Value],
    change: &[Value],
) -> Result<Option<Discriminant<Value>>, PatchError> {
    let mut elements = old.iter().chain(change);
    let Some(first) = elements.next() else { return Ok(None) };
    if first.is_array() {
        return Err(PatchError::ListOfLists);
    }
    if elements.any(|it| discriminant(it) != discriminant(first)) {
        let lists = Value::Array(vec![old.to_vec().into(), change.to_vec().into()]);
        return Err(PatchError::MixedElements(GoValue(lists)));
    }
    Ok(Some(discriminant(first)))
}

/// Removes directives and nulls from what becomes part of the object; `None` if it is itself a
/// directive.
fn cleaned(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => Some(cleaned_map(fields).into()),
        Value::Array(elements) => Some(cleaned_list(elements).into()),
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            Some(scalar)
        }
    }
}

fn cleaned_map(fields: Object) -> Object {
    let is_directive = |key: &str| {
        [RETAIN_KEYS, DELETE_FROM_LIST, SET_ORDER].contains(&key.split('/').next().unwrap_or(key))
    };
    fields
        .into_iter()
        .filter(|(key, value)| !value.is_null() && !is_directive(key))
        .filter_map(|(key, value)| cleaned(value).map(|it| (key, it)))
        .collect()
}

fn cleaned_list(elements: Vec<Value>) -> Vec<Value> {
    elements.into_iter().filter_map(cleaned).collect()
}
