//! Defaults of the kinds of `batch`.

use serde_json::{Map, Value, json};

use super::pod;
use crate::object;

/// Fills in a Job.
pub fn job(object: &mut Value) {
    let labels = object::get(object, "spec.template.metadata.labels").cloned();
    let spec = object::ensure(object, "spec");
    if !has(spec, "completions") && !has(spec, "parallelism") {
        spec.insert("completions".to_owned(), json!(1));
    }
    object::default(spec, "parallelism", 1);
    let retries = if has(spec, "backoffLimitPerIndex") { i64::from(i32::MAX) } else { 6 };
    object::default(spec, "backoffLimit", retries);
    object::default_text(spec, "completionMode", "NonIndexed");
    object::default(spec, "suspend", false);
    object::default(spec, "manualSelector", false);
    let replacement = if has(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    object::default_text(spec, "podReplacementPolicy", replacement);
    conditions_of_failure(spec);
    if let Some(template) = spec.get_mut("template") {
        pod::template(template);
    }
    labels_of_template(object, labels);
}

/// Fills in a CronJob. The job itself is filled in when it is made, but for its pods.
pub fn cron_job(object: &mut Value) {
    let spec = object::ensure(object, "spec");
    object::default_text(spec, "concurrencyPolicy", "Allow");
    object::default(spec, "suspend", false);
    object::default(spec, "successfulJobsHistoryLimit", 3);
    object::default(spec, "failedJobsHistoryLimit", 1);
    let template = object::as_map(spec.entry("jobTemplate").or_insert(Value::Null));
    object::as_map(template.entry("metadata").or_insert(Value::Null));
    let job = object::as_map(template.entry("spec").or_insert(Value::Null));
    conditions_of_failure(job);
    if let Some(template) = job.get_mut("template") {
        pod::template(template);
    }
}

/// What has no labels of its own gets those of its pods.
pub(super) fn labels_of_template(object: &mut Value, labels: Option<Value>) {
    let none = object::labels(object).as_object().is_none_or(Map::is_empty);
    if let Some(labels) =
        labels.filter(|it| none && it.as_object().is_some_and(|it| !it.is_empty()))
    {
        object::ensure(object, "metadata").insert("labels".to_owned(), labels);
    }
}

/// A condition of a failed pod is one that is true.
fn conditions_of_failure(job: &mut Map<String, Value>) {
    let Some(policy) = job.get_mut("podFailurePolicy") else { return };
    for rule in object::items_mut(policy, "rules") {
        for pattern in object::items_mut(rule, "onPodConditions") {
            object::default_text(object::as_map(pattern), "status", "True");
        }
    }
}

fn has(spec: &Map<String, Value>, key: &str) -> bool {
    spec.get(key).is_some_and(|it| !it.is_null())
}
