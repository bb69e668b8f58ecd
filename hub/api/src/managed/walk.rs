//! What all walks over typed values share: which view of a value the type gives, what makes an item
//! of a list itself, and where we are.

mod check;
mod compare;
mod fields;
mod merge;
mod reconcile;
mod remove;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::element::Element;
use super::model::{Deduced, List, MapOf, Model, Relation, Shape};
use crate::status::quote;

pub(super) use check::check;
pub(super) use compare::{Comparison, compare};
pub(super) use fields::fields;
pub(super) use merge::merge;
pub(super) use reconcile::reconcile;
pub(super) use remove::remove;

/// The steps to a place, kept on the stack.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trail<'a> {
    Root,
    Field(&'a Self, &'a str),
    Item(&'a Self, &'a Element),
    Index(&'a Self, usize),
}

impl Trail<'_> {
    /// The steps, from the root.
    pub(super) fn elements(&self) -> Vec<Element> {
        let mut out = Vec::new();
        let mut at = self;
        loop {
            at = match at {
                Self::Root => break,
                Self::Field(above, name) => {
                    out.push(Element::field(name));
                    above
                }
                Self::Item(above, element) => {
                    out.push((*element).clone());
                    above
                }
                // Nobody owns items of lists that are owned as a whole.
                Self::Index(above, _) => above,
            };
        }
        out.reverse();
        out
    }
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(above, name) => write!(f, "{above}.{name}"),
            Self::Item(above, element) => write!(f, "{above}{element}"),
            Self::Index(above, index) => write!(f, "{above}[{index}]"),
        }
    }
}

/// How two values at one place are looked at.
pub(super) enum View<'a> {
    /// As wholes.
    Leaf,
    /// Key by key.
    Map(MapOf<'a>),
    /// Item by item.
    Items(List<'a>),
    /// One is a map, the other is not; only where the type is deduced.
    Mixed(MapOf<'a>),
}

/// The map that a value of no type is.
pub(super) const DEDUCED_MAP: MapOf<'static> =
    MapOf { is_atomic: false, fields: None, values: Some(&Deduced) };

/// The view of two values, one of which may be absent. Two empty ones are leaves, so that empty and
/// absent stay apart.
pub(super) fn view<'a>(
    model: &'a dyn Model,
    one: Option<&Value>,
    other: Option<&Value>,
) -> View<'a> {
    let map_view = |map: MapOf<'a>| {
        let both_empty =
            entries(one).is_none_or(Map::is_empty) && entries(other).is_none_or(Map::is_empty);
        if map.is_atomic || both_empty { View::Leaf } else { View::Map(map) }
    };
    match model.shape() {
        Shape::Scalar(_) | Shape::Whole => View::Leaf,
        Shape::Map(map) => map_view(map),
        Shape::List(list) => {
            let is_leaf = matches!(list.relation, Relation::Atomic)
                || (items(one).is_empty() && items(other).is_empty());
            if is_leaf { View::Leaf } else { View::Items(list) }
        }
        Shape::Deduced => {
            let is_map = |it: Option<&Value>| it.filter(|it| !it.is_null()).map(Value::is_object);
            match (is_map(one), is_map(other)) {
                (Some(true), Some(true) | None) | (None, Some(true)) => map_view(DEDUCED_MAP),
                (Some(true), Some(false)) | (Some(false), Some(true)) => View::Mixed(DEDUCED_MAP),
                (Some(false) | None, Some(false) | None) => View::Leaf,
            }
        }
    }
}

/// The entries of a map; none of what is no map.
pub(super) fn entries(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

/// The items of a list; none of what is no list.
pub(super) fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What makes the item itself in a list that is not owned as a whole.
///
/// # Errors
/// In Kubernetes' words.
pub(super) fn item_element(list: List<'_>, item: &Value) -> Result<Element, String> {
    let Relation::Keys(keys) = list.relation else {
        return match item {
            Value::Object(_) => {
                Err("associative list without keys has an element that's a map type".to_owned())
            }
            Value::Array(_) => {
                Err("not supported: associative list with lists as elements".to_owned())
            }
            Value::Null => {
                Err("associative list without keys has an element that's an explicit null"
                    .to_owned())
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(Element::value(item)),
        };
    };
    if item.is_null() {
        return Err("associative list with keys may not have a null element".to_owned());
    }
    let Value::Object(item) = item else {
        return Err("associative list with keys may not have non-map elements".to_owned());
    };
    let fields = match list.items.shape() {
        Shape::Map(map) => map.fields,
        Shape::Scalar(_) | Shape::List(_) | Shape::Deduced | Shape::Whole => None,
    };
    let default = |key: &str| fields.and_then(|it| it.field(key)).and_then(|it| it.default);
    let known: BTreeMap<&str, &Value> = keys
        .iter()
        .filter_map(|key| Some((key.as_str(), item.get(key).or_else(|| default(key))?)))
        .collect();
    if known.is_empty() {
        let keys: Vec<String> = keys.iter().map(|it| quote(it)).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            keys.join(" ")
        ));
    }
    Ok(Element::key(&known))
}
