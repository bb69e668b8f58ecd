//! Strategies of `batch`.

use serde_json::{Map, Value, json};

use super::Rules;
use super::apps::WORKLOAD;
use crate::defaults;
use crate::object;
use crate::path::Path;
use crate::validation::batch;
use crate::warnings;

/// Jobs.
pub static JOB: Rules = Rules {
    default: defaults::batch::job,
    prepare_create: |object, context| {
        select_own_pods(object, context.uid);
        object["status"] = json!({});
    },
    validate: batch::job,
    validate_update: batch::job_update,
    validate_status: |new, _| batch::job_status(new),
    ..WORKLOAD
};

/// CronJobs.
pub static CRON_JOB: Rules = Rules {
    default: defaults::batch::cron_job,
    validate: batch::cron_job,
    validate_update: batch::cron_job_update,
    warnings: |object| {
        let spec = Path::Root.field("spec");
        let job = spec.field("jobTemplate");
        warnings::of_template(object, &job.field("spec").field("template"))
    },
    ..WORKLOAD
};

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
