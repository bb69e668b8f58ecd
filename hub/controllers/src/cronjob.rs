//! CronJob: makes a Job whenever its schedule comes around, and forgets old ones.
//!
//! A Job is named after the minute that it is for: whoever makes it twice finds it made.

use std::sync::Arc;

use hub_api::cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::condition;
use crate::object::{Kind, Name, Object, ObjectRef};
use crate::owned::controller_ref;
use crate::value::{
    at, bool_at, list_at, maybe_int_at, merge_diff, object_mut, str_at, time_at, time_text,
};
use crate::world::{Change, World};
use crate::write::{Note, Write};
use crate::{Controller, Plan};

mod schedule;

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Missed times above which the user is told.
const MANY: usize = 100;

#[derive(Debug)]
pub struct CronJobController;

impl Controller for CronJobController {
    fn name(&self) -> &'static str {
        "cronjob-controller"
    }

    fn affected(&self, change: &Change<'_>, _world: &World) -> Vec<ObjectRef> {
        match change.kind {
            Kind::CRON_JOB => change.latest().map(Object::key).into_iter().collect(),
            Kind::JOB => {
                let owners = change.sides().filter_map(|job| Some((job, job.controller()?)));
                owners
                    .filter(|(_, owner)| owner.kind() == "CronJob")
                    .map(|(job, owner)| {
                        Kind::CRON_JOB.key(&Name::new(&job.name.namespace, owner.name()))
                    })
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, now: Timestamp) -> Plan {
        let Some(cron) = world.find(key) else { return Plan::default() };
        let mut jobs: Vec<Arc<Object>> = world.managed_by(&cron.uid, Kind::JOB).cloned().collect();
        jobs.sort_by_key(|job| (started(job), job.name.clone()));
        let mut work = Work {
            cron,
            world,
            now,
            status: status_of(cron, &jobs, world),
            jobs,
            plan: Plan::default(),
        };
        work.tell_finished();
        if !cron.is_deleting() {
            work.forget();
            work.start();
        }
        let Work { status, mut plan, .. } = work;
        if let Some(patch) = merge_diff(cron.status(), &status) {
            plan.writes.push(Write::patch(cron, Some("status"), json!({"status": patch})));
        }
        plan
    }
}

fn started(job: &Object) -> Option<Timestamp> {
    time_at(job.status(), &["startTime"]).or_else(|| job.created())
}

/// `Complete` or `Failed`, once a Job is over.
fn ending(job: &Object) -> Option<&'static str> {
    ["Complete", "Failed"].into_iter().find(|it| condition::state(job.status(), it) == "True")
}

fn reference(job: &Object, world: &World) -> Value {
    let row = world.row(Kind::JOB);
    json!({
        "apiVersion": row.map_or("batch/v1", |it| it.api_version.as_str()),
        "kind": "Job",
        "name": job.name.name,
        "namespace": job.name.namespace,
        "resourceVersion": job.revision.to_string(),
        "uid": job.uid.0,
    })
}

/// The status as the Jobs have it: which run, and when one succeeded last.
fn status_of(cron: &Object, jobs: &[Arc<Object>], world: &World) -> Value {
    let mut status = cron.status().clone();
    let known = list_at(cron.status(), &["active"]);
    let running = jobs.iter().filter(|job| ending(job).is_none() && !job.is_deleting());
    let active: Vec<Value> = running
        .map(|job| {
            // As it was told first: the revision in it moves with every step of the Job.
            let old = known.iter().find(|it| str_at(it, &["uid"]) == job.uid.0);
            old.cloned().unwrap_or_else(|| reference(job, world))
        })
        .collect();
    let fields = object_mut(&mut status);
    match active.is_empty() {
        true => fields.remove("active"),
        false => fields.insert("active".to_owned(), json!(active)),
    };
    let done = |job: &Arc<Object>| {
        let ended = time_at(job.status(), &["completionTime"]);
        ended.filter(|_| ending(job) == Some("Complete"))
    };
    let known = time_at(cron.status(), &["lastSuccessfulTime"]);
    if let Some(last) = jobs.iter().filter_map(done).chain(known).max() {
        fields.insert("lastSuccessfulTime".to_owned(), json!(time_text(last)));
    }
    status
}

/// One look at one CronJob.
struct Work<'a> {
    cron: &'a Object,
    world: &'a World,
    now: Timestamp,
    jobs: Vec<Arc<Object>>,
    status: Value,
    plan: Plan,
}

impl Work<'_> {
    fn note(&mut self, is_warning: bool, reason: &'static str, message: String) {
        let note = match is_warning {
            true => Note::warning(self.cron, self.world, reason, message),
            false => Note::normal(self.cron, self.world, reason, message),
        };
        self.plan.writes.push(Write::Note(note));
    }

    fn tell_finished(&mut self) {
        let known = list_at(self.cron.status(), &["active"]).to_vec();
        for reference in known {
            let (uid, name) = (str_at(&reference, &["uid"]), str_at(&reference, &["name"]));
            let job = self.jobs.iter().find(|job| job.uid.0 == uid);
            let told = match job.map(|job| ending(job)) {
                None => ("MissingJob", format!("Active job went missing: {name}")),
                Some(None) => continue,
                Some(Some(ending)) => {
                    let message = format!("Saw completed job: {name}, condition: {ending}");
                    ("SawCompletedJob", message)
                }
            };
            self.note(false, told.0, told.1);
        }
    }

    /// Removes the oldest Jobs that are over, beyond the limits.
    fn forget(&mut self) {
        for (field, default, wanted) in
            [("successfulJobsHistoryLimit", 3, "Complete"), ("failedJobsHistoryLimit", 1, "Failed")]
        {
            let limit = maybe_int_at(self.cron.spec(), &[field]).unwrap_or(default);
            let over: Vec<Arc<Object>> = self
                .jobs
                .iter()
                .filter(|job| ending(job) == Some(wanted) && !job.is_deleting())
                .cloned()
                .collect();
            let surplus = over.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
            for job in over.iter().take(surplus) {
                self.delete(job);
            }
        }
    }

    fn delete(&mut self, job: &Object) {
        let name = &job.name.name;
        let told = format!("Deleted job {name}");
        self.plan.writes.push(Write::delete(job).telling(
            Note::normal(self.cron, self.world, "SuccessfulDelete", told),
            Note::warning(
                self.cron,
                self.world,
                "FailedDelete",
                format!("Deleted job: {name}: {{error}}"),
            ),
        ));
    }

    /// Makes the Job that is due, if there is one.
    fn start(&mut self) {
        if bool_at(self.cron.spec(), &["suspend"]) {
            return;
        }
        let text = str_at(self.cron.spec(), &["schedule"]);
        let zone = str_at(self.cron.spec(), &["timeZone"]);
        let Some(zone_found) = cron::time_zone(zone) else {
            let message = format!("invalid timeZone: {zone:?}: unknown time zone {zone}");
            return self.note(true, "UnknownTimeZone", message);
        };
        let schedule = match cron::parse(text) {
            Ok(schedule) => schedule,
            Err(err) => {
                let message = format!("unparseable schedule: {text:?} : {err}");
                return self.note(true, "UnparseableSchedule", message);
            }
        };
        if let Some(next) = schedule::next(&schedule, &zone_found, self.now) {
            self.plan.recheck_by(next);
        }
        let deadline = maybe_int_at(self.cron.spec(), &["startingDeadlineSeconds"]);
        let earliest = self.earliest(deadline);
        let Some(due) = schedule::last(&schedule, &zone_found, earliest, self.now) else { return };
        self.tell_missed(&schedule, &zone_found, earliest);
        let name = format!("{}-{}", self.cron.name.name, due.as_second() / 60);
        let key = Name::new(&self.cron.name.namespace, &name);
        if self.world.get(Kind::JOB, &key).is_some() {
            // Made before the status could say so.
            return self.set_last(due);
        }
        if self.may_start() {
            self.create(&name, due, &zone_found);
            self.set_last(due);
        }
    }

    /// Where missed times begin to count.
    fn earliest(&self, deadline: Option<i64>) -> Timestamp {
        let last = time_at(self.cron.status(), &["lastScheduleTime"]);
        let since = last.or_else(|| self.cron.created()).unwrap_or(self.now);
        let bound =
            deadline.and_then(|it| self.now.checked_sub(SignedDuration::from_secs(it)).ok());
        bound.map_or(since, |bound| since.max(bound))
    }

    fn tell_missed(&mut self, schedule: &cron::Schedule, zone: &TimeZone, earliest: Timestamp) {
        let mut time = Some(earliest);
        for _ in 0..=MANY {
            time = time.and_then(|it| schedule::next(schedule, zone, it));
            if time.is_none_or(|it| it > self.now) {
                return;
            }
        }
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        self.note(true, "TooManyMissedTimes", message.to_owned());
    }

    fn may_start(&mut self) -> bool {
        let active: Vec<Arc<Object>> =
            self.jobs.iter().filter(|job| ending(job).is_none()).cloned().collect();
        if active.is_empty() {
            return true;
        }
        match str_at(self.cron.spec(), &["concurrencyPolicy"]) {
            "Forbid" => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.note(false, "JobAlreadyActive", message.to_owned());
                false
            }
            "Replace" => {
                for job in active.iter().filter(|job| !job.is_deleting()) {
                    self.delete(job);
                }
                object_mut(&mut self.status).remove("active");
                true
            }
            _ => true,
        }
    }

    fn set_last(&mut self, due: Timestamp) {
        object_mut(&mut self.status).insert("lastScheduleTime".to_owned(), json!(time_text(due)));
    }

    fn create(&mut self, name: &str, due: Timestamp, zone: &TimeZone) {
        let cron = self.cron;
        let template = at(cron.spec(), &["jobTemplate"]);
        let mut annotations = at(template, &["metadata", "annotations"]).clone();
        let local = due.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        let local =
            local.strip_suffix("+00:00").map_or_else(|| local.clone(), |it| format!("{it}Z"));
        object_mut(&mut annotations).insert(SCHEDULED.to_owned(), json!(local));
        let mut metadata = json!({
            "name": name,
            "namespace": cron.name.namespace,
            "annotations": annotations,
            "creationTimestamp": null,
            "ownerReferences": [controller_ref(cron, self.world)],
        });
        let labels = at(template, &["metadata", "labels"]);
        if !labels.is_null() {
            metadata["labels"] = labels.clone();
        }
        let object = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata,
            "spec": at(template, &["spec"]),
        });
        let write = Write::Create {
            kind: Kind::JOB,
            namespace: cron.name.namespace.clone(),
            object,
            then: None,
            or_else: None,
        };
        self.plan.writes.push(write.telling(
            Note::normal(cron, self.world, "SuccessfulCreate", "Created job {name}".to_owned()),
            Note::warning(
                cron,
                self.world,
                "FailedCreate",
                "Error creating job: {error}".to_owned(),
            ),
        ));
    }
}

#[cfg(test)]
mod tests;
