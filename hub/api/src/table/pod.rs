//! What a pod is up to, in one word.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells::{condition, list, number, or_none, text};
use super::human_duration;
use crate::time;

/// Counts and words of one pod.
struct Summary {
    status: String,
    ready: usize,
    containers: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

pub(super) fn ready(pod: &Value) -> Value {
    let summary = summary(pod);
    format!("{}/{}", summary.ready, summary.containers).into()
}

pub(super) fn status(pod: &Value) -> Value {
    summary(pod).status.into()
}

pub(super) fn restarts(pod: &Value, now: Timestamp) -> Value {
    let Summary { restarts, last_restart, .. } = summary(pod);
    match last_restart {
        Some(last) if restarts != 0 => {
            let ago = human_duration(now.duration_since(last).as_secs());
            format!("{restarts} ({ago} ago)").into()
        }
        _ => restarts.to_string().into(),
    }
}

pub(super) fn ip(pod: &Value) -> Value {
    let first = list(pod, "/status/podIPs").first().map_or("", |it| text(it, "/ip"));
    or_none(if first.is_empty() { text(pod, "/status/podIP") } else { first }.to_owned()).into()
}

/// How many of the readiness gates are true.
pub(super) fn readiness_gates(pod: &Value) -> Value {
    let gates = list(pod, "/spec/readinessGates");
    let is_true = |gate: &&Value| {
        condition(pod, text(gate, "/conditionType")).is_some_and(|it| it["status"] == "True")
    };
    if gates.is_empty() {
        return "<none>".into();
    }
    format!("{}/{}", gates.iter().filter(is_true).count(), gates.len()).into()
}

/// Tells clients that a pod has run to its end.
pub(super) fn row_condition(pod: &Value) -> Option<Value> {
    let (reason, message) = match text(pod, "/status/phase") {
        "Failed" => ("Failed", "The pod failed."),
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        _ => return None,
    };
    Some(json!({ "type": "Completed", "status": "True", "reason": reason, "message": message }))
}

fn summary(pod: &Value) -> Summary {
    let phase = text(pod, "/status/phase");
    let reason = text(pod, "/status/reason");
    let is_gated =
        condition(pod, "PodScheduled").is_some_and(|it| it["reason"] == "SchedulingGated");
    let status = if is_gated { "SchedulingGated" } else { reason };
    let sidecars = list(pod, "/spec/initContainers").iter().filter(|it| is_sidecar(it)).count();
    let mut summary = Summary {
        status: if status.is_empty() { phase } else { status }.to_owned(),
        ready: 0,
        containers: list(pod, "/spec/containers").len() + sidecars,
        restarts: 0,
        last_restart: None,
    };
    let is_initializing = add_init_containers(&mut summary, pod);
    if !is_initializing || is_true(pod, "Initialized") {
        // From now on only restarts of what still runs are of interest.
        (summary.restarts, summary.last_restart) = (0, None);
        for status in sidecar_statuses(pod) {
            add_restarts(&mut summary, status);
        }
        add_containers(&mut summary, pod);
    }
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        if reason == "NodeLost" {
            "Unknown".clone_into(&mut summary.status);
        } else if !matches!(phase, "Failed" | "Succeeded") {
            "Terminating".clone_into(&mut summary.status);
        }
    }
    summary
}

/// Returns whether the pod is still being initialized.
fn add_init_containers(summary: &mut Summary, pod: &Value) -> bool {
    for (i, status) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
        add_restarts(summary, status);
        let state = &status["state"];
        let waiting = text(state, "/waiting/reason");
        if !state["terminated"].is_null() {
            if number(state, "/terminated/exitCode") == 0 {
                continue;
            }
            summary.status = format!("Init:{}", termination(&state["terminated"]));
        } else if is_sidecar_status(pod, status) && status["started"] == true {
            summary.ready += usize::from(status["ready"] == true);
            continue;
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            summary.status = format!("Init:{waiting}");
        } else {
            summary.status = format!("Init:{i}/{}", list(pod, "/spec/initContainers").len());
        }
        return true;
    }
    false
}

fn add_containers(summary: &mut Summary, pod: &Value) {
    let mut is_one_running = false;
    for status in list(pod, "/status/containerStatuses").iter().rev() {
        add_restarts(summary, status);
        let state = &status["state"];
        let waiting = text(state, "/waiting/reason");
        if !waiting.is_empty() {
            waiting.clone_into(&mut summary.status);
        } else if !state["terminated"].is_null() {
            summary.status = termination(&state["terminated"]);
        } else if status["ready"] == true && !state["running"].is_null() {
            is_one_running = true;
            summary.ready += 1;
        }
    }
    // One container is done, another still runs.
    if summary.status == "Completed" && is_one_running {
        let status = if is_true(pod, "Ready") { "Running" } else { "NotReady" };
        status.clone_into(&mut summary.status);
    }
}

fn termination(terminated: &Value) -> String {
    let (reason, signal) = (text(terminated, "/reason"), number(terminated, "/signal"));
    if !reason.is_empty() {
        reason.to_owned()
    } else if signal != 0 {
        format!("Signal:{signal}")
    } else {
        format!("ExitCode:{}", number(terminated, "/exitCode"))
    }
}

fn add_restarts(summary: &mut Summary, status: &Value) {
    summary.restarts += number(status, "/restartCount");
    let finished = time::parse(text(status, "/lastState/terminated/finishedAt"));
    summary.last_restart = summary.last_restart.max(finished);
}

/// An init container that is restarted for ever runs beside the others.
fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

fn is_sidecar_status(pod: &Value, status: &Value) -> bool {
    list(pod, "/spec/initContainers")
        .iter()
        .any(|it| it["name"] == status["name"] && is_sidecar(it))
}

fn sidecar_statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    list(pod, "/status/initContainerStatuses").iter().filter(|it| is_sidecar_status(pod, it))
}

fn is_true(pod: &Value, wanted: &str) -> bool {
    condition(pod, wanted).is_some_and(|it| it["status"] == "True")
}
