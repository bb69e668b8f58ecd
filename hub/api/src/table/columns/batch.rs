//! Columns of `batch`.

use super::{AGE, CONTAINERS, Column, IMAGES, NAME, SELECTOR, computed, count, since, text};
use crate::table::workload;

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "cronjobs" => Some(CRON_JOBS),
        "jobs" => Some(JOBS),
        _ => None,
    }
}

const CRON_JOBS: &[Column] = &[
    NAME,
    text("Schedule", "/spec/schedule", "When jobs are made, as in cron."),
    computed("Timezone", workload::cron_job_time_zone, "Time zone of the schedule."),
    computed("Suspend", workload::cron_job_suspend, "Whether no jobs are made."),
    count("Active", &["/status/active"], "How many jobs run.").of_type("integer"),
    since("Last Schedule", workload::cron_job_last_schedule, "When a job was made last."),
    AGE,
    computed("Containers", workload::cron_job_containers, "Names of the containers.").wide(),
    computed("Images", workload::cron_job_images, "Images of the containers.").wide(),
    computed("Selector", workload::cron_job_selector, "Which pods belong to the jobs.").wide(),
];

const JOBS: &[Column] = &[
    NAME,
    computed("Status", workload::job_status, "How far the job is."),
    computed("Completions", workload::job_completions, "How many of the pods have succeeded."),
    since("Duration", workload::job_duration, "How long the job took, or takes so far."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
