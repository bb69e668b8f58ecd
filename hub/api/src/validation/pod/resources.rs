//! Requests and limits.

use serde_json::Value;

use crate::names;
use crate::object;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::status::FieldError;

const STANDARD: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];

pub(super) fn requirements(resources: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let limits_path = path.field("limits");
    let requests_path = path.field("requests");
    if let Some(limits) = object::get(resources, "limits") {
        errors.extend(list(limits, &limits_path));
    }
    if let Some(requests) = object::get(resources, "requests") {
        errors.extend(list(requests, &requests_path));
    }
    for (name, request) in object::entries(resources, "requests") {
        let limit = resources["limits"].get(name).and_then(parse);
        let Some(request) = parse(request) else {
            continue;
        };
        let overcommits = STANDARD.contains(&name.as_str());
        match limit {
            Some(limit) if !overcommits && request != limit => errors.push(FieldError::invalid(
                requests_path,
                request.to_string(),
                format!("must be equal to {name} limit of {limit}"),
            )),
            Some(limit) if request > limit => errors.push(FieldError::invalid(
                requests_path,
                request.to_string(),
                format!("must be less than or equal to {name} limit of {limit}"),
            )),
            Some(_) => {}
            None if !overcommits => errors.push(FieldError::required(
                limits_path,
                "Limit must be set for non overcommitable resources",
            )),
            None => {}
        }
    }
    errors
}

/// Checks names and amounts of a resource list.
pub(super) fn list(list: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, amount) in list.as_object().into_iter().flatten() {
        let at = path.key(name);
        for wrong in names::qualified_name(name) {
            errors.push(FieldError::invalid(at, name.as_str(), wrong));
        }
        let huge = name.starts_with("hugepages-");
        let standard = STANDARD.contains(&name.as_str()) || huge;
        if !standard && !name.contains('/') {
            errors.push(FieldError::invalid(
                at,
                name.as_str(),
                "must be a standard resource type or fully qualified",
            ));
            errors.push(FieldError::invalid(
                at,
                name.as_str(),
                "must be a standard resource for containers",
            ));
        } else if !standard && extended(name) && name.starts_with("kubernetes.io/") {
            errors.push(FieldError::invalid(
                at,
                name.as_str(),
                "must be a standard resource type or fully qualified",
            ));
        }
        let Some(amount) = parse(amount) else {
            errors.push(FieldError::invalid(at, amount.clone(), "must be a quantity"));
            continue;
        };
        if amount.is_negative() {
            errors.push(FieldError::invalid(at, amount.to_string(), super::super::NOT_NEGATIVE));
        }
        if !standard && amount.milli_value() % 1000 != 0 {
            errors.push(FieldError::invalid(at, amount.to_string(), "must be an integer"));
        }
    }
    errors
}

fn extended(name: &str) -> bool {
    name.contains('/') && !name.starts_with("requests.")
}

fn parse(amount: &Value) -> Option<Quantity> {
    match amount {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
