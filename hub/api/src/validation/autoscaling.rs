//! Checks of the kinds of `autoscaling`.

use serde_json::Value;

use super::{not_negative, optional_one_of, quantity, selector};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::status::FieldError;

/// Types of metrics, and where each stands.
const METRICS: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];
const MAX_STABILIZATION: i64 = 3600;
const MAX_PERIOD: i64 = 1800;

/// Checks a HorizontalPodAutoscaler.
pub fn horizontal_pod_autoscaler(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = Vec::new();
    let min = object::int(spec, "minReplicas");
    let max = object::int(spec, "maxReplicas").unwrap_or(0);
    let least_one = "must be greater than or equal to 1";
    if let Some(min) = min.filter(|it| *it < 1) {
        errors.push(FieldError::invalid(path.field("minReplicas"), min, least_one));
    }
    let at = path.field("maxReplicas");
    if max < 1 {
        errors.push(FieldError::invalid(at, max, least_one));
    }
    if min.is_some_and(|it| max < it) {
        let why = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid(at, max, why));
    }
    errors.extend(reference(&spec["scaleTargetRef"], &path.field("scaleTargetRef")));
    let metrics = path.field("metrics");
    for (i, metric) in object::list(spec, "metrics").iter().enumerate() {
        errors.extend(self::metric(metric, &metrics.index(i)));
    }
    let behavior = path.field("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = object::get(spec, "behavior").and_then(|it| object::get(it, direction))
        {
            errors.extend(scaling_rules(rules, &behavior.field(direction)));
        }
    }
    errors
}

/// Checks the counts of a status.
pub fn status(object: &Value) -> Vec<FieldError> {
    let path = Path::Root.field("status");
    ["currentReplicas", "desiredReplicas"]
        .iter()
        .filter_map(|it| not_negative(&object["status"], it, &path))
        .collect()
}

fn reference(target: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["kind", "name"] {
        let text = object::text(target, field);
        if text.is_empty() {
            errors.push(FieldError::required(path.field(field), ""));
        } else {
            for wrong in names::path_segment(text) {
                errors.push(FieldError::invalid(path.field(field), text, wrong));
            }
        }
    }
    let version = object::text(target, "apiVersion");
    if version.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {version}");
        errors.push(FieldError::invalid(path.field("apiVersion"), version, why));
    }
    errors
}

fn metric(metric: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let ty = object::text(metric, "type");
    let types: Vec<&str> = METRICS.iter().map(|it| it.0).collect();
    let expected = METRICS.iter().find(|it| it.0 == ty).map(|it| it.1);
    if ty.is_empty() {
        let why = "must specify a metric source type";
        errors.push(FieldError::required(path.field("type"), why));
    } else if expected.is_none() {
        errors.push(FieldError::not_supported(path.field("type"), ty, &types));
    }
    let present: Vec<&str> =
        METRICS.iter().map(|it| it.1).filter(|it| object::get(metric, it).is_some()).collect();
    for (i, kind) in present.iter().enumerate() {
        // Only the first is looked into: the others are refused below.
        if i == 0 {
            errors.extend(source(kind, &metric[*kind], &path.field(kind)));
        }
    }
    if let Some(expected) = expected {
        if !present.contains(&expected) {
            let why = "must populate information for the given metric source";
            errors.push(FieldError::required(path.field(expected), why));
        }
        for other in present.iter().filter(|it| **it != expected) {
            let why = "must populate the given metric source only";
            errors.push(FieldError::forbidden(path.field(other), why));
        }
    }
    errors
}

fn source(kind: &str, source: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if kind == "object" {
        errors.extend(reference(&source["describedObject"], &path.field("describedObject")));
    }
    let resource = matches!(kind, "resource" | "containerResource");
    if resource {
        if object::text(source, "name").is_empty() {
            errors.push(FieldError::required(path.field("name"), "must specify a resource name"));
        }
        if kind == "containerResource" && object::text(source, "container").is_empty() {
            let why = "must specify a container";
            errors.push(FieldError::required(path.field("container"), why));
        }
    } else {
        errors.extend(identifier(&source["metric"], &path.field("metric")));
    }
    let at = path.field("target");
    let target = &source["target"];
    errors.extend(self::target(target, &at));
    let has = |field: &str| object::get(target, field).is_some();
    let average = at.field("averageValue");
    match kind {
        "resource" | "containerResource" => {
            if !has("averageUtilization") && !has("averageValue") {
                errors.push(FieldError::required(
                    at.field("averageUtilization"),
                    "must set either a target raw value or a target utilization",
                ));
            }
            if has("averageUtilization") && has("averageValue") {
                let why = "may not set both a target raw value and a target utilization";
                errors.push(FieldError::forbidden(average, why));
            }
        }
        "pods" => {
            if !positive(target.get("averageValue")) {
                let why = "must specify a positive target averageValue";
                errors.push(FieldError::required(average, why));
            }
        }
        "object" => {
            if !has("value") && !has("averageValue") {
                let why = "must set either a target value or averageValue";
                errors.push(FieldError::required(average, why));
            }
        }
        _ => {
            if !has("value") && !has("averageValue") {
                let why = "must set either a target value for metric or a per-pod target";
                errors.push(FieldError::required(average, why));
            }
            if has("value") && has("averageValue") {
                let why = "may not set both a target value for metric and a per-pod target";
                errors.push(FieldError::forbidden(at.field("value"), why));
            }
        }
    }
    errors
}

fn identifier(metric: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = object::text(metric, "name");
    if name.is_empty() {
        errors.push(FieldError::required(path.field("name"), "must specify a metric name"));
    } else {
        for wrong in names::path_segment(name) {
            errors.push(FieldError::invalid(path.field("name"), name, wrong));
        }
    }
    if let Some(it) = object::get(metric, "selector") {
        errors.extend(selector::label_selector(it, &path.field("selector")));
    }
    errors
}

fn target(target: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match object::text(target, "type") {
        "" => {
            let why = "must specify a metric target type";
            errors.push(FieldError::required(path.field("type"), why));
        }
        "Utilization" | "Value" | "AverageValue" => {}
        other => errors.push(FieldError::invalid(
            path.field("type"),
            other,
            "must be either Utilization, Value, or AverageValue",
        )),
    }
    for field in ["value", "averageValue"] {
        if let Some(value) = object::get(target, field)
            && !positive(Some(value))
        {
            errors.push(FieldError::invalid(path.field(field), value.clone(), "must be positive"));
        }
    }
    if let Some(percent) = object::int(target, "averageUtilization").filter(|it| *it < 1) {
        let why = "must be greater than 0";
        errors.push(FieldError::invalid(path.field("averageUtilization"), percent, why));
    }
    errors
}

fn positive(value: Option<&Value>) -> bool {
    value.and_then(quantity).is_some_and(|it| it > Quantity::ZERO)
}

fn scaling_rules(rules: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = path.field("stabilizationWindowSeconds");
    if let Some(seconds) = object::int(rules, "stabilizationWindowSeconds") {
        if seconds < 0 {
            let why = "must be greater than or equal to zero";
            errors.push(FieldError::invalid(at, seconds, why));
        }
        if seconds > MAX_STABILIZATION {
            let why = format!("must be less than or equal to {MAX_STABILIZATION}");
            errors.push(FieldError::invalid(at, seconds, why));
        }
    }
    errors.extend(optional_one_of(rules, "selectPolicy", path, &["Disabled", "Max", "Min"]));
    if let Some(tolerance) = rules.get("tolerance").and_then(quantity)
        && tolerance.is_negative()
    {
        let why = super::NOT_NEGATIVE;
        errors.push(FieldError::invalid(path.field("tolerance"), tolerance.to_string(), why));
    }
    let at = path.field("policies");
    let policies = object::list(rules, "policies");
    if policies.is_empty() {
        errors.push(FieldError::required(at, "must specify at least one Policy"));
    }
    for (i, policy) in policies.iter().enumerate() {
        let at = at.index(i);
        let ty = object::text(policy, "type");
        if !matches!(ty, "Percent" | "Pods") {
            errors.push(FieldError::not_supported(at.field("type"), ty, &["Percent", "Pods"]));
        }
        for field in ["value", "periodSeconds"] {
            let value = object::int(policy, field).unwrap_or(0);
            if value <= 0 {
                let why = "must be greater than zero";
                errors.push(FieldError::invalid(at.field(field), value, why));
            }
        }
        let period = object::int(policy, "periodSeconds").unwrap_or(0);
        if period > MAX_PERIOD {
            let why = format!("must be less than or equal to {MAX_PERIOD}");
            errors.push(FieldError::invalid(at.field("periodSeconds"), period, why));
        }
    }
    errors
}
