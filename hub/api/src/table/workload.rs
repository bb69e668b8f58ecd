//! What runs pods: deployments and their like.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{
    NONE, UNKNOWN, age, condition, join, labels, list, number, plain, selector, text,
};
use super::human_duration;
use crate::time;

/// Ready and desired replicas.
pub(super) fn ready(object: &Value) -> Value {
    format!("{}/{}", number(object, "/status/readyReplicas"), number(object, "/spec/replicas"))
        .into()
}

pub(super) fn containers(object: &Value) -> Value {
    join(list(object, "/spec/template/spec/containers"), "/name").into()
}

pub(super) fn images(object: &Value) -> Value {
    join(list(object, "/spec/template/spec/containers"), "/image").into()
}

pub(super) fn selector_cell(object: &Value) -> Value {
    selector(object.pointer("/spec/selector")).into()
}

/// A selector that is a map of labels (services, replication controllers).
pub(super) fn plain_selector(object: &Value) -> Value {
    labels(object.pointer("/spec/selector")).into()
}

pub(super) fn node_selector(object: &Value) -> Value {
    labels(object.pointer("/spec/template/spec/nodeSelector")).into()
}

pub(super) fn template_containers(object: &Value) -> Value {
    join(list(object, "/template/spec/containers"), "/name").into()
}

pub(super) fn template_images(object: &Value) -> Value {
    join(list(object, "/template/spec/containers"), "/image").into()
}

pub(super) fn template_labels(object: &Value) -> Value {
    labels(object.pointer("/template/metadata/labels")).into()
}

pub(super) fn revision_controller(object: &Value) -> Value {
    let owners = list(object, "/metadata/ownerReferences");
    let Some(owner) = owners.iter().find(|it| it["controller"] == true) else {
        return NONE.into();
    };
    let kind = text(owner, "/kind").to_lowercase();
    let kind = match text(owner, "/apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}"),
        None => kind,
    };
    format!("{kind}/{}", text(owner, "/name")).into()
}

pub(super) fn job_status(job: &Value) -> Value {
    let is_true = |it: &&str| condition(job, it).is_some_and(|it| it["status"] == "True");
    let ends = ["Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet"];
    if let Some(end) = ends.iter().find(|it| is_true(it)) {
        return (*end).into();
    }
    if job["metadata"]["deletionTimestamp"].is_null() { "Running" } else { "Terminating" }.into()
}

pub(super) fn job_completions(job: &Value) -> Value {
    let succeeded = number(job, "/status/succeeded");
    let wanted = job.pointer("/spec/completions").and_then(Value::as_i64);
    let parallelism = number(job, "/spec/parallelism");
    match wanted {
        Some(wanted) => format!("{succeeded}/{wanted}").into(),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}").into(),
        None => format!("{succeeded}/1").into(),
    }
}

pub(super) fn job_duration(job: &Value, now: Timestamp) -> Value {
    let Some(start) = time::parse(text(job, "/status/startTime")) else { return "".into() };
    let end = time::parse(text(job, "/status/completionTime")).unwrap_or(now);
    human_duration(end.duration_since(start).as_secs()).into()
}

pub(super) fn cron_job_time_zone(job: &Value) -> Value {
    job.pointer("/spec/timeZone").and_then(Value::as_str).unwrap_or(NONE).into()
}

pub(super) fn cron_job_suspend(job: &Value) -> Value {
    (if job["spec"]["suspend"] == true { "True" } else { "False" }).into()
}

pub(super) fn cron_job_last_schedule(job: &Value, now: Timestamp) -> Value {
    match job.pointer("/status/lastScheduleTime") {
        None | Some(Value::Null) => NONE.into(),
        since => age(since, now).into(),
    }
}

pub(super) fn cron_job_containers(job: &Value) -> Value {
    join(list(job, "/spec/jobTemplate/spec/template/spec/containers"), "/name").into()
}

pub(super) fn cron_job_images(job: &Value) -> Value {
    join(list(job, "/spec/jobTemplate/spec/template/spec/containers"), "/image").into()
}

pub(super) fn cron_job_selector(job: &Value) -> Value {
    selector(job.pointer("/spec/jobTemplate/spec/selector")).into()
}

pub(super) fn autoscaler_reference(autoscaler: &Value) -> Value {
    let target = &autoscaler["spec"]["scaleTargetRef"];
    format!("{}/{}", text(target, "/kind"), text(target, "/name")).into()
}

/// Observed and desired use of each resource, in percent where it is one.
pub(super) fn autoscaler_targets(autoscaler: &Value) -> Value {
    let observed = list(autoscaler, "/status/currentMetrics");
    let targets = list(autoscaler, "/spec/metrics").iter().enumerate().map(|(i, metric)| {
        let resource = &metric["resource"];
        let now = observed.get(i).map(|it| &it["resource"]["current"]);
        let name = text(resource, "/name");
        match resource["target"].get("averageUtilization") {
            Some(wanted) => {
                let now = now.and_then(|it| it.get("averageUtilization"));
                let now = now.map_or_else(|| UNKNOWN.to_owned(), |it| format!("{it}%"));
                format!("{name}: {now}/{wanted}%")
            }
            None => {
                let value =
                    |it: &Value| it.get("averageValue").or_else(|| it.get("value")).map(plain);
                let now = now.and_then(value).unwrap_or_else(|| UNKNOWN.to_owned());
                let wanted = value(&resource["target"]).unwrap_or_else(|| "<auto>".to_owned());
                format!("{name}: {now}/{wanted}")
            }
        }
    });
    let targets: Vec<String> = targets.collect();
    if targets.is_empty() { NONE.into() } else { targets.join(", ").into() }
}

pub(super) fn autoscaler_min(autoscaler: &Value) -> Value {
    autoscaler.pointer("/spec/minReplicas").map_or_else(|| "<unset>".to_owned(), plain).into()
}

/// `3/5` of used and granted amounts, those of limits apart from all others.
fn quota(object: &Value, wants_limits: bool) -> Value {
    let hard = object.pointer("/status/hard").and_then(Value::as_object).into_iter().flatten();
    let entries = hard.filter(|(name, _)| name.starts_with("limits.") == wants_limits);
    let entries = entries.map(|(name, hard)| {
        let used = object["status"]["used"].get(name).map_or_else(|| "0".to_owned(), plain);
        format!("{name}: {used}/{}", plain(hard))
    });
    entries.collect::<Vec<_>>().join(", ").into()
}

pub(super) fn quota_requests(object: &Value) -> Value {
    quota(object, false)
}

pub(super) fn quota_limits(object: &Value) -> Value {
    quota(object, true)
}

/// Whether a component is healthy, in a word.
pub(super) fn component_status(object: &Value) -> Value {
    let known = healthy(object).map(|it| text(it, "/status"));
    match known {
        Some("True") => "Healthy",
        Some("False") => "Unhealthy",
        Some(_) | None => "Unknown",
    }
    .into()
}

pub(super) fn component_message(object: &Value) -> Value {
    healthy(object).map(|it| text(it, "/message")).unwrap_or_default().into()
}

pub(super) fn component_error(object: &Value) -> Value {
    healthy(object).map(|it| text(it, "/error")).unwrap_or_default().into()
}

fn healthy(object: &Value) -> Option<&Value> {
    list(object, "/conditions").iter().find(|it| text(it, "/type") == "Healthy")
}
