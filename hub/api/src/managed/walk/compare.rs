//! Which fields differ between two objects of one type.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Trail, View, entries, item_element, items, view};
use crate::managed::element::{Element, same};
use crate::managed::model::{List, MapOf, Model};
use crate::managed::set::Set;

/// The difference between two objects. No field is in two of the sets.
#[derive(Clone, Debug, Default)]
pub(in crate::managed) struct Comparison {
    pub(in crate::managed) removed: Set,
    pub(in crate::managed) modified: Set,
    pub(in crate::managed) added: Set,
}

impl Comparison {
    /// What the new object has that the old one has not, or has otherwise.
    pub(in crate::managed) fn changed(&self) -> Set {
        self.modified.clone().union(&self.added)
    }

    pub(in crate::managed) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    /// The same without the fields that `keep` does not let through.
    pub(in crate::managed) fn map(&self, keep: impl Fn(&Set) -> Set) -> Self {
        Self {
            removed: keep(&self.removed),
            modified: keep(&self.modified),
            added: keep(&self.added),
        }
    }
}

/// Compares two objects.
///
/// # Errors
/// If an item of a list cannot be told from others.
pub(in crate::managed) fn compare(
    old: &Value,
    new: &Value,
    model: &dyn Model,
) -> Result<Comparison, String> {
    let mut out = Comparison::default();
    out.walk(Trail::Root, model, Some(old), Some(new))?;
    Ok(out)
}

impl Comparison {
    fn walk(
        &mut self,
        at: Trail<'_>,
        model: &dyn Model,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Result<(), String> {
        match view(model, old, new) {
            View::Leaf => self.leaf(at, old, new),
            View::Map(map) => {
                self.map_entries(at, map, entries(old), entries(new))?;
                self.container(at, old, new);
            }
            View::Items(list) => {
                self.items(at, list, items(old), items(new))?;
                self.container(at, old, new);
            }
            View::Mixed(map) => {
                self.leaf(at, old, new);
                self.map_entries(at, map, entries(old), entries(new))?;
            }
        }
        Ok(())
    }

    fn leaf(&mut self, at: Trail<'_>, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (None, None) => {}
            (None, Some(_)) => self.added.insert(at.elements()),
            (Some(_), None) => self.removed.insert(at.elements()),
            (Some(old), Some(new)) if same(old, new) => {}
            (Some(_), Some(_)) => self.modified.insert(at.elements()),
        }
    }

    fn container(&mut self, at: Trail<'_>, old: Option<&Value>, new: Option<&Value>) {
        if old.is_none() {
            self.added.insert(at.elements());
        } else if new.is_none() {
            self.removed.insert(at.elements());
        }
    }

    fn map_entries(
        &mut self,
        at: Trail<'_>,
        map: MapOf<'_>,
        old: Option<&Map<String, Value>>,
        new: Option<&Map<String, Value>>,
    ) -> Result<(), String> {
        for (name, before) in old.into_iter().flatten() {
            match new.and_then(|it| it.get(name)) {
                Some(after) if before == after => {}
                Some(after) => self.entry(at, map, name, Some(before), Some(after))?,
                None => {
                    let after = new.and_then(|_| implied(map, name));
                    self.entry(at, map, name, Some(before), after)?;
                }
            }
        }
        for (name, after) in new.into_iter().flatten() {
            if old.is_none_or(|it| !it.contains_key(name)) {
                let before = old.and_then(|_| implied(map, name));
                self.entry(at, map, name, before, Some(after))?;
            }
        }
        // Where both are there, both have what is implied.
        let Some(only) = old.xor(new) else { return Ok(()) };
        for name in map.fields.map_or(&[][..], |it| it.implied()) {
            if !only.contains_key(name) {
                let (before, after) =
                    (old.and_then(|_| implied(map, name)), new.and_then(|_| implied(map, name)));
                self.entry(at, map, name, before, after)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        at: Trail<'_>,
        map: MapOf<'_>,
        name: &str,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Result<(), String> {
        // Nobody manages who manages what; the live object has its entries still.
        if name == "managedFields" && matches!(at, Trail::Field(Trail::Root, "metadata")) {
            return Ok(());
        }
        let Some(model) = map.model(name) else {
            return Err(format!("{at}.{name}: field not declared in schema"));
        };
        self.walk(Trail::Field(&at, name), model, old, new)
    }

    fn items(
        &mut self,
        at: Trail<'_>,
        list: List<'_>,
        old: &[Value],
        new: &[Value],
    ) -> Result<(), String> {
        let (old, new) = (index(at, list, old)?, index(at, list, new)?);
        let all: BTreeMap<&Element, ()> = old.keys().chain(new.keys()).map(|it| (it, ())).collect();
        for element in all.into_keys() {
            let before = old.get(element).map_or(&[][..], Vec::as_slice);
            let after = new.get(element).map_or(&[][..], Vec::as_slice);
            let here = Trail::Item(&at, element);
            match (before, after) {
                // Duplicates are owned together, as a whole.
                ([_, _, ..], [_, _, ..]) => {
                    let is_same = before.len() == after.len()
                        && before.iter().zip(after).all(|(one, other)| same(one, other));
                    if !is_same {
                        self.modified.insert(here.elements());
                    }
                }
                ([_, _, ..], _) => {
                    if let Some(after) = after.first() {
                        self.walk(here, list.items, None, Some(after))?;
                    }
                    self.removed.insert(here.elements());
                }
                (_, [_, _, ..]) => {
                    if let Some(before) = before.first() {
                        self.walk(here, list.items, Some(before), None)?;
                    }
                    self.added.insert(here.elements());
                }
                (before, after) => {
                    let (before, after) = (before.first().copied(), after.first().copied());
                    if before != after {
                        self.walk(here, list.items, before, after)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The value that an absent field of a present object shows.
fn implied<'a>(map: MapOf<'a>, name: &str) -> Option<&'a Value> {
    map.fields?.field(name)?.implied
}

fn index<'a>(
    at: Trail<'_>,
    list: List<'_>,
    items: &'a [Value],
) -> Result<BTreeMap<Element, Vec<&'a Value>>, String> {
    let mut out: BTreeMap<Element, Vec<&Value>> = BTreeMap::new();
    for (i, item) in items.iter().enumerate() {
        let element =
            item_element(list, item).map_err(|why| format!("{at}: element {i}: {why}"))?;
        out.entry(element).or_default().push(item);
    }
    Ok(out)
}
