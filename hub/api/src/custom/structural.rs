//! Structural schemas, read from `openAPIV3Schema` once and walked many times.
//!
//! What is read here was validated when the definition was written; what is malformed all the
//! same (an old store) allows everything at its place instead of failing.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value};

use super::rules::Rules;
use crate::schema::Type;

/// Deepest nesting of a schema that is followed.
pub(crate) const MAX_SCHEMA_DEPTH: u8 = 60;
/// Largest compiled pattern, in bytes.
const MAX_PATTERN_SIZE: usize = 1 << 20;

/// The schema of one place.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// JSON type; absent where any is allowed.
    pub ty: Option<Type>,
    /// Whether `null` is a value.
    pub nullable: bool,
    /// Value of an absent field.
    pub default: Option<Value>,
    /// Fields.
    pub properties: BTreeMap<String, Self>,
    /// Values of a map.
    pub additional: Option<Additional>,
    /// Items of a list.
    pub items: Option<Box<Self>>,
    /// Whether unknown fields are kept.
    pub preserves: bool,
    /// Whether this is a whole object with its kind and metadata.
    pub embedded: bool,
    /// Whether this is an integer or a string.
    pub int_or_string: bool,
    /// `atomic`, `set` or `map`; empty is `atomic`.
    pub list_type: String,
    /// Keys of the items of a `map` list.
    pub list_map_keys: Vec<String>,
    /// `atomic` or `granular`; empty is `granular`.
    pub map_type: String,
    /// What values must be.
    pub checks: Checks,
    /// CEL rules.
    pub rules: Rules,
    /// Whether here or below are CEL rules.
    has_rules: bool,
}

/// The values of a map.
#[derive(Clone, Debug)]
pub enum Additional {
    /// Anything, or nothing.
    Any(bool),
    /// What the schema says.
    Schema(Box<Node>),
}

/// What values must be, beyond their structure.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// Form of a text or size of a number.
    pub format: String,
    /// Least number, and whether it is excluded.
    pub minimum: Option<(f64, bool)>,
    /// Greatest number, and whether it is excluded.
    pub maximum: Option<(f64, bool)>,
    /// Divisor.
    pub multiple_of: Option<f64>,
    /// Least number of characters.
    pub min_length: Option<u64>,
    /// Greatest number of characters.
    pub max_length: Option<u64>,
    /// What a text must contain, and as it was written.
    pub pattern: Option<(String, Option<Regex>)>,
    /// Least number of items.
    pub min_items: Option<u64>,
    /// Greatest number of items.
    pub max_items: Option<u64>,
    /// Least number of fields.
    pub min_properties: Option<u64>,
    /// Greatest number of fields.
    pub max_properties: Option<u64>,
    /// Fields that must be there.
    pub required: Vec<String>,
    /// The only values.
    pub allowed: Option<Vec<Value>>,
    /// All must hold.
    pub all_of: Vec<Node>,
    /// At least one must hold.
    pub any_of: Vec<Node>,
    /// Exactly one must hold.
    pub one_of: Vec<Node>,
    /// Must not hold.
    pub not: Option<Box<Node>>,
}

impl Node {
    /// A place where everything is allowed.
    pub fn open() -> Self {
        Self { preserves: true, ..Self::default() }
    }

    /// Reads `openAPIV3Schema`.
    pub fn read(schema: &Value) -> Self {
        Self::read_at(schema, 0)
    }

    fn read_at(schema: &Value, depth: u8) -> Self {
        if depth > MAX_SCHEMA_DEPTH {
            return Self::open();
        }
        let flag = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
        let text =
            |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let below = |it: &Value| Self::read_at(it, depth + 1);
        let properties = schema.get("properties").and_then(Value::as_object);
        let properties = properties.into_iter().flatten();
        let mut node = Self {
            ty: type_of(schema),
            nullable: flag("nullable"),
            default: schema.get("default").filter(|it| !it.is_null()).cloned(),
            properties: properties.map(|(key, it)| (key.clone(), below(it))).collect(),
            additional: match schema.get("additionalProperties") {
                None | Some(Value::Null) => None,
                Some(Value::Bool(any)) => Some(Additional::Any(*any)),
                Some(schema) => Some(Additional::Schema(Box::new(below(schema)))),
            },
            items: schema.get("items").filter(|it| it.is_object()).map(|it| Box::new(below(it))),
            preserves: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            list_type: text("x-kubernetes-list-type"),
            list_map_keys: texts(schema.get("x-kubernetes-list-map-keys")),
            map_type: text("x-kubernetes-map-type"),
            checks: Checks::read(schema, depth),
            rules: Rules::read(schema),
            has_rules: false,
        };
        let values = match &node.additional {
            Some(Additional::Schema(values)) => Some(&**values),
            Some(Additional::Any(_)) | None => None,
        };
        let mut below = node.properties.values().chain(node.items.as_deref()).chain(values);
        node.has_rules = !node.rules.is_empty() || below.any(|it| it.has_rules);
        node
    }

    /// Whether here or below are CEL rules.
    pub fn has_rules(&self) -> bool {
        self.has_rules
    }

    /// The schema of a field or of the value of a map.
    pub fn field(&self, key: &str) -> Option<&Self> {
        match (self.properties.get(key), &self.additional) {
            (Some(node), _) => Some(node),
            (None, Some(Additional::Schema(node))) => Some(node),
            (None, Some(Additional::Any(_)) | None) => None,
        }
    }

    /// The schema at a dotted path of fields, such as `.spec.replicas`.
    pub fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').filter(|it| !it.is_empty()).try_fold(self, |node, key| node.field(key))
    }
}

impl Checks {
    fn read(schema: &Value, depth: u8) -> Self {
        let number = |key: &str| schema.get(key).and_then(Value::as_f64);
        let count = |key: &str| schema.get(key).and_then(Value::as_u64);
        let flag = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
        let nodes = |key: &str| -> Vec<Node> {
            let items = schema.get(key).and_then(Value::as_array).into_iter().flatten();
            items.map(|it| Node::read_at(it, depth + 1)).collect()
        };
        let pattern = schema.get("pattern").and_then(Value::as_str).filter(|it| !it.is_empty());
        Self {
            format: schema.get("format").and_then(Value::as_str).unwrap_or_default().to_owned(),
            minimum: number("minimum").map(|it| (it, flag("exclusiveMinimum"))),
            maximum: number("maximum").map(|it| (it, flag("exclusiveMaximum"))),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            pattern: pattern.map(|it| (it.to_owned(), compile(it).ok())),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            required: texts(schema.get("required")),
            allowed: schema.get("enum").and_then(Value::as_array).cloned(),
            all_of: nodes("allOf"),
            any_of: nodes("anyOf"),
            one_of: nodes("oneOf"),
            not: schema
                .get("not")
                .filter(|it| it.is_object())
                .map(|it| Box::new(Node::read_at(it, depth + 1))),
        }
    }
}

/// Compiles a pattern: the syntax of RE2, in bounded space.
pub(crate) fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(pattern).size_limit(MAX_PATTERN_SIZE).build()
}

pub(crate) fn type_of(schema: &Value) -> Option<Type> {
    Some(match schema.get("type")?.as_str()? {
        "object" => Type::Object,
        "array" => Type::Array,
        "string" => Type::String,
        "integer" => Type::Integer,
        "number" => Type::Number,
        "boolean" => Type::Boolean,
        _ => return None,
    })
}

pub(crate) fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|it| it.as_str().map(str::to_owned)).collect()
}

/// Fills in the values of absent fields, and takes away `null` where it is no value.
///
/// See <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#defaulting>.
pub fn fill(value: &mut Value, node: &Node) {
    match value {
        Value::Object(map) => {
            fill_fields(map, node);
            for (key, value) in map.iter_mut() {
                if let Some(node) = node.field(key) {
                    fill(value, node);
                }
            }
        }
        Value::Array(items) => {
            if let Some(node) = &node.items {
                for item in items {
                    if let Some(default) = node.default.as_ref().filter(|_| item.is_null()) {
                        *item = default.clone();
                    }
                    fill(item, node);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn fill_fields(map: &mut Map<String, Value>, node: &Node) {
    for (key, field) in &node.properties {
        let Some(default) = &field.default else { continue };
        let is_absent = map.get(key).is_none_or(|it| it.is_null() && !field.nullable);
        if is_absent {
            map.insert(key.clone(), default.clone());
        }
    }
    let in_map = match &node.additional {
        Some(Additional::Schema(node)) => Some(node),
        Some(Additional::Any(_)) | None => None,
    };
    let mut gone = Vec::new();
    for (key, value) in map.iter_mut().filter(|(_, value)| value.is_null()) {
        match (node.properties.get(key), in_map) {
            (Some(field), _) if !field.nullable => gone.push(key.clone()),
            (None, Some(field)) if !field.nullable => match &field.default {
                Some(default) => *value = default.clone(),
                None => gone.push(key.clone()),
            },
            _ => {}
        }
    }
    for key in gone {
        map.remove(&key);
    }
}

/// Takes away what the schema does not know. Returns where it stood, at most so many places.
pub fn prune(object: &mut Value, node: &Node, most: usize) -> Vec<String> {
    let mut found = Vec::new();
    prune_at(object, node, true, "", &mut |path: String| {
        if found.len() < most {
            found.push(path);
        }
    });
    found.sort();
    found
}

const TYPE_META: [&str; 3] = ["apiVersion", "kind", "metadata"];

fn prune_at(
    value: &mut Value,
    node: &Node,
    is_resource: bool,
    path: &str,
    found: &mut dyn FnMut(String),
) {
    match value {
        Value::Object(map) => {
            let is_resource = is_resource || node.embedded;
            let takes_any =
                node.preserves || matches!(node.additional, Some(Additional::Any(true)));
            let mut gone = Vec::new();
            for (key, value) in map.iter_mut() {
                if is_resource && TYPE_META.contains(&key.as_str()) {
                    continue;
                }
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match node.field(key) {
                    Some(node) => prune_at(value, node, false, &path, found),
                    None if takes_any => {}
                    None => {
                        gone.push(key.clone());
                        found(path);
                    }
                }
            }
            for key in gone {
                map.remove(&key);
            }
        }
        Value::Array(items) => {
            let Some(node) = &node.items else { return };
            for (index, item) in items.iter_mut().enumerate() {
                prune_at(item, node, false, &format!("{path}[{index}]"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
