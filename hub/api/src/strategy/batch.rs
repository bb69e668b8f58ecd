//! Strategies of `batch`.

use serde_json::{Map, Value, json};

use super::Strategy;
use crate::defaults;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;
use crate::validation;
use crate::warnings;
use crate::write::WriteContext;

/// Jobs.
#[derive(Debug)]
pub struct Job;

impl Strategy for Job {
    fn default(&self, object: &mut Value) {
        defaults::batch::job(object);
    }

    fn prepare_create(&self, object: &mut Value, context: &WriteContext<'_>) {
        select_own_pods(object, context.uid);
        object["status"] = json!({});
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::batch::job(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::batch::job_update(new, old)
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        validation::batch::job_status(new)
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings::of_template(object, &Path::Root.field("spec").field("template"))
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }
}

/// CronJobs.
#[derive(Debug)]
pub struct CronJob;

impl Strategy for CronJob {
    fn default(&self, object: &mut Value) {
        defaults::batch::cron_job(object);
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object["status"] = json!({});
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::batch::cron_job(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::batch::cron_job_update(new, old)
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let spec = Path::Root.field("spec");
        let job = spec.field("jobTemplate");
        warnings::of_template(object, &job.field("spec").field("template"))
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }
}

/// Gives the job's pods labels that no other job's have, and selects by them. What the client
/// set is left for validation to refuse.
fn select_own_pods(job: &mut Value, uid: &str) {
    if object::flag(job, "spec.manualSelector") {
        return;
    }
    let name = object::name(job).to_owned();
    let spec = object::ensure(job, "spec");
    let Some(template) = spec.get_mut("template") else { return };
    let metadata = object::ensure(template, "metadata");
    let labels = object::as_map(metadata.entry("labels").or_insert(Value::Null));
    for (key, value) in [
        ("job-name", name.as_str()),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", uid),
        ("batch.kubernetes.io/controller-uid", uid),
    ] {
        object::default(labels, key, value);
    }
    let labels = labels.clone();
    let selector = object::as_map(spec.entry("selector").or_insert(Value::Null));
    let matching = object::as_map(selector.entry("matchLabels").or_insert(Value::Null));
    object::default(matching, "batch.kubernetes.io/controller-uid", uid);
    if object::labels(job).as_object().is_none_or(Map::is_empty) {
        object::ensure(job, "metadata").insert("labels".to_owned(), labels.into());
    }
}
