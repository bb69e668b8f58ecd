//! Requests and limits.

use serde_json::Value;

use super::super::quantity as parse;
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
    let names = |list: &str| resources.get(list).and_then(Value::as_object).into_iter().flatten();
    let mut all = names("limits").chain(names("requests")).map(|it| it.0.as_str());
    let huge = all.clone().any(|it| it.starts_with("hugepages-"));
    if huge && !all.any(|it| matches!(it, "cpu" | "memory")) {
        errors.push(FieldError::forbidden(*path, "HugePages require cpu or memory"));
    }
    errors
}

/// Checks the resources of a pod as a whole: its containers share them.
pub(super) fn of_pod(spec: &Value, resources: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = requirements(resources, path);
    if !object::list(resources, "claims").is_empty() {
        let why = "claims may not be set for Resources at pod-level";
        errors.push(FieldError::forbidden(path.field("claims"), why));
    }
    for list in ["limits", "requests"] {
        let at = path.field(list);
        for (name, amount) in resources.get(list).and_then(Value::as_object).into_iter().flatten() {
            let known = &["cpu", "hugepages-", "memory"];
            let fits = matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-");
            if !fits {
                errors.push(FieldError::not_supported(at.key(name), name.as_str(), known));
                continue;
            }
            let Some(amount) = parse(amount) else { continue };
            let of = |container: &Value| {
                container.get("resources")?.get(list)?.get(name.as_str()).and_then(parse)
            };
            let containers = object::list(spec, "containers").iter();
            if list == "requests" {
                let sum: i128 = containers.filter_map(of).map(Quantity::nano_value).sum();
                if amount.nano_value() < sum {
                    let why = format!(
                        "must be greater than or equal to aggregate container requests of {}",
                        Quantity::from_nano(sum, amount.format())
                    );
                    errors.push(FieldError::invalid(at.key(name), amount.to_string(), why));
                }
                continue;
            }
            for most in containers.filter_map(of).filter(|it| *it > amount) {
                let why = format!("must be greater than or equal to container limits of {most}");
                errors.push(FieldError::invalid(at.key(name), amount.to_string(), why));
            }
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
