//! Checks of the kinds of `apps`, and of the ReplicationController that was before them.

use serde_json::{Value, json};

use super::{amount, at_most_all, count_or_percent, immutable, not_negative, pod, same, selector};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::selector::LabelSelector;
use crate::status::FieldError;

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
    let selector = object::get(spec, "selector").unwrap_or(&Value::Null);
    pods(spec, selector, path, kind)
}

/// Checks the template of pods that run until they are told to stop.
fn pods(spec: &Value, selector: &Value, path: &Path<'_>, kind: &str) -> Vec<FieldError> {
    let at = path.field("template");
    let Some(template) = object::get(spec, "template") else {
        return vec![FieldError::required(at, "")];
    };
    let mut errors = Vec::new();
    errors.extend(selects(selector, template, &at));
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

/// Checks that a selector finds the pods of the template.
pub(super) fn selects(selector: &Value, template: &Value, path: &Path<'_>) -> Option<FieldError> {
    let labels = object::labels(template);
    let parsed = LabelSelector::from_value(selector).ok()?;
    if same(selector, &Value::Null) || parsed.matches(labels) {
        return None;
    }
    Some(FieldError::invalid(
        path.field("metadata").field("labels"),
        labels.clone(),
        "`selector` does not match template `labels`",
    ))
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
                errors.extend(at_most_all(unavailable, &rolling.field("maxUnavailable")));
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

/// Checks a ReplicationController.
pub fn replication_controller(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = Vec::new();
    errors.extend(not_negative(spec, "minReadySeconds", &path));
    let labels = &spec["selector"];
    if same(labels, &Value::Null) {
        errors.push(FieldError::required(path.field("selector"), ""));
    }
    errors.extend(not_negative(spec, "replicas", &path));
    let selector = json!({"matchLabels": labels});
    errors.extend(pods(spec, &selector, &path, "ReplicationController"));
    errors
}

/// Checks a DaemonSet.
pub fn daemon_set(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = replicas_selector(spec, &path, "daemonset");
    errors.extend(template(spec, &path, "DaemonSet"));
    errors.extend(not_negative(spec, "minReadySeconds", &path));
    let at = path.field("updateStrategy");
    match object::text(spec, "updateStrategy.type") {
        "OnDelete" => {}
        "RollingUpdate" => match object::get(spec, "updateStrategy.rollingUpdate") {
            None => errors.push(FieldError::required(at.field("rollingUpdate"), "")),
            Some(update) => errors.extend(rolling_daemons(update, &at.field("rollingUpdate"))),
        },
        _ => errors.push(FieldError::not_supported(
            at,
            spec["updateStrategy"].clone(),
            &["RollingUpdate", "OnDelete"],
        )),
    }
    errors.extend(not_negative(spec, "revisionHistoryLimit", &path));
    errors
}

/// Checks the counts of a DaemonSet's status.
pub fn daemon_set_status(object: &Value) -> Vec<FieldError> {
    let path = Path::Root.field("status");
    [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ]
    .iter()
    .filter_map(|it| not_negative(&object["status"], it, &path))
    .collect()
}

fn rolling_daemons(update: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (unavailable, surge) = (&update["maxUnavailable"], &update["maxSurge"]);
    let (at, surge_at) = (path.field("maxUnavailable"), path.field("maxSurge"));
    errors.extend(count_or_percent(unavailable, &at));
    errors.extend(count_or_percent(surge, &surge_at));
    match (amount(unavailable).unwrap_or(0) != 0, amount(surge).unwrap_or(0) != 0) {
        (true, true) => errors.push(FieldError::invalid(
            surge_at,
            surge.clone(),
            "may not be set when maxUnavailable is non-zero",
        )),
        (false, false) => {
            errors.push(FieldError::required(at, "cannot be 0 when maxSurge is 0"));
        }
        (true, false) | (false, true) => {}
    }
    errors.extend(at_most_all(unavailable, &at));
    errors.extend(at_most_all(surge, &surge_at));
    errors
}

/// Checks a StatefulSet.
pub fn stateful_set(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = Vec::new();
    match object::text(spec, "podManagementPolicy") {
        "OrderedReady" | "Parallel" => {}
        "" => errors.push(FieldError::required(path.field("podManagementPolicy"), "")),
        other => errors.push(FieldError::invalid(
            path.field("podManagementPolicy"),
            other,
            "must be 'OrderedReady' or 'Parallel'",
        )),
    }
    errors.extend(stateful_strategy(spec, &path.field("updateStrategy")));
    let retention = path.field("persistentVolumeClaimRetentionPolicy");
    if let Some(policy) = object::get(spec, "persistentVolumeClaimRetentionPolicy") {
        for field in ["whenDeleted", "whenScaled"] {
            let text = object::text(policy, field);
            if !matches!(text, "Delete" | "Retain") {
                let known = &["Delete", "Retain"];
                errors.push(FieldError::not_supported(retention.field(field), text, known));
            }
        }
    }
    errors.extend(not_negative(spec, "replicas", &path));
    errors.extend(not_negative(spec, "minReadySeconds", &path));
    if let Some(ordinals) = object::get(spec, "ordinals") {
        errors.extend(not_negative(ordinals, "start", &path.field("ordinals")));
    }
    errors.extend(not_negative(spec, "revisionHistoryLimit", &path));
    errors.extend(replicas_selector(spec, &path, "statefulset"));
    errors.extend(template(spec, &path, "StatefulSet"));
    let service = object::text(spec, "serviceName");
    if !service.is_empty() {
        for wrong in names::dns1123_subdomain(service) {
            errors.push(FieldError::invalid(path.field("serviceName"), service, wrong));
        }
    }
    errors
}

fn stateful_strategy(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let rolling = path.field("rollingUpdate");
    let update = object::get(spec, "updateStrategy.rollingUpdate");
    match (object::text(spec, "updateStrategy.type"), update) {
        ("", _) => errors.push(FieldError::required(*path, "")),
        ("OnDelete", Some(update)) => errors.push(FieldError::invalid(
            rolling,
            update.clone(),
            "only allowed for updateStrategy 'RollingUpdate'",
        )),
        ("OnDelete", None) | ("RollingUpdate", None) => {}
        ("RollingUpdate", Some(update)) => {
            errors.extend(not_negative(update, "partition", &rolling));
            if let Some(unavailable) = object::get(update, "maxUnavailable") {
                let at = rolling.field("maxUnavailable");
                errors.extend(count_or_percent(unavailable, &at));
                if amount(unavailable) == Some(0) {
                    errors.push(FieldError::invalid(at, unavailable.clone(), "cannot be 0"));
                }
                errors.extend(at_most_all(unavailable, &at));
            }
        }
        _ => errors.push(FieldError::invalid(
            path,
            spec["updateStrategy"].clone(),
            "must be 'RollingUpdate' or 'OnDelete'",
        )),
    }
    errors
}

/// Checks a changed StatefulSet: what its pods are made of may change, what they are may not.
pub fn stateful_set_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut spec = new["spec"].clone();
    pod::keep(
        &mut spec,
        &old["spec"],
        &[
            "replicas",
            "ordinals",
            "template",
            "updateStrategy",
            "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy",
            "minReadySeconds",
        ],
    );
    if same(&spec, &old["spec"]) {
        return Vec::new();
    }
    vec![FieldError::forbidden(
        "spec",
        "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
    )]
}

/// Checks the counts of a StatefulSet's status.
pub fn stateful_set_status(object: &Value) -> Vec<FieldError> {
    let status = &object["status"];
    let path = Path::Root.field("status");
    let counts = ["replicas", "readyReplicas", "currentReplicas", "updatedReplicas"];
    let others = ["observedGeneration", "collisionCount", "availableReplicas"];
    let mut errors: Vec<FieldError> =
        counts.iter().chain(&others).filter_map(|it| not_negative(status, it, &path)).collect();
    let count = |field: &str| object::int(status, field).unwrap_or(0);
    for (field, most) in [
        ("readyReplicas", "replicas"),
        ("currentReplicas", "replicas"),
        ("updatedReplicas", "replicas"),
        ("availableReplicas", "replicas"),
        ("availableReplicas", "readyReplicas"),
    ] {
        if count(field) > count(most) {
            errors.push(FieldError::invalid(
                path.field(field),
                count(field),
                format!("cannot be greater than status.{most}"),
            ));
        }
    }
    errors
}

/// Checks a ControllerRevision.
pub fn controller_revision(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if object::get(object, "data").is_none() {
        errors.push(FieldError::required("data", "data is mandatory"));
    }
    errors.extend(not_negative(object, "revision", &Path::Root));
    errors
}

/// Checks a changed ControllerRevision: only its number may change.
pub fn controller_revision_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let at = Path::Root.field("data");
    immutable(new.get("data"), old.get("data"), &at).into_iter().collect()
}
