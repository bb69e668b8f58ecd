//! The conditions of a Pod.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};

use super::time;
use crate::{
    desired::{DesiredPod, Role},
    pod::{ObservedContainer, ObservedPod, RuntimeState},
    record::Lifecycle,
};

/// Conditions that the node decides, in the kubelet's order.
const OWNED: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// A condition before it has a time.
struct Verdict {
    is_true: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn yes() -> Self {
        Self { is_true: true, reason: None, message: None }
    }

    fn no(reason: &'static str, message: Option<String>) -> Self {
        Self { is_true: false, reason: Some(reason), message }
    }
}

pub(super) fn conditions(
    pod: &DesiredPod,
    observed: &ObservedPod,
    (inits, mains): (&[ContainerStatus], &[ContainerStatus]),
    phase: &str,
    previous: Option<&PodStatus>,
    now: Timestamp,
) -> Vec<PodCondition> {
    let known: &[PodCondition] =
        previous.and_then(|it| it.conditions.as_deref()).unwrap_or_default();
    let containers_ready = containers_ready(pod, inits, mains, phase);
    let ready = ready(pod, &containers_ready, known);
    let sandbox = observed.ready_sandbox().is_some()
        && !matches!(observed.lifecycle, Lifecycle::Terminated { .. });
    let sandbox = Verdict { is_true: sandbox, reason: None, message: None };
    let verdicts =
        [sandbox, initialized(pod, inits, mains, phase), ready, containers_ready, Verdict::yes()];
    // What others wrote stays: readiness gates, DisruptionTarget.
    let mut conditions: Vec<_> =
        known.iter().filter(|it| !OWNED.contains(&it.type_.as_str())).cloned().collect();
    for (kind, verdict) in OWNED.into_iter().zip(verdicts) {
        let status = if verdict.is_true { "True" } else { "False" };
        let same = known.iter().find(|it| it.type_ == kind && it.status == status);
        let since = same.and_then(|it| it.last_transition_time.clone());
        let derived = since_records(kind, verdict.is_true, pod, observed).unwrap_or(now).min(now);
        conditions.push(PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: verdict.reason.map(str::to_owned),
            message: verdict.message,
            last_transition_time: Some(since.unwrap_or_else(|| time(derived))),
            observed_generation: pod.pod.metadata.generation,
            ..PodCondition::default()
        });
    }
    conditions
}

/// When a condition became what it is, by what is written down: a new process says the same as
/// the one before it.
fn since_records(
    kind: &str,
    is_true: bool,
    pod: &DesiredPod,
    observed: &ObservedPod,
) -> Option<Timestamp> {
    let containers = |role: Role| pod.of_role(role).map(|it| observed.container(&it.name));
    let ends = |role: Role| containers(role).filter_map(|it| it.ended(observed));
    match (kind, is_true) {
        ("PodScheduled", _) => Some(observed.started_at),
        ("PodReadyToStartContainers", true) => observed.sandbox.as_ref()?.made_at,
        ("PodReadyToStartContainers", false) => match observed.lifecycle {
            Lifecycle::Terminated { at, .. } => Some(at),
            Lifecycle::Terminating { since, .. } => Some(since),
            Lifecycle::Syncing => Some(observed.started_at),
        },
        ("Initialized", true) => {
            ends(Role::Init).map(|it| it.finished_at).max().or(Some(observed.started_at))
        }
        ("Initialized", false) => Some(observed.started_at),
        (_, true) => containers(Role::Main).filter_map(ready_since).max(),
        (_, false) => ends(Role::Main).map(|it| it.finished_at).max(),
    }
}

fn ready_since(container: &ObservedContainer) -> Option<Timestamp> {
    let record = container.record.as_ref()?;
    let running = match container.runtime {
        Some(RuntimeState::Running { started_at }) => Some(started_at),
        Some(RuntimeState::Created | RuntimeState::Exited(_)) | None => None,
    };
    record.ready_changed_at.filter(|_| record.ready).or(running)
}

/// Names as Go prints a list.
fn names<'a>(prefix: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let names: Vec<_> = names.collect();
    (!names.is_empty()).then(|| format!("{prefix}: [{}]", names.join(" ")))
}

fn initialized(
    pod: &DesiredPod,
    inits: &[ContainerStatus],
    mains: &[ContainerStatus],
    phase: &str,
) -> Verdict {
    if phase == "Succeeded" {
        return Verdict { reason: Some("PodCompleted"), ..Verdict::yes() };
    }
    // Once a main container was begun, initialisation is over.
    let begun = mains.iter().any(|it| it.container_id.is_some());
    let desired = pod.containers.iter().filter(|it| matches!(it.role, Role::Init | Role::Sidecar));
    let incomplete = desired.zip(inits).filter(|(desired, status)| match desired.role {
        Role::Sidecar => status.started != Some(true) && !begun,
        Role::Init | Role::Main | Role::Ephemeral => !status.ready,
    });
    match names("containers with incomplete status", incomplete.map(|(_, it)| it.name.as_str())) {
        Some(message) => Verdict::no("ContainersNotInitialized", Some(message)),
        None => Verdict::yes(),
    }
}

fn containers_ready(
    pod: &DesiredPod,
    inits: &[ContainerStatus],
    mains: &[ContainerStatus],
    phase: &str,
) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::no("PodCompleted", None),
        "Failed" => return Verdict::no("PodFailed", None),
        _ => {}
    }
    let desired = pod.containers.iter().filter(|it| matches!(it.role, Role::Init | Role::Sidecar));
    let sidecars =
        desired.zip(inits).filter(|(it, _)| it.role == Role::Sidecar).map(|(_, status)| status);
    let unready = sidecars.chain(mains).filter(|it| !it.ready).map(|it| it.name.as_str());
    match names("containers with unready status", unready) {
        Some(message) => Verdict::no("ContainersNotReady", Some(message)),
        None => Verdict::yes(),
    }
}

fn ready(pod: &DesiredPod, containers: &Verdict, known: &[PodCondition]) -> Verdict {
    if !containers.is_true {
        return Verdict {
            is_true: false,
            reason: containers.reason,
            message: containers.message.clone(),
        };
    }
    let mut messages = Vec::new();
    for gate in pod.spec().readiness_gates.iter().flatten() {
        let kind = &gate.condition_type;
        match known.iter().find(|it| &it.type_ == kind) {
            None => messages.push(format!(
                "corresponding condition of pod readiness gate {kind:?} does not exist."
            )),
            Some(it) if it.status != "True" => messages.push(format!(
                "the status of pod readiness gate {kind:?} is not \"True\", but {}",
                it.status
            )),
            Some(_) => {}
        }
    }
    if messages.is_empty() {
        Verdict::yes()
    } else {
        Verdict::no("ReadinessGatesNotReady", Some(messages.join(", ")))
    }
}
