//! Deployments and ReplicaSets.

use serde_json::Value;

use super::{immutable, not_negative, pod, same, selector};
use crate::object;
use crate::path::Path;
use crate::selector::LabelSelector;
use crate::status::FieldError;

const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

/// Checks a Deployment.
pub fn deployment(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = Vec::new();
    errors.extend(not_negative(spec, "replicas", &path));
    errors.extend(replicas_selector(spec, &path, "deployment"));
    errors.extend(template(spec, &path, "Deployment"));
    errors.extend(strategy(&spec["strategy"], &path.field("strategy")));
    errors.extend(not_negative(spec, "minReadySeconds", &path));
    errors.extend(not_negative(spec, "revisionHistoryLimit", &path));
    if let Some(deadline) = object::int(spec, "progressDeadlineSeconds") {
        errors.extend(not_negative(spec, "progressDeadlineSeconds", &path));
        if deadline <= object::int(spec, "minReadySeconds").unwrap_or(0) {
            errors.push(FieldError::invalid(
                path.field("progressDeadlineSeconds"),
                deadline,
                "must be greater than minReadySeconds",
            ));
        }
    }
    errors
}

/// Checks a ReplicaSet.
pub fn replica_set(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = Vec::new();
    errors.extend(not_negative(spec, "replicas", &path));
    errors.extend(not_negative(spec, "minReadySeconds", &path));
    errors.extend(replicas_selector(spec, &path, "replicaset"));
    errors.extend(template(spec, &path, "ReplicaSet"));
    errors
}

/// Checks that the selector stays: what it selected would be lost.
pub fn selector_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::Root.field("spec");
    let selector = |it: &Value| it["spec"]["selector"].clone();
    immutable(Some(&selector(new)), Some(&selector(old)), &path.field("selector"))
        .into_iter()
        .collect()
}

/// Checks the counts of a status.
pub fn replica_status(object: &Value) -> Vec<FieldError> {
    let status = &object["status"];
    let path = Path::Root.field("status");
    let counts = [
        "observedGeneration",
        "replicas",
        "fullyLabeledReplicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    let mut errors: Vec<FieldError> =
        counts.iter().filter_map(|it| not_negative(status, it, &path)).collect();
    let count = |field: &str| object::int(status, field).unwrap_or(0);
    let total = count("replicas");
    for field in ["fullyLabeledReplicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        if count(field) > total {
            errors.push(FieldError::invalid(
                path.field(field),
                count(field),
                "cannot be greater than status.replicas",
            ));
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        errors.push(FieldError::invalid(
            path.field("availableReplicas"),
            count("availableReplicas"),
            "cannot be greater than readyReplicas",
        ));
    }
    errors
}

fn replicas_selector(spec: &Value, path: &Path<'_>, kind: &str) -> Vec<FieldError> {
    let at = path.field("selector");
    let Some(selector) = object::get(spec, "selector") else {
        return vec![FieldError::required(at, "")];
    };
    let mut errors = selector::label_selector(selector, &at);
    if same(selector, &Value::Null) {
        errors.push(FieldError::invalid(
            at,
            selector.clone(),
            format!("empty selector is invalid for {kind}"),
        ));
    }
    errors
}

fn template(spec: &Value, path: &Path<'_>, kind: &str) -> Vec<FieldError> {
    let at = path.field("template");
    let Some(template) = object::get(spec, "template") else {
        return vec![FieldError::required(at, "")];
    };
    let mut errors = Vec::new();
    let labels = object::labels(template);
    let meta = at.field("metadata");
    if let Some(selector) = object::get(spec, "selector")
        && let Ok(parsed) = LabelSelector::from_value(selector)
        && !same(selector, &Value::Null)
        && !parsed.matches(labels)
    {
        errors.push(FieldError::invalid(
            meta.field("labels"),
            labels.clone(),
            "`selector` does not match template `labels`",
        ));
    }
    errors.extend(pod::template(template, &at));
    let pod_spec = at.field("spec");
    match object::text(template, "spec.restartPolicy") {
        "Always" | "" => {}
        other => errors.push(FieldError::not_supported(
            pod_spec.field("restartPolicy"),
            other,
            &["Always"],
        )),
    }
    if object::get(template, "spec.activeDeadlineSeconds").is_some() {
        errors.push(FieldError::forbidden(
            pod_spec.field("activeDeadlineSeconds"),
            format!("activeDeadlineSeconds in {kind} is not Supported"),
        ));
    }
    errors
}

fn strategy(strategy: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let rolling = path.field("rollingUpdate");
    let mut errors = Vec::new();
    match object::text(strategy, "type") {
        "Recreate" => {
            if object::get(strategy, "rollingUpdate").is_some() {
                errors.push(FieldError::forbidden(
                    rolling,
                    "may not be specified when strategy `type` is 'Recreate'",
                ));
            }
        }
        "RollingUpdate" => match object::get(strategy, "rollingUpdate") {
            None => errors
                .push(FieldError::required(rolling, "this should be defaulted and never be nil")),
            Some(update) => {
                for field in ["maxUnavailable", "maxSurge"] {
                    errors.extend(count_or_percent(&update[field], &rolling.field(field)));
                }
                let unavailable = &update["maxUnavailable"];
                if amount(unavailable) == Some(0) && amount(&update["maxSurge"]) == Some(0) {
                    errors.push(FieldError::invalid(
                        rolling.field("maxUnavailable"),
                        unavailable.clone(),
                        "may not be 0 when `maxSurge` is 0",
                    ));
                }
                if unavailable.is_string() && amount(unavailable).is_some_and(|it| it > 100) {
                    errors.push(FieldError::invalid(
                        rolling.field("maxUnavailable"),
                        unavailable.clone(),
                        "must not be greater than 100%",
                    ));
                }
            }
        },
        other => errors.push(FieldError::not_supported(
            path.field("type"),
            other,
            &["Recreate", "RollingUpdate"],
        )),
    }
    errors
}

fn count_or_percent(value: &Value, path: &Path<'_>) -> Option<FieldError> {
    if let Some(text) = value.as_str() {
        let digits = text.strip_suffix('%').unwrap_or_default();
        let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        return (!valid).then(|| FieldError::invalid(path, text, PERCENT));
    }
    let count = value.as_i64().filter(|it| *it < 0)?;
    Some(FieldError::invalid(path, count, super::NOT_NEGATIVE))
}

/// The number of a count or of a percentage.
fn amount(value: &Value) -> Option<i64> {
    match value.as_str() {
        Some(text) => text.strip_suffix('%')?.parse().ok(),
        None => value.as_i64(),
    }
}
