//! What a schema must be to be structural, checked when a definition is written.
//!
//! See <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>.

use serde_json::Value;

use super::check::check;
use super::estimate;
use super::rules::Rule;
use super::structural::{MAX_SCHEMA_DEPTH, Node, compile, prune, texts};
use super::typing::undefined_field;
use crate::path::Path;
use crate::status::FieldError;

/// Places of a schema that are looked at; a larger one is refused.
const MAX_PLACES: usize = 20_000;
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const FORBIDDEN: [&str; 6] =
    ["$ref", "additionalItems", "definitions", "dependencies", "id", "patternProperties"];
/// What may not stand below `allOf`, `anyOf`, `oneOf` and `not`.
const NOT_IN_CHOICES: [&str; 12] = [
    "type",
    "default",
    "title",
    "description",
    "nullable",
    "additionalProperties",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
];
const CHOICES: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// Checks the schema of one version.
pub(super) fn validate(schema: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut look = Look { errors: Vec::new(), places: 0 };
    look.structure(schema, path, Place::Root, 0);
    if look.errors.is_empty() {
        let node = Node::read(schema);
        look.content(schema, &node, path, true, Correlation::default());
        estimate::check(&node, path, &mut look.errors);
    }
    look.errors
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Place {
    Root,
    Field,
    Items,
    Values,
}

/// Whether a value can be matched with the one that was there before.
#[derive(Clone, Copy, Default)]
struct Correlation {
    lost: bool,
}

struct Look {
    errors: Vec<FieldError>,
    places: usize,
}

impl Look {
    fn structure(&mut self, schema: &Value, path: &Path<'_>, place: Place, depth: u8) {
        self.places += 1;
        if self.places == MAX_PLACES || depth == MAX_SCHEMA_DEPTH {
            self.errors.push(FieldError::invalid(path, "", "the schema is too large or too deep"));
        }
        if self.places >= MAX_PLACES || depth >= MAX_SCHEMA_DEPTH || self.errors.len() > 50 {
            return;
        }
        if !schema.is_object() {
            self.errors.push(FieldError::type_invalid(path, schema.clone(), "must be an object"));
            return;
        }
        self.type_of(schema, path, place);
        self.forbidden(schema, path, place);
        self.lists(schema, path);
        self.values(schema, path);
        for key in CHOICES {
            let items = schema.get(key).and_then(Value::as_array).into_iter().flatten();
            let path = path.field(key);
            for (index, item) in items.enumerate() {
                self.choice(item, schema, &path.index(index), depth + 1);
            }
        }
        if let Some(not) = schema.get("not").filter(|it| !it.is_null()) {
            self.choice(not, schema, &path.field("not"), depth + 1);
        }
        for (key, below) in entries(schema, "properties") {
            let at = path.field("properties");
            self.structure(below, &at.key(key), Place::Field, depth + 1);
        }
        if let Some(items) = schema.get("items").filter(|it| it.is_object()) {
            self.structure(items, &path.field("items"), Place::Items, depth + 1);
        }
        if let Some(values) = schema.get("additionalProperties").filter(|it| it.is_object()) {
            self.structure(values, &path.field("additionalProperties"), Place::Values, depth + 1);
        }
    }

    fn type_of(&mut self, schema: &Value, path: &Path<'_>, place: Place) {
        let ty = text(schema, "type");
        let at = path.field("type");
        let is_either = flag(schema, "x-kubernetes-int-or-string");
        let preserves = flag(schema, "x-kubernetes-preserve-unknown-fields");
        if ty.is_empty() && !is_either && !preserves {
            let what = match place {
                Place::Root => "must not be empty at the root",
                Place::Items => "must not be empty for specified array items",
                Place::Field | Place::Values => "must not be empty for specified object fields",
            };
            self.errors.push(FieldError::required(at, what));
        } else if ty == "null" {
            let what = "type cannot be set to null, use nullable as an alternative";
            self.errors.push(FieldError::forbidden(at, what));
        } else if !ty.is_empty() && !TYPES.contains(&ty) {
            self.errors.push(FieldError::not_supported(at, ty, &TYPES));
        }
        if place == Place::Root && !ty.is_empty() && ty != "object" {
            self.errors.push(FieldError::invalid(at, ty, "must be object at the root"));
        }
        if is_either && !ty.is_empty() {
            let what = "must be empty if x-kubernetes-int-or-string is true";
            self.errors.push(FieldError::invalid(at, ty, what));
        }
        if flag(schema, "x-kubernetes-embedded-resource") {
            if ty != "object" {
                let what = "must be object if x-kubernetes-embedded-resource is true";
                self.errors.push(FieldError::invalid(at, ty, what));
            }
            if !preserves && entries(schema, "properties").next().is_none() {
                let what = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
                self.errors.push(FieldError::required(path.field("properties"), what));
            }
        }
        if ty == "array" && schema.get("items").is_none_or(Value::is_null) {
            self.errors.push(FieldError::required(path.field("items"), "must be specified"));
        }
        if place == Place::Root && flag(schema, "nullable") {
            let what = "nullable cannot be true at the root";
            self.errors.push(FieldError::forbidden(path.field("nullable"), what));
        }
    }

    fn forbidden(&mut self, schema: &Value, path: &Path<'_>, place: Place) {
        for key in FORBIDDEN {
            if schema.get(key).is_some_and(|it| !it.is_null()) {
                let what = format!("{key} is not supported");
                self.errors.push(FieldError::forbidden(path.field(key), what));
            }
        }
        if flag(schema, "uniqueItems") {
            let what =
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.errors.push(FieldError::forbidden(path.field("uniqueItems"), what));
        }
        if schema.get("items").is_some_and(Value::is_array) {
            let what = "items must be a schema object and not an array";
            self.errors.push(FieldError::forbidden(path.field("items"), what));
        }
        let at = path.field("additionalProperties");
        match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => {
                let what = "additionalProperties cannot be set to false";
                self.errors.push(FieldError::forbidden(at, what));
            }
            Some(Value::Bool(true) | Value::Object(_))
                if entries(schema, "properties").next().is_some() =>
            {
                let what = "additionalProperties and properties are mutual exclusive";
                self.errors.push(FieldError::forbidden(at, what));
            }
            Some(_) if place == Place::Root => {
                let what = "must not be used at the root";
                self.errors.push(FieldError::forbidden(at, what));
            }
            Some(_) | None => {}
        }
        if place == Place::Root || flag(schema, "x-kubernetes-embedded-resource") {
            self.metadata(schema, path);
        }
        if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
            let at = path.field("x-kubernetes-preserve-unknown-fields");
            self.errors.push(FieldError::invalid(at, false, "must be true or undefined"));
        }
    }

    /// Of metadata, only the name may be narrowed.
    fn metadata(&mut self, schema: &Value, path: &Path<'_>) {
        let properties = path.field("properties");
        let at = properties.key("metadata");
        let Some(metadata) = schema.get("properties").and_then(|it| it.get("metadata")) else {
            return;
        };
        let names = ["name", "generateName"];
        let is_plain = metadata.as_object().is_none_or(|it| {
            it.keys().all(|key| ["type", "properties", "description"].contains(&key.as_str()))
        }) && entries(metadata, "properties").all(|(key, _)| names.contains(&key));
        if !is_plain {
            let what = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            self.errors.push(FieldError::forbidden(at, what));
        }
    }

    fn lists(&mut self, schema: &Value, path: &Path<'_>) {
        let list_type = text(schema, "x-kubernetes-list-type");
        let at = path.field("x-kubernetes-list-type");
        let keys = texts(schema.get("x-kubernetes-list-map-keys"));
        let keys_at = path.field("x-kubernetes-list-map-keys");
        if !list_type.is_empty() {
            if text(schema, "type") != "array" {
                let what = "must be array if x-kubernetes-list-type is specified";
                self.errors.push(FieldError::invalid(
                    path.field("type"),
                    text(schema, "type"),
                    what,
                ));
            }
            if !["atomic", "map", "set"].contains(&list_type) {
                let known = ["atomic", "map", "set"];
                self.errors.push(FieldError::not_supported(at, list_type, &known));
            }
        }
        let map_type = text(schema, "x-kubernetes-map-type");
        if !map_type.is_empty() && !["atomic", "granular"].contains(&map_type) {
            let at = path.field("x-kubernetes-map-type");
            self.errors.push(FieldError::not_supported(at, map_type, &["atomic", "granular"]));
        }
        if !keys.is_empty() && list_type != "map" {
            let what = "must be map if x-kubernetes-list-map-keys is non-empty";
            self.errors.push(FieldError::invalid(at, list_type, what));
        }
        if list_type != "map" {
            return;
        }
        if keys.is_empty() {
            let what = "must not be empty if x-kubernetes-list-type is map";
            self.errors.push(FieldError::required(keys_at, what));
        }
        let items = schema.get("items").unwrap_or(&Value::Null);
        let items_at = path.field("items");
        if text(items, "type") != "object" {
            let what = "must be object if parent array's x-kubernetes-list-type is map";
            self.errors.push(FieldError::invalid(
                items_at.field("type"),
                text(items, "type"),
                what,
            ));
            return;
        }
        let required = texts(items.get("required"));
        let properties_at = items_at.field("properties");
        for (index, key) in keys.iter().enumerate() {
            let Some(property) = items.get("properties").and_then(|it| it.get(key)) else {
                let what = "entries must all be names of item properties";
                let at = keys_at.index(index);
                self.errors.push(FieldError::invalid(at, key.as_str(), what));
                continue;
            };
            let at = properties_at.key(key);
            if ["array", "object"].contains(&text(property, "type")) {
                let what = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                let ty = text(property, "type");
                self.errors.push(FieldError::invalid(at.field("type"), ty, what));
            }
            if !required.contains(key) && property.get("default").is_none() {
                let what = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                self.errors.push(FieldError::required(at.field("default"), what));
            }
        }
    }

    fn values(&mut self, schema: &Value, path: &Path<'_>) {
        let pattern = text(schema, "pattern");
        if let Some(err) =
            Some(pattern).filter(|it| !it.is_empty()).and_then(|it| compile(it).err())
        {
            let what = format!("must be a valid regular expression, but isn't: {}", one_line(&err));
            self.errors.push(FieldError::invalid(path.field("pattern"), pattern, what));
        }
        for (index, rule) in list(schema, "x-kubernetes-validations").iter().enumerate() {
            let rules = path.field("x-kubernetes-validations");
            let at = rules.index(index);
            if text(rule, "rule").trim().is_empty() {
                let what = "rule is not specified";
                self.errors.push(FieldError::required(at.field("rule"), what));
            }
            let message = text(rule, "message");
            if message.contains(['\n', '\r']) {
                let what = "message must not contain line breaks";
                self.errors.push(FieldError::invalid(at.field("message"), message, what));
            }
            if text(rule, "rule").contains(['\n', '\r']) && message.is_empty() {
                let what = "message must be specified if rule contains line breaks";
                self.errors.push(FieldError::required(at.field("message"), what));
            }
            let reason = text(rule, "reason");
            let known = [
                "FieldValueRequired",
                "FieldValueInvalid",
                "FieldValueForbidden",
                "FieldValueDuplicate",
            ];
            if !reason.is_empty() && !known.contains(&reason) {
                self.errors.push(FieldError::not_supported(at.field("reason"), reason, &known));
            }
        }
    }

    /// Below choices only values are narrowed; what there is says the structure outside.
    fn choice(&mut self, schema: &Value, outside: &Value, path: &Path<'_>, depth: u8) {
        self.places += 1;
        if self.places >= MAX_PLACES || depth >= MAX_SCHEMA_DEPTH || self.errors.len() > 50 {
            return;
        }
        for key in NOT_IN_CHOICES {
            // The two types of an integer or string may be told apart.
            let is_either = key == "type" && flag(outside, "x-kubernetes-int-or-string");
            if schema.get(key).is_some_and(|it| !it.is_null() && *it != false) && !is_either {
                let what = "must be empty to be structural";
                self.errors.push(FieldError::forbidden(path.field(key), what));
            }
        }
        self.values(schema, path);
        for (key, below) in entries(schema, "properties") {
            let properties = path.field("properties");
            let at = properties.key(key);
            match outside.get("properties").and_then(|it| it.get(key)) {
                Some(outside) => self.choice(below, outside, &at, depth + 1),
                None => {
                    let what = format!("because it is defined in {at}");
                    let missing = format!("{}.properties[{key}]", outer(path));
                    self.errors.push(FieldError::required(missing, what));
                }
            }
        }
        if let Some(items) = schema.get("items").filter(|it| it.is_object()) {
            let outside = outside.get("items").unwrap_or(&Value::Null);
            self.choice(items, outside, &path.field("items"), depth + 1);
        }
        for key in CHOICES {
            let at = path.field(key);
            for (index, item) in list(schema, key).iter().enumerate() {
                self.choice(item, outside, &at.index(index), depth + 1);
            }
        }
        if let Some(not) = schema.get("not").filter(|it| it.is_object()) {
            self.choice(not, outside, &path.field("not"), depth + 1);
        }
    }

    /// Defaults must fit, and rules must compile.
    fn content(
        &mut self,
        schema: &Value,
        node: &Node,
        path: &Path<'_>,
        is_root: bool,
        correlation: Correlation,
    ) {
        if let Some(default) = &node.default {
            self.default(default, node, path);
        }
        let rules = path.field("x-kubernetes-validations");
        for (index, rule) in node.rules.iter().enumerate() {
            self.rule(rule, node, &rules.index(index), is_root || node.embedded, correlation);
        }
        for (key, below) in &node.properties {
            let Some(schema) = schema.get("properties").and_then(|it| it.get(key)) else {
                continue;
            };
            let properties = path.field("properties");
            self.content(schema, below, &properties.key(key), false, correlation);
        }
        let lost = correlation.lost || node.list_type != "map";
        if let (Some(schema), Some(below)) = (schema.get("items"), &node.items) {
            self.content(schema, below, &path.field("items"), false, Correlation { lost });
        }
        if let (Some(schema), Some(super::structural::Additional::Schema(below))) =
            (schema.get("additionalProperties"), &node.additional)
        {
            self.content(schema, below, &path.field("additionalProperties"), false, correlation);
        }
    }

    fn default(&mut self, default: &Value, node: &Node, path: &Path<'_>) {
        let at = path.field("default");
        if default.is_null() && !node.nullable {
            let what = "must not be null unless nullable is true";
            self.errors.push(FieldError::invalid(at, Value::Null, what));
            return;
        }
        let mut pruned = default.clone();
        // A schema may prune what no resource is: the wrapper keeps this from being one.
        let unknown = match pruned.is_object() && !node.embedded {
            true => {
                let mut wrapped = serde_json::json!({ "value": pruned });
                let mut outer = Node::default();
                outer.properties.insert("value".to_owned(), node.clone());
                let unknown = prune(&mut wrapped, &outer, 1);
                pruned = wrapped["value"].take();
                unknown
            }
            false => prune(&mut pruned, node, 1),
        };
        if !unknown.is_empty() {
            let what = "must not have unknown fields";
            self.errors.push(FieldError::invalid(at, default.clone(), what));
        }
        for mut error in check(&pruned, node) {
            let below = error.field.clone();
            error.field = match below.as_str() {
                "" | "<nil>" => at.to_string(),
                field => format!("{at}.{field}"),
            };
            error.detail = match below.as_str() {
                "" => format!("{}{}", at, error.detail),
                field => error.detail.replacen(field, &format!("{at}.{field}"), 1),
            };
            self.errors.push(error);
        }
    }

    fn rule(
        &mut self,
        rule: &Rule,
        node: &Node,
        path: &Path<'_>,
        is_root: bool,
        correlation: Correlation,
    ) {
        let at = path.field("rule");
        let wrong = |what: String| FieldError::invalid(at, rule.source.as_str(), what);
        match &rule.program {
            Err(err) => self.errors.push(wrong(err.to_string())),
            Ok(program) => {
                if let Some(what) = undefined_field(program, node, is_root) {
                    self.errors.push(wrong(format!("compilation failed: {what}")));
                }
                if program.uses("oldSelf") && correlation.lost {
                    self.errors.push(wrong(
                        "oldSelf cannot be used on the uncorrelatable portion of the schema within an array that is no map".to_owned(),
                    ));
                }
                if rule.optional_old && !program.uses("oldSelf") {
                    let what = "may not be set if oldSelf is not used in rule";
                    self.errors.push(FieldError::invalid(
                        path.field("optionalOldSelf"),
                        true,
                        what,
                    ));
                }
            }
        }
        if let Some(Err(err)) = &rule.message_program {
            let at = path.field("messageExpression");
            let source = rule.message_source.as_str();
            self.errors.push(FieldError::invalid(at, source, err.to_string()));
        }
        if !rule.field_path.is_empty() && !has_path(node, &rule.field_path) {
            let at = path.field("fieldPath");
            let what = "fieldPath must be a valid path";
            self.errors.push(FieldError::invalid(at, rule.field_path.as_str(), what));
        }
    }
}

/// Whether a path such as `.spec['x.y'].z` leads to something in the schema.
fn has_path(node: &Node, path: &str) -> bool {
    let Some(keys) = super::jsonpath::simple(path) else { return false };
    !keys.is_empty() && keys.iter().try_fold(node, |node, key| node.field(key)).is_some()
}

/// The path of the schema that a choice is in.
fn outer(path: &Path<'_>) -> String {
    let text = path.to_string();
    let cut = ["allOf[", "anyOf[", "oneOf[", ".not"].iter().filter_map(|it| text.find(it)).min();
    cut.map_or_else(|| text.clone(), |it| text[..it].trim_end_matches('.').to_owned())
}

fn one_line(err: &regex::Error) -> String {
    err.to_string().lines().last().unwrap_or_default().trim().to_owned()
}

fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn list<'a>(schema: &'a Value, key: &str) -> &'a [Value] {
    schema.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn entries<'a>(schema: &'a Value, key: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let map = schema.get(key).and_then(Value::as_object);
    map.into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}
