//! Checks of the kinds of `admissionregistration.k8s.io`.

mod policy;
mod webhook;

pub use policy::{binding, mutating_policy, validating_policy};
pub(crate) use webhook::client;
pub use webhook::webhooks;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::selector;
use crate::cel::Program;
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

/// Conditions that a webhook or a policy may have.
const MAX_CONDITIONS: usize = 64;
/// What conditions of webhooks may speak of.
pub const CONDITION_VARIABLES: &[&str] = &["authorizer", "object", "oldObject", "request"];

/// A field that must be one of some words.
fn one_of(object: &Value, field: &str, path: &Path<'_>, words: &[&str]) -> Option<FieldError> {
    match object::text(object, field) {
        "" => None,
        word if words.contains(&word) => None,
        word => Some(FieldError::not_supported(path.field(field), word, words)),
    }
}

/// The rules that say what a webhook or a policy is asked about.
fn rule(rule: &Value, path: &Path<'_>) -> Vec<FieldError> {
    const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    let mut errors = Vec::new();
    for field in ["operations", "apiGroups", "apiVersions", "resources"] {
        let path = path.field(field);
        let items: Vec<&str> = object::list(rule, field).iter().filter_map(Value::as_str).collect();
        if items.is_empty() {
            errors.push(FieldError::required(path, ""));
        }
        if items.len() > 1 && items.contains(&"*") && field != "resources" {
            let detail = format!("if '*' is present, must not specify other {}", spoken(field));
            errors.push(FieldError::invalid(path, json!(items), detail));
        }
        for (index, item) in items.iter().enumerate() {
            if field == "operations" && !OPERATIONS.contains(item) {
                errors.push(FieldError::not_supported(path.index(index), *item, &OPERATIONS));
            }
            if item.is_empty() && matches!(field, "apiVersions" | "resources") {
                errors.push(FieldError::required(path.index(index), ""));
            }
        }
        if field == "resources" {
            errors.extend(resources(&items, &path));
        }
    }
    errors.extend(one_of(rule, "scope", path, &["*", "Cluster", "Namespaced"]));
    errors
}

fn spoken(field: &str) -> &str {
    match field {
        "operations" => "operations",
        "apiGroups" => "API groups",
        _ => "API versions",
    }
}

/// A resource that another entry covers already is a mistake.
fn resources(items: &[&str], path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if items.len() > 1 && items.contains(&"*/*") {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(path, json!(items), detail));
    }
    for (index, item) in items.iter().enumerate() {
        let Some((resource, subresource)) = item.split_once('/') else { continue };
        if subresource != "*" && items.contains(&format!("{resource}/*").as_str()) {
            let detail = format!("if '{resource}/*' is present, must not specify {item}");
            errors.push(FieldError::invalid(path.index(index), *item, detail));
        }
    }
    errors
}

fn selectors(object: &Value, path: &Path<'_>) -> Vec<FieldError> {
    ["namespaceSelector", "objectSelector"]
        .into_iter()
        .flat_map(|field| selector::label_selector(&object[field], &path.field(field)))
        .collect()
}

fn conditions(object: &Value, path: &Path<'_>, variables: &[&str]) -> Vec<FieldError> {
    let path = path.field("matchConditions");
    let list = object::list(object, "matchConditions");
    let mut errors = Vec::new();
    if list.len() > MAX_CONDITIONS {
        errors.push(FieldError::too_many(path, list.len(), MAX_CONDITIONS));
        return errors;
    }
    let mut seen = BTreeSet::new();
    for (index, condition) in list.iter().enumerate() {
        let path = path.index(index);
        let name = object::text(condition, "name");
        if name.is_empty() {
            errors.push(FieldError::required(path.field("name"), ""));
        } else {
            let wrong = names::qualified_name(name).into_iter();
            errors.extend(wrong.map(|it| FieldError::invalid(path.field("name"), name, it)));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(path.field("name"), name));
            }
        }
        errors.extend(expression(condition, "expression", &path, variables));
    }
    errors
}

/// An expression that must be there and compile.
fn expression(
    object: &Value,
    field: &str,
    path: &Path<'_>,
    variables: &[&str],
) -> Option<FieldError> {
    let source = object::text(object, field);
    let path = path.field(field);
    if source.trim().is_empty() {
        return Some(FieldError::required(path, ""));
    }
    let wrong = Program::compile(source, variables).err()?;
    Some(FieldError::invalid(path, source, wrong.to_string()))
}
