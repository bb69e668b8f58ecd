//! Facts about pods that several controllers need, and the order in which pods are given up.

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::condition;
use crate::object::Object;
use crate::value::{int_at, list_at, str_at, time_at};

pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Whether the pod has run to its end.
pub fn is_finished(pod: &Object) -> bool {
    matches!(str_at(pod.status(), &["phase"]), "Succeeded" | "Failed")
}

/// Whether the pod counts for its replica set.
pub fn is_active(pod: &Object) -> bool {
    !is_finished(pod) && !pod.is_deleting()
}

pub fn is_ready(pod: &Object) -> bool {
    condition::state(pod.status(), "Ready") == "True"
}

/// Since when the pod is ready.
pub fn ready_since(pod: &Object) -> Option<Timestamp> {
    let ready = condition::find(pod.status(), "Ready")?;
    (str_at(ready, &["status"]) == "True").then(|| time_at(ready, &["lastTransitionTime"]))?
}

/// When a ready pod counts as available: at once, or `min_ready_seconds` after it became ready.
pub fn available_at(pod: &Object, min_ready_seconds: i64) -> Option<Timestamp> {
    if !is_ready(pod) {
        return None;
    }
    match min_ready_seconds {
        0 => Some(Timestamp::MIN),
        seconds => ready_since(pod)?.checked_add(SignedDuration::from_secs(seconds)).ok(),
    }
}

/// A pod that may be given up, with the number of its relatives on the same node.
#[derive(Debug)]
pub struct Candidate<'a> {
    pub pod: &'a Object,
    pub relatives_on_node: usize,
}

/// Kubernetes' order: what hurts least comes first.
pub fn deletion_order(a: &Candidate<'_>, b: &Candidate<'_>, now: Timestamp) -> Ordering {
    let (pod_a, pod_b) = (a.pod, b.pod);
    is_assigned(pod_a)
        .cmp(&is_assigned(pod_b))
        .then_with(|| phase_rank(pod_a).cmp(&phase_rank(pod_b)))
        .then_with(|| is_ready(pod_a).cmp(&is_ready(pod_b)))
        .then_with(|| deletion_cost(pod_a).cmp(&deletion_cost(pod_b)))
        .then_with(|| b.relatives_on_node.cmp(&a.relatives_on_node))
        .then_with(|| age_rank(ready_since(pod_a), now).cmp(&age_rank(ready_since(pod_b), now)))
        .then_with(|| restarts(pod_b).cmp(&restarts(pod_a)))
        .then_with(|| age_rank(pod_a.created(), now).cmp(&age_rank(pod_b.created(), now)))
        .then_with(|| pod_a.uid.cmp(&pod_b.uid))
}

fn is_assigned(pod: &Object) -> bool {
    !str_at(pod.spec(), &["nodeName"]).is_empty()
}

fn phase_rank(pod: &Object) -> u8 {
    match str_at(pod.status(), &["phase"]) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    }
}

fn deletion_cost(pod: &Object) -> i64 {
    pod.annotation(DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or_default()
}

fn restarts(pod: &Object) -> i64 {
    let count = |status: &Value| int_at(status, &["restartCount"]);
    list_at(pod.status(), &["containerStatuses"]).iter().map(count).max().unwrap_or_default()
}

/// The logarithm of an age: pods of about one age are chosen among by uid, which spreads the choice.
fn age_rank(since: Option<Timestamp>, now: Timestamp) -> i64 {
    let age = since.map_or(0, |since| now.duration_since(since).as_nanos());
    age.checked_ilog2().map_or(-1, i64::from)
}
