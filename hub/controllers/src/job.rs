//! Job: runs pods until enough of them have succeeded, or too many have failed.
//!
//! ```text
//! running ──> SuccessCriteriaMet | FailureTarget ──> pods end ──> Complete | Failed ──> removed (TTL)
//!    └──suspend──> no pods ──resume──> running
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::condition::{self, Condition};
use crate::object::{Kind, Name, Object, ObjectRef};
use crate::owned::claim;
use crate::pods::{Candidate, deletion_order};
use crate::value::{
    at, bool_at, list_at, maybe_int_at, merge_diff, object_mut, str_at, time_at, time_text,
};
use crate::world::{Change, World};
use crate::write::{Note, Propagation, Write};
use crate::{Controller, Plan, selector};

mod indexes;
mod pods;
mod policy;
mod stray;
mod tally;

use indexes::{Indexes, index_of};
use tally::{Tally, is_indexed, limit_per_index, waits_for_failure};

/// Pods created or deleted by one plan at most.
const BURST: usize = 500;
const MANAGER: &str = "kubernetes.io/job-controller";

#[derive(Debug)]
pub struct JobController;

impl Controller for JobController {
    fn name(&self) -> &'static str {
        "job-controller"
    }

    fn affected(&self, change: &Change<'_>, world: &World) -> Vec<ObjectRef> {
        match change.kind {
            Kind::JOB => {
                // Pods of a Job that is gone are looked after each on its own.
                let gone = change.old.filter(|old| change.new.is_none_or(|it| it.uid != old.uid));
                let left = gone.into_iter().flat_map(|old| world.dependents(&old.uid));
                let left = left.filter(|it| it.kind == Kind::POD).map(|pod| pod.key());
                change.latest().map(Object::key).into_iter().chain(left).collect()
            }
            Kind::POD => {
                let stray = change.new.filter(|pod| stray::is_stray(pod, world)).map(Object::key);
                change.sides().flat_map(|pod| jobs_of(pod, world)).chain(stray).collect()
            }
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, now: Timestamp) -> Plan {
        if key.kind == Kind::POD {
            return stray::let_go(key, world, now);
        }
        let Some(job) = world.find(key) else { return Plan::default() };
        if !matches!(str_at(job.spec(), &["managedBy"]), "" | MANAGER) {
            return Plan::default();
        }
        let mut claim = claim(job, Kind::POD, world, |_| true);
        claim.writes.iter_mut().for_each(|write| hold_adopted(write, world));
        if let Some(finished) = finished(job) {
            return cleanup(job, finished, &claim.objects, now);
        }
        let mut work = Work {
            job,
            world,
            now,
            tally: tally::tally(job, &claim.objects),
            pods: claim.objects,
            plan: Plan::from(claim.writes),
            conditions: condition::list(job.status()),
            after: Vec::new(),
            active_change: 0,
        };
        work.go_on();
        work.finish()
    }
}

/// The Jobs to wake when this pod changes.
fn jobs_of(pod: &Object, world: &World) -> Vec<ObjectRef> {
    let namespace = pod.name.namespace.as_str();
    match pod.controller() {
        Some(owner) if owner.kind() == "Job" => {
            vec![Kind::JOB.key(&Name::new(namespace, owner.name()))]
        }
        Some(_) => Vec::new(),
        None => world
            .list_in(Kind::JOB, namespace)
            .filter(|job| selector::matches(at(job.spec(), &["selector"]), pod.labels()))
            .map(|job| job.key())
            .collect(),
    }
}

/// A pod that is adopted is held until it is counted, as if the Job had made it.
fn hold_adopted(write: &mut Write, world: &World) {
    let Write::Patch { target, patch, .. } = write else { return };
    let Some(pod) = world.find(target) else { return };
    let adopts = pod.controller().is_none() && !pod.has_finalizer(tally::FINALIZER);
    if adopts && !crate::pods::is_finished(pod) {
        let mut finalizers: Vec<&str> = pod.finalizers().collect();
        finalizers.push(tally::FINALIZER);
        patch["metadata"]["finalizers"] = json!(finalizers);
    }
}

/// The condition that ends a Job.
fn finished(job: &Object) -> Option<&Value> {
    ["Complete", "Failed"]
        .into_iter()
        .filter_map(|kind| condition::find(job.status(), kind))
        .find(|it| str_at(it, &["status"]) == "True")
}

/// Lets go of what is left, and removes the Job when its time has come.
fn cleanup(job: &Object, finished: &Value, pods: &[Arc<Object>], now: Timestamp) -> Plan {
    let mut plan = Plan::from(pods.iter().filter_map(|pod| pods::release(pod)).collect::<Vec<_>>());
    let ttl = maybe_int_at(job.spec(), &["ttlSecondsAfterFinished"]);
    let since = time_at(finished, &["lastTransitionTime"]);
    if let (Some(ttl), Some(since), false) = (ttl, since, job.is_deleting()) {
        let expiry = since.checked_add(SignedDuration::from_secs(ttl)).unwrap_or(Timestamp::MAX);
        if expiry <= now {
            let mut delete = Write::delete(job);
            if let Write::Delete { propagation, .. } = &mut delete {
                *propagation = Propagation::Foreground;
            }
            plan.writes.push(delete);
        } else {
            plan.recheck_by(expiry);
        }
    }
    plan
}

/// How a Job ends.
#[derive(Debug)]
struct End {
    succeeds: bool,
    reason: String,
    message: String,
}

impl End {
    fn failure(reason: &str, message: &str) -> Self {
        Self { succeeds: false, reason: reason.to_owned(), message: message.to_owned() }
    }
}

/// One look at one Job.
struct Work<'a> {
    job: &'a Object,
    world: &'a World,
    now: Timestamp,
    tally: Tally,
    pods: Vec<Arc<Object>>,
    plan: Plan,
    conditions: Vec<Value>,
    /// What is done after the status is stored.
    after: Vec<Write>,
    /// Pods that the plan makes, less those that it ends.
    active_change: i64,
}

impl Work<'_> {
    fn go_on(&mut self) {
        let end = self.begun_end().or_else(|| self.end());
        if end.is_some() || self.job.is_deleting() {
            // No other pod comes after them.
            self.tally.held.clear();
        }
        if let Some(end) = end {
            self.bring_to_end(&end);
        } else if !self.job.is_deleting() {
            self.manage();
        }
    }

    /// The end that was decided before.
    fn begun_end(&self) -> Option<End> {
        let status = self.job.status();
        [("SuccessCriteriaMet", true), ("FailureTarget", false)].into_iter().find_map(
            |(kind, succeeds)| {
                let found = condition::find(status, kind)?;
                let text = |field: &str| str_at(found, &[field]).to_owned();
                (str_at(found, &["status"]) == "True").then(|| End {
                    succeeds,
                    reason: text("reason"),
                    message: text("message"),
                })
            },
        )
    }

    /// The end that is due now.
    fn end(&mut self) -> Option<End> {
        let spec = self.job.spec();
        if let Some(why) = &self.tally.verdict {
            return Some(End::failure("PodFailurePolicy", why));
        }
        let limit = maybe_int_at(spec, &["backoffLimit"]).unwrap_or(6);
        if self.tally.failed() > limit || self.restarts_exceed(limit) {
            let message = "Job has reached the specified backoff limit";
            return Some(End::failure("BackoffLimitExceeded", message));
        }
        if let Some(seconds) = maybe_int_at(spec, &["activeDeadlineSeconds"])
            && let Some(start) = time_at(self.job.status(), &["startTime"])
            && !self.is_suspended()
        {
            let deadline = start.checked_add(SignedDuration::from_secs(seconds));
            let deadline = deadline.unwrap_or(Timestamp::MAX);
            if deadline <= self.now {
                let message = "Job was active longer than specified deadline";
                return Some(End::failure("DeadlineExceeded", message));
            }
            self.plan.recheck_by(deadline);
        }
        self.end_of_indexes().or_else(|| self.success())
    }

    fn restarts_exceed(&self, limit: i64) -> bool {
        if str_at(self.job.spec(), &["template", "spec", "restartPolicy"]) != "OnFailure" {
            return false;
        }
        let restarts: i64 = self.pods.iter().map(|pod| policy::restarts(pod)).sum();
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    fn end_of_indexes(&self) -> Option<End> {
        let spec = self.job.spec();
        let completions = maybe_int_at(spec, &["completions"])?;
        let failed = &self.tally.failed_indexes;
        limit_per_index(self.job)?;
        if maybe_int_at(spec, &["maxFailedIndexes"]).is_some_and(|max| failed.len() > max) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(End::failure("MaxFailedIndexesExceeded", message));
        }
        let all = failed.len() + self.tally.completed.len() >= completions;
        (all && !failed.is_empty()).then(|| End::failure("FailedIndexes", "Job has failed indexes"))
    }

    fn success(&self) -> Option<End> {
        let spec = self.job.spec();
        let completions = maybe_int_at(spec, &["completions"]);
        let met = |reason: &str, message: String| End {
            succeeds: true,
            reason: reason.to_owned(),
            message,
        };
        for (i, rule) in list_at(spec, &["successPolicy", "rules"]).iter().enumerate() {
            let all = Indexes::parse(
                str_at(rule, &["succeededIndexes"]),
                completions.unwrap_or(i64::MAX),
            );
            let done = match all.is_empty() {
                true => self.tally.completed.len(),
                false => Indexes(&all.0 & &self.tally.completed.0).len(),
            };
            let wanted = maybe_int_at(rule, &["succeededCount"]).unwrap_or_else(|| all.len());
            if done >= wanted {
                return Some(met("SuccessPolicy", format!("Matched rules at index {i}")));
            }
        }
        let succeeded = self.tally.succeeded();
        let enough = match completions {
            Some(completions) => succeeded >= completions,
            None => succeeded > 0,
        };
        (enough && self.tally.active.is_empty()).then(|| {
            met("CompletionsReached", "Reached expected number of succeeded pods".to_owned())
        })
    }

    /// Says that the end has come, ends the pods, and closes the Job when nothing is left.
    fn bring_to_end(&mut self, end: &End) {
        let (target, last) = match end.succeeds {
            true => ("SuccessCriteriaMet", "Complete"),
            false => ("FailureTarget", "Failed"),
        };
        self.set_condition(target, "True", &end.reason, &end.message);
        let active: Vec<Arc<Object>> = self.tally.active.clone();
        for pod in active.iter().take(BURST) {
            self.after.push(pods::end(self.job, pod, self.world));
            self.active_change -= 1;
        }
        if !active.is_empty() || self.tally.terminating > 0 || !self.tally.is_settled() {
            return;
        }
        self.set_condition(last, "True", &end.reason, &end.message);
        let note = match end.succeeds {
            true => Note::normal(self.job, self.world, "Completed", "Job completed".to_owned()),
            false => {
                let reason = reason_word(&end.reason);
                Note::warning(self.job, self.world, reason, end.message.clone())
            }
        };
        self.after.push(Write::Note(note));
    }

    fn is_suspended(&self) -> bool {
        bool_at(self.job.spec(), &["suspend"])
    }

    fn set_condition(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let message = message.to_owned();
        let new = Condition { kind, status, reason, message };
        condition::set(&mut self.conditions, &new, Some("lastProbeTime"), self.now);
    }

    /// Makes and removes pods.
    fn manage(&mut self) {
        if self.is_suspended() {
            self.set_suspended();
            let active = self.tally.active.clone();
            self.remove(active);
            return;
        }
        if condition::state(self.job.status(), "Suspended") == "True" {
            self.set_condition("Suspended", "False", "JobResumed", "Job resumed");
            let note = Note::normal(self.job, self.world, "Resumed", "Job resumed".to_owned());
            self.after.push(Write::Note(note));
        }
        let surplus = self.surplus();
        if !surplus.is_empty() {
            self.remove(surplus);
            return;
        }
        let terminating = if waits_for_failure(self.job) { self.tally.terminating } else { 0 };
        let missing = self.wanted() - terminating - self.n_active();
        if missing <= 0 {
            return;
        }
        let counts_alone = limit_per_index(self.job).is_some();
        let start = pods::next_start(&self.pods).filter(|_| !counts_alone);
        if let Some(at) = start.filter(|at| *at > self.now) {
            self.plan.recheck_by(at);
            return;
        }
        let missing = usize::try_from(missing).unwrap_or_default().min(BURST);
        if is_indexed(self.job) {
            for index in self.pending(missing) {
                let failures = self.tally.failures.get(&index).copied().unwrap_or(0);
                let failures = counts_alone.then_some(failures);
                self.create(Some((index, failures)));
            }
        } else {
            (0..missing).for_each(|_| self.create(None));
        }
    }

    fn set_suspended(&mut self) {
        if condition::state(self.job.status(), "Suspended") != "True" {
            self.set_condition("Suspended", "True", "JobSuspended", "Job suspended");
            let note = Note::normal(self.job, self.world, "Suspended", "Job suspended".to_owned());
            self.after.push(Write::Note(note));
        }
    }

    fn n_active(&self) -> i64 {
        i64::try_from(self.tally.active.len()).unwrap_or(i64::MAX)
    }

    /// How many pods should run now.
    fn wanted(&self) -> i64 {
        let parallelism = maybe_int_at(self.job.spec(), &["parallelism"]).unwrap_or(1);
        let succeeded = self.tally.succeeded();
        match maybe_int_at(self.job.spec(), &["completions"]) {
            // Whoever succeeds has done the work of all.
            None if succeeded > 0 => self.n_active(),
            None => parallelism,
            Some(completions) => (completions - succeeded).min(parallelism).max(0),
        }
    }

    /// Pods that should not run: more than wanted, or two of an index.
    fn surplus(&self) -> Vec<Arc<Object>> {
        let mut left: Vec<Arc<Object>> = self.tally.active.clone();
        left.sort_by(|a, b| {
            let candidate = |pod| Candidate { pod, relatives_on_node: 0 };
            deletion_order(&candidate(a), &candidate(b), self.now)
        });
        let mut out = Vec::new();
        if is_indexed(self.job) {
            let completions = maybe_int_at(self.job.spec(), &["completions"]).unwrap_or(0);
            let mut seen = BTreeSet::new();
            // From the back: of two the more worthy one stays.
            let mut kept = Vec::new();
            for pod in left.into_iter().rev() {
                match index_of(&pod) {
                    Some(index)
                        if index < completions
                            && !self.tally.completed.has(index)
                            && seen.insert(index) =>
                    {
                        kept.push(pod);
                    }
                    _ => out.push(pod),
                }
            }
            kept.reverse();
            left = kept;
        }
        let wanted = usize::try_from(self.wanted()).unwrap_or_default();
        let surplus = left.len().saturating_sub(wanted);
        out.extend(left.into_iter().take(surplus));
        out.truncate(BURST);
        out
    }

    /// The first indexes that nobody works on and that need not wait after their failures.
    fn pending(&mut self, at_most: usize) -> Vec<i64> {
        let completions = maybe_int_at(self.job.spec(), &["completions"]).unwrap_or(0);
        let waits = waits_for_failure(self.job);
        let busy: BTreeSet<i64> = self
            .pods
            .iter()
            .filter(|pod| !crate::pods::is_finished(pod) && (waits || !pod.is_deleting()))
            .filter_map(|pod| index_of(pod))
            .collect();
        let starts = match limit_per_index(self.job) {
            Some(_) => pods::next_starts(&self.pods, &self.tally.failures),
            None => BTreeMap::new(),
        };
        let mut pending = Vec::new();
        let idle = (0..completions)
            .filter(|it| !busy.contains(it))
            .filter(|it| !self.tally.completed.has(*it) && !self.tally.failed_indexes.has(*it));
        for index in idle {
            match starts.get(&index) {
                Some(at) if *at > self.now => self.plan.recheck_by(*at),
                Some(_) | None => pending.push(index),
            }
            if pending.len() == at_most {
                break;
            }
        }
        pending
    }

    fn create(&mut self, index: Option<(i64, Option<i64>)>) {
        self.after.push(pods::create(self.job, index, self.world));
        self.active_change += 1;
    }

    fn remove(&mut self, pods: Vec<Arc<Object>>) {
        let pods: Vec<_> = pods.into_iter().take(BURST).collect();
        self.after.extend(pods.iter().filter_map(|pod| pods::release(pod)));
        for pod in &pods {
            self.after.push(pods::end(self.job, pod, self.world));
            self.active_change -= 1;
        }
    }

    /// The status first: what it counts is let go only then.
    fn finish(mut self) -> Plan {
        let status = self.status();
        if let Some(patch) = merge_diff(self.job.status(), &status) {
            let patch = json!({"status": patch});
            self.plan.writes.push(Write::patch_exactly(self.job, Some("status"), patch));
        }
        let done = self.tally.done.iter().filter(|pod| !self.tally.held.contains(&pod.uid.0));
        self.plan.writes.extend(done.filter_map(|pod| pods::release(pod)));
        self.plan.writes.append(&mut self.after);
        self.plan
    }

    fn status(&self) -> Value {
        let tally = &self.tally;
        let mut status = self.job.status().clone();
        let fields = object_mut(&mut status);
        let active = self.n_active() + self.active_change;
        let succeeded = if is_indexed(self.job) { tally.succeeded() } else { tally.counted[0] };
        for (field, number) in
            [("active", active), ("succeeded", succeeded), ("failed", tally.counted[1])]
        {
            match number {
                0 => fields.remove(field),
                number => fields.insert(field.to_owned(), json!(number)),
            };
        }
        fields.insert("ready".to_owned(), json!(tally.ready));
        fields.insert("terminating".to_owned(), json!(tally.terminating));
        let mut uncounted = json!({});
        for (list, field) in tally.uncounted.iter().zip(["succeeded", "failed"]) {
            let list: Vec<&String> = list.iter().filter(|it| !tally.held.contains(*it)).collect();
            if !list.is_empty() {
                uncounted[field] = json!(list);
            }
        }
        fields.insert("uncountedTerminatedPods".to_owned(), uncounted);
        for (field, indexes) in
            [("completedIndexes", &tally.completed), ("failedIndexes", &tally.failed_indexes)]
        {
            match indexes.is_empty() {
                true => fields.remove(field),
                false => fields.insert(field.to_owned(), json!(indexes.text())),
            };
        }
        if self.is_suspended() {
            fields.remove("startTime");
        } else if !fields.contains_key("startTime") {
            fields.insert("startTime".to_owned(), json!(time_text(self.now)));
        }
        let is_complete = self.conditions.iter().any(|it| it["type"] == "Complete");
        if is_complete {
            fields.insert("completionTime".to_owned(), json!(time_text(self.now)));
        }
        if !self.conditions.is_empty() {
            fields.insert("conditions".to_owned(), json!(self.conditions));
        }
        status
    }
}

/// Reasons of events are words of ours.
fn reason_word(reason: &str) -> &'static str {
    const WORDS: [&str; 5] = [
        "BackoffLimitExceeded",
        "DeadlineExceeded",
        "FailedIndexes",
        "MaxFailedIndexesExceeded",
        "PodFailurePolicy",
    ];
    WORDS.into_iter().find(|it| *it == reason).unwrap_or("JobFailed")
}

#[cfg(test)]
mod tests;
