//! Sets of fields, and their form in objects: `FieldsV1`.
//!
//! A set is a tree. That a field is in the set says nothing of the fields below it, nor of those
//! above: `f:spec` alone, `f:spec.f:replicas` alone, and both are three different sets.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::element::Element;
use super::model::{Model, Shape};

/// Deepest nesting that is read. Far above any Kubernetes type.
const MAX_DEPTH: u8 = 120;

/// A set of fields.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Set {
    /// No node is without a member in or below it.
    nodes: BTreeMap<Element, Node>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Node {
    is_member: bool,
    below: Set,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.is_member && self.below.is_empty()
    }
}

/// A field, as the steps to it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FieldPath(pub Vec<Element>);

/// As in messages: `.spec.containers[name="web"].image`.
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|it| write!(f, "{it}"))
    }
}

impl Set {
    /// A set of fields that are named by their dotted paths, such as `metadata.labels`.
    pub fn of_fields(paths: &[&str]) -> Self {
        let mut out = Self::default();
        for path in paths {
            out.insert(path.split('.').map(Element::field));
        }
        out
    }

    /// Adds a field. The whole object (an empty path) belongs to nobody.
    pub fn insert(&mut self, path: impl IntoIterator<Item = Element>) {
        let mut at = self;
        let mut path = path.into_iter().peekable();
        while let Some(element) = path.next() {
            let node = at.nodes.entry(element).or_default();
            if path.peek().is_none() {
                node.is_member = true;
            }
            at = &mut node.below;
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether the field is in it.
    pub fn has(&self, path: &[Element]) -> bool {
        let Some((last, above)) = path.split_last() else { return false };
        let mut at = self;
        for element in above {
            match at.nodes.get(element) {
                Some(node) => at = &node.below,
                None => return false,
            }
        }
        at.nodes.get(last).is_some_and(|it| it.is_member)
    }

    /// Whether the field below this place is in it.
    pub(super) fn has_here(&self, element: &str) -> bool {
        self.nodes.get(element).is_some_and(|it| it.is_member)
    }

    /// What lies below a step, with that step left off.
    pub(super) fn below(&self, element: &str) -> Option<&Self> {
        self.nodes.get(element).map(|it| &it.below).filter(|it| !it.is_empty())
    }

    /// The steps from here: each, whether it is a member, and what lies below.
    pub(super) fn steps(&self) -> impl Iterator<Item = (&Element, bool, &Self)> {
        self.nodes.iter().map(|(element, node)| (element, node.is_member, &node.below))
    }

    /// Whether `FieldsV1` names one of the fields of the set, or fields below one that it does not
    /// name itself. Reads no more of them than the set has.
    pub(super) fn touches(&self, fields: &Value) -> bool {
        self.nodes.iter().any(|(element, node)| {
            let Some(there) = fields.get(element.as_str()) else { return false };
            node.is_member || node.below.touches(there)
        })
    }

    /// Whether `FieldsV1` names all fields of the set.
    pub(super) fn is_covered_by(&self, fields: &Value) -> bool {
        self.nodes.iter().all(|(element, node)| {
            let Some(there) = fields.get(element.as_str()).and_then(Value::as_object) else {
                return false;
            };
            let is_named = there.is_empty() || there.contains_key(".");
            let below =
                || fields.get(element.as_str()).is_some_and(|it| node.below.is_covered_by(it));
            (is_named || !node.is_member) && (node.below.is_empty() || below())
        })
    }

    /// What is in one or the other.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.add(other);
        self
    }

    /// Adds what is in the other.
    pub fn add(&mut self, other: &Self) {
        for (element, node) in &other.nodes {
            match self.nodes.get_mut(element) {
                Some(here) => {
                    here.is_member |= node.is_member;
                    here.below.add(&node.below);
                }
                None => {
                    self.nodes.insert(element.clone(), node.clone());
                }
            }
        }
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self::default();
        for (element, node) in &self.nodes {
            let Some(there) = other.nodes.get(element) else { continue };
            let both = Node {
                is_member: node.is_member && there.is_member,
                below: node.below.intersection(&there.below),
            };
            if !both.is_empty() {
                out.nodes.insert(element.clone(), both);
            }
        }
        out
    }

    /// What is here and not in the other. Fields below a field of the other stay.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.without(other, false)
    }

    /// What is neither in the other nor below a field of the other.
    #[must_use]
    pub fn recursive_difference(&self, other: &Self) -> Self {
        self.without(other, true)
    }

    fn without(&self, other: &Self, recursive: bool) -> Self {
        let mut out = Self::default();
        for (element, node) in &self.nodes {
            let left = match other.nodes.get(element) {
                None => node.clone(),
                Some(there) if recursive && there.is_member => continue,
                Some(there) => Node {
                    is_member: node.is_member && !there.is_member,
                    below: node.below.without(&there.below, recursive),
                },
            };
            if !left.is_empty() {
                out.nodes.insert(element.clone(), left);
            }
        }
        out
    }

    /// Keeps what is in the filter or below a field of the filter.
    #[must_use]
    pub fn within(&self, filter: &Self) -> Self {
        let mut out = Self::default();
        for (element, node) in &self.nodes {
            let kept = match filter.nodes.get(element) {
                None => continue,
                Some(there) if there.is_member => node.clone(),
                Some(there) => Node { is_member: false, below: node.below.within(&there.below) },
            };
            if !kept.is_empty() {
                out.nodes.insert(element.clone(), kept);
            }
        }
        out
    }

    /// Adds the declared fields above the fields that are in the set. Keys of maps are not added.
    #[must_use]
    pub fn with_named_fields(&self, model: &dyn Model) -> Self {
        let mut out = Self::default();
        let shape = model.shape();
        for (element, node) in &self.nodes {
            let name = element.field_name();
            let declared = match (shape, name) {
                (Shape::Map(map), Some(name)) => map.fields.and_then(|it| it.field(name)),
                _ => None,
            };
            let below_model = match (declared, shape) {
                (Some(field), _) => Some(field.model),
                (None, Shape::Map(map)) => map.values,
                (None, Shape::List(list)) => Some(list.items),
                (None, Shape::Scalar(_) | Shape::Deduced | Shape::Whole) => None,
            };
            let below = match below_model {
                Some(model) => node.below.with_named_fields(model),
                None => node.below.clone(),
            };
            let is_member = node.is_member || (declared.is_some() && !below.is_empty());
            out.nodes.insert(element.clone(), Node { is_member, below });
        }
        out
    }

    /// All fields in order: those of a place before those below it.
    pub fn paths(&self) -> Vec<FieldPath> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, above: &mut Vec<Element>, out: &mut Vec<FieldPath>) {
        for (element, _) in self.nodes.iter().filter(|(_, node)| node.is_member) {
            above.push(element.clone());
            out.push(FieldPath(above.clone()));
            above.pop();
        }
        for (element, node) in &self.nodes {
            above.push(element.clone());
            node.below.collect(above, out);
            above.pop();
        }
    }

    /// Reads `FieldsV1`.
    ///
    /// # Errors
    /// If it is not of that form.
    pub fn parse(fields: &Value) -> Result<Self, String> {
        let Value::Object(fields) = fields else {
            return Err("fieldsV1 is not an object".to_owned());
        };
        read(fields, 0).map(|(set, _)| set)
    }

    /// Writes `FieldsV1`.
    pub fn to_value(&self) -> Value {
        Value::Object(self.write(false))
    }

    fn write(&self, with_self: bool) -> Map<String, Value> {
        let mut out = Map::new();
        if with_self && !self.is_empty() {
            out.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, node) in &self.nodes {
            let below = node.below.write(node.is_member);
            out.insert(element.as_str().to_owned(), Value::Object(below));
        }
        out
    }
}

/// What is below, and whether the place itself is a member.
fn read(fields: &Map<String, Value>, depth: u8) -> Result<(Set, bool), String> {
    if depth > MAX_DEPTH {
        return Err("fieldsV1 is nested too deep".to_owned());
    }
    let mut set = Set::default();
    let mut is_member = false;
    for (text, below) in fields {
        if text == "." {
            is_member = true;
            continue;
        }
        let Some(element) = Element::parse(text)? else { continue };
        let Value::Object(below) = below else {
            return Err(format!("fieldsV1: {text} is not an object"));
        };
        let (below, is_member) = read(below, depth + 1)?;
        let node = Node { is_member, below };
        if !node.is_empty() {
            set.nodes.insert(element, node);
        }
    }
    is_member |= set.is_empty();
    Ok((set, is_member))
}
