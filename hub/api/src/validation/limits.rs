//! LimitRanges and ResourceQuotas.

use std::collections::BTreeSet;

use serde_json::Value;

use super::quantity;
use crate::names;
use crate::object;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::status::FieldError;

const POD_COUNTS: &[&str] = &["pods"];
const POD_COMPUTE: &[&str] =
    &["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];
const OBJECT_COUNTS: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const STORAGE: &[&str] = &[
    "ephemeral-storage",
    "limits.ephemeral-storage",
    "requests.ephemeral-storage",
    "requests.storage",
];
const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
const EXISTS_ONLY: &str = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
const LIMIT_LISTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

/// Checks a LimitRange.
pub fn limit_range(object: &Value) -> Vec<FieldError> {
    let spec = Path::Root.field("spec");
    let limits = spec.field("limits");
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, limit) in object::list(object, "spec.limits").iter().enumerate() {
        let at = limits.index(i);
        let ty = object::text(limit, "type");
        for wrong in names::qualified_name(ty) {
            errors.push(FieldError::invalid(at.field("type"), ty, wrong));
        }
        if !ty.contains('/') && !matches!(ty, "Pod" | "Container" | "PersistentVolumeClaim") {
            let why = "must be a standard limit type or fully qualified";
            errors.push(FieldError::invalid(at.field("type"), ty, why));
        }
        if !seen.insert(ty) {
            errors.push(FieldError::duplicate(at.field("type"), ty));
        }
        errors.extend(one_limit(limit, ty, &at));
    }
    errors
}

fn one_limit(limit: &Value, ty: &str, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut keys = BTreeSet::new();
    for list in LIMIT_LISTS {
        let path = at.field(list);
        let Some(amounts) = limit.get(list).and_then(Value::as_object) else { continue };
        if ty == "Pod" && matches!(list, "default" | "defaultRequest") && !amounts.is_empty() {
            errors.push(FieldError::forbidden(path, "may not be specified when `type` is 'Pod'"));
            continue;
        }
        for name in amounts.keys() {
            errors.extend(limited_resource(name, ty, &path.key(name)));
            keys.insert(name.as_str());
        }
    }
    if ty == "PersistentVolumeClaim" {
        let has = |list: &str| limit.get(list).and_then(|it| it.get("storage")).is_some();
        if !has("min") && !has("max") {
            errors.push(FieldError::required(
                at.field("limits"),
                "either minimum or maximum storage value is required, but neither was provided",
            ));
        }
    }
    for key in keys {
        errors.extend(limit_order(limit, key, at));
    }
    errors
}

fn limited_resource(name: &str, ty: &str, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = names::qualified_name(name)
        .into_iter()
        .map(|wrong| FieldError::invalid(at, name, wrong))
        .collect();
    let compute = matches!(name, "cpu" | "memory" | "ephemeral-storage" | "storage")
        || name.starts_with("hugepages-");
    if !name.contains('/') && !compute {
        let why = "must be a standard resource type or fully qualified";
        errors.push(FieldError::invalid(at, name, why));
        if matches!(ty, "Pod" | "Container") {
            let why = "must be a standard resource for containers";
            errors.push(FieldError::invalid(at, name, why));
        }
    }
    errors
}

/// What is least, asked for, given and most must come in that order.
fn limit_order(limit: &Value, key: &str, at: &Path<'_>) -> Vec<FieldError> {
    let amount = |list: &str| limit.get(list).and_then(|it| it.get(key)).and_then(quantity);
    let mut errors = Vec::new();
    for (list, low, low_name, high, high_name) in [
        ("min", "min", "min", "max", "max"),
        ("defaultRequest", "min", "min", "defaultRequest", "default request"),
        ("defaultRequest", "defaultRequest", "default request", "max", "max"),
        ("defaultRequest", "defaultRequest", "default request", "default", "default limit"),
        ("default", "min", "min", "default", "default"),
        ("default", "default", "default", "max", "max"),
    ] {
        let (Some(low), Some(high)) = (amount(low), amount(high)) else { continue };
        if low > high {
            let shown = amount(list).map(|it| it.to_string());
            errors.push(FieldError::invalid(
                at.field(list).key(key),
                shown,
                format!("{low_name} value {low} is greater than {high_name} value {high}"),
            ));
        }
    }
    let ratio_path = at.field("maxLimitRequestRatio");
    if let Some(ratio) = amount("maxLimitRequestRatio") {
        if ratio < Quantity::from_milli(1000) {
            let why = format!("ratio {ratio} is less than 1");
            errors.push(FieldError::invalid(ratio_path.key(key), ratio.to_string(), why));
        }
        if let (Some(min), Some(max)) = (amount("min"), amount("max"))
            && !min.is_zero()
        {
            let most = billionths(max) / billionths(min);
            if billionths(ratio) / 1e9 > most {
                let why = format!("ratio {ratio} is greater than max/min = {most:.6}");
                errors.push(FieldError::invalid(ratio_path.key(key), ratio.to_string(), why));
            }
        }
    }
    let overcommits = !key.contains('/') && !key.starts_with("hugepages-");
    if let (false, Some(given), Some(asked)) =
        (overcommits, amount("default"), amount("defaultRequest"))
        && given != asked
    {
        errors.push(FieldError::invalid(
            at.field("defaultRequest").key(key),
            asked.to_string(),
            format!("default value {given} must equal to defaultRequest value {asked} in {key}"),
        ));
    }
    errors
}

#[expect(clippy::cast_precision_loss, reason = "only ratios are compared")]
fn billionths(quantity: Quantity) -> f64 {
    quantity.nano_value() as f64
}

/// Checks a ResourceQuota.
pub fn resource_quota(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = amounts(spec, "hard", &path);
    errors.extend(scopes(spec, &path.field("scopes")));
    errors.extend(scope_selector(spec, &path.field("scopeSelector")));
    errors
}

/// Checks a changed ResourceQuota: what it is about stays.
pub fn resource_quota_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let scopes = |it| -> BTreeSet<&str> {
        object::list(it, "spec.scopes").iter().filter_map(Value::as_str).collect()
    };
    if scopes(new) == scopes(old) {
        return Vec::new();
    }
    let shown = object::list(new, "spec.scopes").to_vec();
    vec![FieldError::invalid("spec.scopes", shown, super::IMMUTABLE)]
}

/// Checks the status of a ResourceQuota.
pub fn resource_quota_status(object: &Value) -> Vec<FieldError> {
    let path = Path::Root.field("status");
    let mut errors = amounts(&object["status"], "hard", &path);
    errors.extend(amounts(&object["status"], "used", &path));
    errors
}

fn amounts(part: &Value, list: &str, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = path.field(list);
    for (name, value) in part.get(list).and_then(Value::as_object).into_iter().flatten() {
        let at = path.key(name);
        for wrong in names::qualified_name(name) {
            errors.push(FieldError::invalid(at, name.as_str(), wrong));
        }
        if !name.contains('/') && !is_standard(name) {
            let why = "must be a standard resource for quotas";
            errors.push(FieldError::invalid(at, name.as_str(), why));
        }
        let Some(amount) = quantity(value) else {
            errors.push(FieldError::invalid(at, value.clone(), "must be a quantity"));
            continue;
        };
        if amount.is_negative() {
            errors.push(FieldError::invalid(at, amount.to_string(), super::NOT_NEGATIVE));
        }
        let whole = OBJECT_COUNTS.contains(&name.as_str()) || is_extended(name);
        if whole && amount.milli_value() % 1000 != 0 {
            errors.push(FieldError::invalid(at, amount.to_string(), "must be an integer"));
        }
    }
    errors
}

fn is_standard(name: &str) -> bool {
    [OBJECT_COUNTS, POD_COMPUTE, STORAGE].iter().any(|it| it.contains(&name))
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
}

fn is_extended(name: &str) -> bool {
    let native = name.contains("kubernetes.io/") || !name.contains('/');
    !native && !name.starts_with("requests.") && !name.starts_with("count/")
}

fn scopes(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let scopes = object::list(spec, "scopes");
    let shown = || Value::from(scopes.to_vec());
    let names: Vec<&str> = scopes.iter().filter_map(Value::as_str).collect();
    for scope in &names {
        if !SCOPES.contains(scope) {
            errors.push(FieldError::invalid(path, shown(), "unsupported scope"));
        }
        for _ in hard(spec).filter(|it| is_standard(it) && !fits(scope, it)) {
            errors.push(FieldError::invalid(
                path,
                shown(),
                "unsupported scope applied to resource",
            ));
        }
    }
    if conflict(&names) {
        errors.push(FieldError::invalid(path, shown(), "conflicting scopes"));
    }
    errors
}

fn scope_selector(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = path.field("matchExpressions");
    let selector = &spec["scopeSelector"];
    let mut names: Vec<&str> = Vec::new();
    for expression in object::list(selector, "matchExpressions") {
        let scope = object::text(expression, "scopeName");
        let operator = object::text(expression, "operator");
        let values = object::list(expression, "values");
        names.push(scope);
        if !SCOPES.contains(&scope) {
            errors.push(FieldError::invalid(at.field("scopeName"), scope, "unsupported scope"));
        }
        for _ in hard(spec).filter(|it| is_standard(it) && !fits(scope, it)) {
            errors.push(FieldError::invalid(
                at,
                selector.clone(),
                "unsupported scope applied to resource",
            ));
        }
        let takes_values = matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        if SCOPES.contains(&scope) && !takes_values && operator != "Exists" {
            errors.push(FieldError::invalid(at.field("operator"), operator, EXISTS_ONLY));
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                at.field("values"),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::invalid(
                at.field("values"),
                values.to_vec(),
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(
                at.field("operator"),
                other,
                "not a valid selector operator",
            )),
        }
    }
    if conflict(&names) {
        errors.push(FieldError::invalid(path, selector.clone(), "conflicting scopes"));
    }
    errors
}

fn hard(spec: &Value) -> impl Iterator<Item = &str> {
    let hard = spec.get("hard").and_then(Value::as_object);
    hard.into_iter().flatten().map(|(name, _)| name.as_str())
}

fn fits(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => POD_COUNTS.contains(&resource),
        "VolumeAttributesClass" => {
            matches!(resource, "persistentvolumeclaims" | "requests.storage")
        }
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => {
            POD_COUNTS.contains(&resource) || POD_COMPUTE.contains(&resource)
        }
        _ => true,
    }
}

fn conflict(scopes: &[&str]) -> bool {
    let both = |a: &str, b: &str| scopes.contains(&a) && scopes.contains(&b);
    both("BestEffort", "NotBestEffort") || both("Terminating", "NotTerminating")
}
