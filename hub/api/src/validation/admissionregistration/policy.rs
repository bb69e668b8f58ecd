//! Admission policies and their bindings.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{conditions, expression, one_of, rule, selectors};
use crate::cel::Program;
use crate::object;
use crate::path::Path;
use crate::selector::LabelSelector;
use crate::status::FieldError;

/// What expressions of policies may speak of.
pub(super) const POLICY_VARIABLES: &[&str] =
    &["authorizer", "namespaceObject", "object", "oldObject", "params", "request", "variables"];

/// Checks a ValidatingAdmissionPolicy.
pub fn validating_policy(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = common(spec, &path);
    let validations = object::list(spec, "validations");
    let annotations = object::list(spec, "auditAnnotations");
    if validations.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must be non-empty list";
        errors.push(FieldError::required(path.field("validations"), detail));
        errors.push(FieldError::required(path.field("auditAnnotations"), detail));
    }
    let variables = available(spec);
    for (index, it) in validations.iter().enumerate() {
        let path = path.field("validations");
        let path = path.index(index);
        errors.extend(expression(it, "expression", &path, variables));
        if !object::text(it, "messageExpression").trim().is_empty() {
            // A message asks nobody.
            let known: Vec<&str> =
                variables.iter().copied().filter(|it| *it != "authorizer").collect();
            errors.extend(expression(it, "messageExpression", &path, &known));
        }
        if object::text(it, "message").contains(['\n', '\r']) {
            let detail = "message must not contain line breaks";
            let message = object::text(it, "message");
            errors.push(FieldError::invalid(path.field("message"), message, detail));
        }
        let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
        errors.extend(one_of(it, "reason", &path, &reasons));
    }
    let mut seen = BTreeSet::new();
    for (index, it) in annotations.iter().enumerate() {
        let path = path.field("auditAnnotations");
        let path = path.index(index);
        let key = object::text(it, "key");
        if key.is_empty() {
            errors.push(FieldError::required(path.field("key"), ""));
        } else if !seen.insert(key) {
            errors.push(FieldError::duplicate(path.field("key"), key));
        }
        errors.extend(expression(it, "valueExpression", &path, variables));
    }
    errors
}

/// Checks a MutatingAdmissionPolicy.
pub fn mutating_policy(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = common(spec, &path);
    let mutations = object::list(spec, "mutations");
    if mutations.is_empty() {
        errors.push(FieldError::required(
            path.field("mutations"),
            "mutations must contain at least one item",
        ));
    }
    match object::text(spec, "reinvocationPolicy") {
        "" => errors.push(FieldError::required(path.field("reinvocationPolicy"), "")),
        _ => errors.extend(one_of(spec, "reinvocationPolicy", &path, &["IfNeeded", "Never"])),
    }
    for (index, it) in mutations.iter().enumerate() {
        let path = path.field("mutations");
        let path = path.index(index);
        let (field, other) = match object::text(it, "patchType") {
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
            "JSONPatch" => ("jsonPatch", "applyConfiguration"),
            "" => {
                errors.push(FieldError::required(path.field("patchType"), ""));
                continue;
            }
            kind => {
                let kinds = ["ApplyConfiguration", "JSONPatch"];
                errors.push(FieldError::not_supported(path.field("patchType"), kind, &kinds));
                continue;
            }
        };
        if object::get(it, other).is_some() {
            let detail = format!(
                "{other} cannot be set when patchType is {}",
                object::text(it, "patchType")
            );
            errors.push(FieldError::invalid(path.field(other), it[other].clone(), detail));
        }
        errors.extend(patch(&it[field], &path.field(field), available(spec)));
    }
    errors
}

/// A patch: an expression that may also make objects.
fn patch(patch: &Value, path: &Path<'_>, variables: &[&str]) -> Option<FieldError> {
    let source = object::text(patch, "expression");
    let path = path.field("expression");
    if source.trim().is_empty() {
        return Some(FieldError::required(path, ""));
    }
    let wrong = Program::compile_patch(source, variables).err()?;
    Some(FieldError::invalid(path, source, wrong.to_string()))
}

fn available(spec: &Value) -> &'static [&'static str] {
    if object::get(spec, "paramKind").is_some() {
        POLICY_VARIABLES
    } else {
        &["authorizer", "namespaceObject", "object", "oldObject", "request", "variables"]
    }
}

fn common(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(kind) = object::get(spec, "paramKind") {
        for field in ["apiVersion", "kind"] {
            if object::text(kind, field).is_empty() {
                errors.push(FieldError::required(path.field("paramKind").field(field), ""));
            }
        }
    }
    let constraints = &spec["matchConstraints"];
    let at = path.field("matchConstraints");
    if constraints.is_null() {
        errors.push(FieldError::required(at, ""));
    } else {
        if object::list(constraints, "resourceRules").is_empty() {
            errors.push(FieldError::required(at.field("resourceRules"), ""));
        }
        errors.extend(match_resources(constraints, &at));
    }
    errors.extend(one_of(spec, "failurePolicy", path, &["Fail", "Ignore"]));
    let known = available(spec);
    let mut seen = BTreeSet::new();
    for (index, it) in object::list(spec, "variables").iter().enumerate() {
        let path = path.field("variables");
        let path = path.index(index);
        let name = object::text(it, "name");
        if name.is_empty() {
            errors.push(FieldError::required(path.field("name"), ""));
        } else if !is_identifier(name) {
            let detail = "name is not a valid CEL identifier";
            errors.push(FieldError::invalid(path.field("name"), name, detail));
        } else if !seen.insert(name) {
            errors.push(FieldError::duplicate(path.field("name"), name));
        }
        errors.extend(expression(it, "expression", &path, known));
    }
    errors.extend(conditions(spec, path, known));
    errors
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn match_resources(resources: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for list in ["resourceRules", "excludeResourceRules"] {
        for (index, it) in object::list(resources, list).iter().enumerate() {
            errors.extend(rule(it, &path.field(list).index(index)));
        }
    }
    errors.extend(selectors(resources, path));
    errors.extend(one_of(resources, "matchPolicy", path, &["Equivalent", "Exact"]));
    errors
}

/// Checks the binding of a policy.
pub fn binding(object: &Value, validating: bool) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = Vec::new();
    if object::text(spec, "policyName").is_empty() {
        errors.push(FieldError::required(path.field("policyName"), ""));
    }
    if let Some(param) = object::get(spec, "paramRef") {
        errors.extend(param_ref(param, &path.field("paramRef")));
    }
    if let Some(resources) = object::get(spec, "matchResources") {
        errors.extend(match_resources(resources, &path.field("matchResources")));
    }
    if validating {
        errors.extend(actions(spec, &path));
    }
    errors
}

fn actions(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
    let path = path.field("validationActions");
    let actions: Vec<&str> =
        object::list(spec, "validationActions").iter().filter_map(Value::as_str).collect();
    let mut errors = Vec::new();
    if actions.is_empty() {
        errors.push(FieldError::required(path, "at least one validation action is required"));
    }
    let mut seen = BTreeSet::new();
    for (index, action) in actions.iter().enumerate() {
        if !ACTIONS.contains(action) {
            errors.push(FieldError::not_supported(path.index(index), *action, &ACTIONS));
        }
        if !seen.insert(action) {
            errors.push(FieldError::duplicate(path.index(index), *action));
        }
    }
    if seen.contains(&"Deny") && seen.contains(&"Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.push(FieldError::invalid(path, json!(actions), detail));
    }
    errors
}

fn param_ref(param: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let selector = object::get(param, "selector");
    match (object::text(param, "name").is_empty(), selector) {
        (true, None) => {
            errors.push(FieldError::required(path, "one of name or selector must be specified"));
        }
        (false, Some(selector)) => {
            let detail = "name and selector are mutually exclusive";
            errors.push(FieldError::forbidden(path.field("name"), detail));
            errors.extend(LabelSelector::from_value(selector).err().map(|wrong| {
                FieldError::invalid(path.field("selector"), selector.clone(), wrong.message)
            }));
        }
        (true, Some(selector)) => {
            errors.extend(super::selector::label_selector(selector, &path.field("selector")));
        }
        (false, None) => {}
    }
    match object::text(param, "parameterNotFoundAction") {
        "" => errors.push(FieldError::required(path.field("parameterNotFoundAction"), "")),
        _ => errors.extend(one_of(param, "parameterNotFoundAction", path, &["Allow", "Deny"])),
    }
    errors
}
