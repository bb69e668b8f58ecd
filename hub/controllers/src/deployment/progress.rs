//! Conditions of a Deployment: whether it gets on, and whether it has been stuck for too long.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::rollout::Rollout;
use crate::condition::{self, Condition};
use crate::object::Object;
use crate::value::{bool_at, int_at, maybe_int_at, str_at, time_at};
use crate::write::Write;

const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const AVAILABLE_REASON: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
/// A deadline of this many seconds means none at all.
const NO_DEADLINE: i64 = 2_147_483_647;

pub(super) fn has_deadline(deployment: &Object) -> bool {
    deadline(deployment).is_some()
}

fn deadline(deployment: &Object) -> Option<SignedDuration> {
    maybe_int_at(deployment.spec(), &["progressDeadlineSeconds"])
        .filter(|seconds| *seconds != NO_DEADLINE)
        .map(SignedDuration::from_secs)
}

/// Sets a condition, unless status and reason are what they were.
pub(super) fn set_condition(
    rollout: &mut Rollout<'_>,
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
) {
    let is_said = find(&rollout.conditions, kind).is_some_and(|old| {
        str_at(old, &["status"]) == status && str_at(old, &["reason"]) == reason
    });
    if !is_said {
        let new = Condition { kind, status, reason, message };
        condition::set(&mut rollout.conditions, &new, Some("lastUpdateTime"), rollout.now);
    }
}

pub(super) fn set_progressing(
    rollout: &mut Rollout<'_>,
    status: &str,
    reason: &str,
    message: String,
) {
    set_condition(rollout, PROGRESSING, status, reason, message);
}

/// A paused Deployment makes no progress, and misses no deadline.
pub(super) fn note_pause(rollout: &mut Rollout<'_>) {
    if !has_deadline(rollout.deployment) {
        return;
    }
    let reason = find(&rollout.conditions, PROGRESSING).map_or("", |it| str_at(it, &["reason"]));
    let is_noted = reason == PAUSED;
    let is_paused = bool_at(rollout.deployment.spec(), &["paused"]);
    if reason == TIMED_OUT || is_paused == is_noted {
        return;
    }
    let (reason, message) = match is_paused {
        true => (PAUSED, "Deployment is paused"),
        false => ("DeploymentResumed", "Deployment is resumed"),
    };
    set_progressing(rollout, "Unknown", reason, message.to_owned());
}

/// Works out the status of a rollout, and when its deadline passes.
pub(super) fn report(rollout: &mut Rollout<'_>) {
    match deadline(rollout.deployment) {
        None => condition::remove(&mut rollout.conditions, PROGRESSING),
        Some(deadline) if !is_long_complete(rollout) => judge(rollout, deadline),
        Some(_) => {}
    }
    copy_replica_failure(rollout);
    rollout.report();
}

/// Whether the end of this rollout was told before.
fn is_long_complete(rollout: &Rollout<'_>) -> bool {
    let updated = rollout.new.as_ref().map_or(0, |set| set.status("replicas"));
    let reason = find(&rollout.conditions, PROGRESSING).map_or("", |it| str_at(it, &["reason"]));
    reason == AVAILABLE_REASON && rollout.sum(|set| set.status("replicas")) == updated
}

fn judge(rollout: &mut Rollout<'_>, deadline: SignedDuration) {
    let what = match &rollout.new {
        Some(set) => format!("ReplicaSet \"{}\"", set.name),
        None => format!("Deployment \"{}\"", rollout.deployment.name.name),
    };
    if rollout.is_complete_now() {
        let message = format!("{what} has successfully progressed.");
        set_progressing(rollout, "True", AVAILABLE_REASON, message);
        return;
    }
    if is_progressing(rollout) {
        let new = Condition {
            kind: PROGRESSING,
            status: "True",
            reason: "ReplicaSetUpdated",
            message: format!("{what} is progressing."),
        };
        touch(&mut rollout.conditions, &new, rollout.now);
    }
    let Some(current) = find(&rollout.conditions, PROGRESSING) else { return };
    let reason = str_at(current, &["reason"]);
    if reason == TIMED_OUT || reason == AVAILABLE_REASON {
        return;
    }
    let Some(due) =
        time_at(current, &["lastUpdateTime"]).and_then(|it| it.checked_add(deadline).ok())
    else {
        return;
    };
    if due < rollout.now {
        let message = format!("{what} has timed out progressing.");
        set_progressing(rollout, "False", TIMED_OUT, message);
    } else {
        // Times in conditions are whole seconds.
        rollout.recheck_at = due.checked_add(SignedDuration::from_secs(1)).ok();
    }
}

/// Sets a condition whose update time moves even if it says the same.
fn touch(conditions: &mut Vec<Value>, new: &Condition<'_>, now: Timestamp) {
    let old = find(conditions, new.kind).cloned();
    condition::remove(conditions, new.kind);
    condition::set(conditions, new, Some("lastUpdateTime"), now);
    let Some(old) = old.filter(|old| str_at(old, &["status"]) == new.status) else { return };
    if let Some(condition) = conditions.last_mut() {
        condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
    }
}

fn is_progressing(rollout: &Rollout<'_>) -> bool {
    let before = |field| int_at(rollout.deployment.status(), &[field]);
    let updated = rollout.new.as_ref().map_or(0, |set| set.status("replicas"));
    let old = rollout.sum(|set| set.status("replicas")) - updated;
    updated > before("updatedReplicas")
        || old < before("replicas") - before("updatedReplicas")
        || rollout.sum(|set| set.status("readyReplicas")) > before("readyReplicas")
        || rollout.sum(|set| set.status("availableReplicas")) > before("availableReplicas")
}

/// Shows the failure of the new set, or else of any other.
fn copy_replica_failure(rollout: &mut Rollout<'_>) {
    let objects = rollout.new.iter().chain(&rollout.old).filter_map(|set| set.object.as_ref());
    let failure = objects
        .filter_map(|set| condition::find(set.status(), REPLICA_FAILURE))
        .find(|it| str_at(it, &["status"]) == "True")
        .map(|it| (str_at(it, &["reason"]).to_owned(), str_at(it, &["message"]).to_owned()));
    match failure {
        Some((reason, message)) => {
            set_condition(rollout, REPLICA_FAILURE, "True", &reason, message);
        }
        None => condition::remove(&mut rollout.conditions, REPLICA_FAILURE),
    }
}

/// Tells that the new set could not be made.
pub(super) fn report_failed_create(
    deployment: &Object,
    message: &str,
    now: Timestamp,
) -> Vec<Write> {
    let mut conditions = condition::list(deployment.status());
    let new = Condition {
        kind: PROGRESSING,
        status: "False",
        reason: "ReplicaSetCreateError",
        message: format!("Failed to create new replica set: {message}"),
    };
    if !has_deadline(deployment)
        || !condition::set(&mut conditions, &new, Some("lastUpdateTime"), now)
    {
        return Vec::new();
    }
    let patch = json!({"status": {"conditions": conditions}});
    vec![Write::patch(deployment, Some("status"), patch)]
}

fn find<'a>(conditions: &'a [Value], kind: &str) -> Option<&'a Value> {
    conditions.iter().find(|it| str_at(it, &["type"]) == kind)
}
