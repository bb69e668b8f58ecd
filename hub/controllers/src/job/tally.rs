//! What the pods of a Job come to: each finished pod is counted exactly once.
//!
//! ```text
//! finished, with finalizer ──> in `uncountedTerminatedPods` ──> without finalizer ──> in the counter
//! ```
//! Each arrow is one write, and each write holds only after the one before: a crash between two of
//! them neither loses a pod nor counts it twice. Indexes are a set and need no second step.
//!
//! How often an index has failed is written on its pods. The last one is held until the next one bears the number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::indexes::{INDEX, Indexes, index_of};
use super::pods::finished_at;
use super::policy::{self, Action};
use crate::object::Object;
use crate::pods;
use crate::value::{at, int_at, list_at, maybe_int_at, str_at};

/// Holds a pod until it is counted.
pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// How often the index of a pod had failed before it.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";

/// What the pods of a Job come to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) active: Vec<Arc<Object>>,
    pub(super) terminating: i64,
    pub(super) ready: i64,
    /// Counted, without those that wait for it.
    pub(super) counted: [i64; 2],
    /// UIDs that wait to be counted: succeeded, failed.
    pub(super) uncounted: [Vec<String>; 2],
    pub(super) completed: Indexes,
    pub(super) failed_indexes: Indexes,
    /// Failures of each index, by index.
    pub(super) failures: BTreeMap<i64, i64>,
    /// Pods that are counted once the status is stored.
    pub(super) done: Vec<Arc<Object>>,
    /// UIDs of those among them that are not counted yet: they alone know how often their index has failed.
    pub(super) held: BTreeSet<String>,
    /// Why a rule wants the Job to fail.
    pub(super) verdict: Option<String>,
    indexed: bool,
}

impl Tally {
    pub(super) fn succeeded(&self) -> i64 {
        if self.indexed { self.completed.len() } else { total(self.counted[0], &self.uncounted[0]) }
    }

    pub(super) fn failed(&self) -> i64 {
        total(self.counted[1], &self.uncounted[1])
    }

    /// Whether every finished pod is in the counters.
    pub(super) fn is_settled(&self) -> bool {
        self.uncounted.iter().all(Vec::is_empty)
    }
}

fn total(counted: i64, uncounted: &[String]) -> i64 {
    counted.saturating_add(i64::try_from(uncounted.len()).unwrap_or(i64::MAX))
}

pub(super) fn is_indexed(job: &Object) -> bool {
    str_at(job.spec(), &["completionMode"]) == "Indexed"
}

/// How often an index may fail, where each is judged on its own.
pub(super) fn limit_per_index(job: &Object) -> Option<i64> {
    maybe_int_at(job.spec(), &["backoffLimitPerIndex"]).filter(|_| is_indexed(job))
}

/// Whether a pod is replaced only when it has failed, not when it begins to end.
pub(super) fn waits_for_failure(job: &Object) -> bool {
    match str_at(job.spec(), &["podReplacementPolicy"]) {
        "" => !at(job.spec(), &["podFailurePolicy"]).is_null(),
        policy => policy == "Failed",
    }
}

/// Counts.
pub(super) fn tally(job: &Object, pods: &[Arc<Object>]) -> Tally {
    let status = job.status();
    let completions = maybe_int_at(job.spec(), &["completions"]).unwrap_or(i64::MAX);
    let indexes = |field: &str| Indexes::parse(str_at(status, &[field]), completions);
    let mut tally = Tally { indexed: is_indexed(job), ..Tally::default() };
    if tally.indexed {
        tally.completed = indexes("completedIndexes");
        tally.failed_indexes = indexes("failedIndexes");
    }
    let by_uid: BTreeMap<&str, &Arc<Object>> =
        pods.iter().map(|pod| (pod.uid.0.as_str(), pod)).collect();
    for (place, field) in ["succeeded", "failed"].into_iter().enumerate() {
        tally.counted[place] = int_at(status, &[field]);
        let waiting = list_at(status, &["uncountedTerminatedPods", field]);
        for uid in waiting.iter().filter_map(Value::as_str) {
            match by_uid.get(uid).filter(|pod| pod.has_finalizer(FINALIZER)) {
                Some(pod) => {
                    tally.uncounted[place].push(uid.to_owned());
                    tally.done.push((*pod).clone());
                }
                None => tally.counted[place] += 1,
            }
        }
    }
    for pod in pods {
        tally.look_at(job, pod, completions);
    }
    if limit_per_index(job).is_some() {
        tally.hold(job, completions);
    }
    tally
}

/// How often the index of a failed pod has failed, with it.
fn failures_with(job: &Object, pod: &Object) -> i64 {
    let before = pod.annotation(FAILURES).and_then(|it| it.parse::<i64>().ok());
    let ignored = policy::judge(job, pod) == Action::Ignore;
    before.unwrap_or(0).saturating_add(i64::from(!ignored))
}

impl Tally {
    fn look_at(&mut self, job: &Object, pod: &Arc<Object>, completions: i64) {
        let phase = str_at(pod.status(), &["phase"]);
        let finished = pods::is_finished(pod);
        if !finished && pod.is_deleting() {
            self.terminating += 1;
        } else if !finished {
            self.active.push(pod.clone());
            self.ready += i64::from(pods::is_ready(pod));
        }
        let index = index_of(pod).filter(|it| self.indexed && *it < completions);
        let failed = phase == "Failed"
            || pod.is_deleting() && phase != "Succeeded" && !waits_for_failure(job);
        if failed && let Some(index) = index {
            let failures = failures_with(job, pod);
            let known = self.failures.entry(index).or_default();
            *known = (*known).max(failures);
        }
        let is_waiting = self.uncounted.iter().flatten().any(|uid| *uid == pod.uid.0);
        if !pod.has_finalizer(FINALIZER) || is_waiting || !(failed || phase == "Succeeded") {
            return;
        }
        self.done.push(pod.clone());
        if phase == "Succeeded" {
            match index {
                Some(index) => {
                    self.completed.0.insert(index);
                }
                None if !self.indexed => self.uncounted[0].push(pod.uid.0.clone()),
                // An index that nobody asked for.
                None => {}
            }
            return;
        }
        let limit = limit_per_index(job);
        let exceeds = |index: &i64| {
            limit.is_some_and(|limit| self.failures.get(index).is_some_and(|it| *it > limit))
        };
        let fails = match policy::judge(job, pod) {
            Action::Ignore => return,
            Action::Count => index.filter(exceeds),
            Action::FailIndex => index,
            Action::FailJob(why) => {
                self.verdict.get_or_insert(why);
                index.filter(exceeds)
            }
        };
        self.failed_indexes.0.extend(fails);
        self.uncounted[1].push(pod.uid.0.clone());
    }

    /// Holds the last failed pod of each index that is to be tried again and has no other pod.
    fn hold(&mut self, job: &Object, completions: i64) {
        let busy: BTreeSet<i64> = self.active.iter().filter_map(|pod| index_of(pod)).collect();
        let is_over = |index: &i64| self.completed.has(*index) || self.failed_indexes.has(*index);
        let mut last = BTreeMap::new();
        for pod in self.done.iter().filter(|pod| str_at(pod.status(), &["phase"]) != "Succeeded") {
            let index = index_of(pod).filter(|it| *it < completions && !is_over(it));
            let Some(index) = index.filter(|it| !busy.contains(it)) else { continue };
            let rank = (failures_with(job, pod), finished_at(pod), pod.uid.0.clone());
            let known = last.entry(index).or_insert_with(|| rank.clone());
            *known = rank.max(known.clone());
        }
        self.held = last.into_values().map(|(_, _, uid)| uid).collect();
    }
}

/// The labels and annotations that tie a pod to its index.
pub(super) fn index_marks(index: i64, failures: Option<i64>) -> (Value, Value) {
    let mut annotations = serde_json::json!({INDEX: index.to_string()});
    if let Some(failures) = failures {
        annotations[FAILURES] = failures.to_string().into();
    }
    (serde_json::json!({INDEX: index.to_string()}), annotations)
}
