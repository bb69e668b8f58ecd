//! The status of one container.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus,
};

use super::{RUNTIME, time};
use crate::{
    desired::{DesiredContainer, DesiredPod, Role},
    ids::{Attempt, ContainerId},
    pod::{
        HookState, ImageState, Next, ObservedContainer, ObservedPod, RuntimeState, next_step,
        target_sandbox,
    },
    record::{ExitRecord, Lifecycle},
};

/// How long a failure is shown itself, before the wait that follows it is.
const SHOW_FAILURE_SECONDS: i64 = 5;

/// One entry of `containerStatuses`, `initContainerStatuses` or `ephemeralContainerStatuses`.
pub(super) fn status(
    pod: &DesiredPod,
    desired: &DesiredContainer,
    observed: &ObservedPod,
    now: Timestamp,
) -> ContainerStatus {
    let container = observed.container(&desired.name);
    let record = container.record.as_ref();
    let ended = container.ended(observed);
    let running = container.is_running() && container.post_start != HookState::Running;
    let last = record.and_then(|it| it.last.as_ref()).map(|exit| terminated(pod, desired, exit));
    let (state, last_state) = if let Some(RuntimeState::Running { started_at }) = &container.runtime
    {
        if running {
            let started_at = Some(time(*started_at));
            (running_state(started_at), last)
        } else {
            (waiting(default_reason(pod), None), last)
        }
    } else if let Some(exit) = &ended {
        let now_terminated = terminated(pod, desired, exit);
        match waiting_to_restart(pod, desired, container, observed, now) {
            Some(state) => (state, Some(now_terminated)),
            None => (now_terminated, last),
        }
    } else if observed.lifecycle != Lifecycle::Syncing {
        (never_started(observed), last)
    } else {
        (waiting_to_start(pod, desired, container, now), last)
    };
    let started = running && container.health.started;
    let ready = match desired.role {
        Role::Init => ended.as_ref().is_some_and(ExitRecord::succeeded),
        Role::Sidecar | Role::Main => running && container.health.ready,
        // Nobody sends it anything.
        Role::Ephemeral => false,
    };
    ContainerStatus {
        name: desired.name.to_string(),
        image: record.and_then(|it| it.image.clone()).unwrap_or_else(|| desired.image.clone()),
        image_id: record.map(|it| it.image_id.clone()).unwrap_or_default(),
        container_id: record.map(|it| container_id(&it.id(observed.uid))),
        restart_count: record.map_or(0, |it| i32::try_from(it.attempt.0).unwrap_or(i32::MAX)),
        ready,
        started: (desired.role != Role::Ephemeral).then_some(started),
        state: Some(state),
        last_state: Some(last_state.unwrap_or_default()),
        ..ContainerStatus::default()
    }
}

fn container_id(id: &ContainerId) -> String {
    format!("{RUNTIME}://{id}")
}

fn running_state(
    started_at: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
) -> ContainerState {
    let running = Some(ContainerStateRunning { started_at });
    ContainerState { running, ..ContainerState::default() }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message });
    ContainerState { waiting, ..ContainerState::default() }
}

fn terminated(pod: &DesiredPod, desired: &DesiredContainer, exit: &ExitRecord) -> ContainerState {
    let id = |attempt: Attempt| ContainerId { pod: pod.uid, name: desired.name.clone(), attempt };
    let terminated = ContainerStateTerminated {
        container_id: Some(container_id(&id(exit.attempt))),
        exit_code: exit.code,
        finished_at: Some(time(exit.finished_at)),
        message: Some(exit.message.clone()).filter(|it| !it.is_empty()),
        reason: Some(exit.reason.clone()),
        signal: exit.signal,
        started_at: exit.started_at.map(time),
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

/// A pod that is taken down and never ran this container.
fn never_started(observed: &ObservedPod) -> ContainerState {
    if !matches!(observed.lifecycle, Lifecycle::Terminated { .. }) {
        return waiting("ContainerCreating", None);
    }
    let terminated = ContainerStateTerminated {
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some("The container could not be located when the pod was terminated".to_owned()),
        ..ContainerStateTerminated::default()
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

fn default_reason(pod: &DesiredPod) -> &'static str {
    if pod.has_init() { "PodInitializing" } else { "ContainerCreating" }
}

/// The state of a container that ended, if it waits for another attempt.
fn waiting_to_restart(
    pod: &DesiredPod,
    desired: &DesiredContainer,
    container: &ObservedContainer,
    observed: &ObservedPod,
    now: Timestamp,
) -> Option<ContainerState> {
    if observed.lifecycle != Lifecycle::Syncing {
        return None;
    }
    match next_step(desired, container, observed, target_sandbox(observed), now) {
        Next::Backoff { delay, .. } => {
            let message = format!(
                "back-off {} restarting failed container={} pod={}",
                go_duration(delay.as_secs()),
                desired.name,
                pod.long_name()
            );
            Some(waiting("CrashLoopBackOff", Some(message)))
        }
        // The restart itself may have to wait.
        Next::Start { .. } => problem(desired, container, now),
        Next::Alive | Next::Finished => None,
    }
}

fn waiting_to_start(
    pod: &DesiredPod,
    desired: &DesiredContainer,
    container: &ObservedContainer,
    now: Timestamp,
) -> ContainerState {
    problem(desired, container, now).unwrap_or_else(|| waiting(default_reason(pod), None))
}

/// What keeps a container from being made.
fn problem(
    desired: &DesiredContainer,
    container: &ObservedContainer,
    now: Timestamp,
) -> Option<ContainerState> {
    if let ImageState::Failed(failure) = &container.image {
        let fresh = now.duration_since(failure.at).as_secs() < SHOW_FAILURE_SECONDS;
        if failure.reason != "ErrImagePull" || (fresh && failure.count == 1) {
            return Some(waiting(&failure.reason, Some(failure.message.clone())));
        }
        let message = format!(
            "Back-off pulling image {:?}: ErrImagePull: {}",
            desired.image, failure.message
        );
        return Some(waiting("ImagePullBackOff", Some(message)));
    }
    if let (Some(message), ImageState::Present) = (&desired.problem, &container.image) {
        return Some(waiting("CreateContainerConfigError", Some(message.clone())));
    }
    if let Some(message) = &desired.problem {
        return Some(waiting("CreateContainerConfigError", Some(message.clone())));
    }
    let failure = container.start_failure.as_ref()?;
    Some(waiting(&failure.reason, Some(failure.message.clone())))
}

/// Seconds as Go prints a duration: `10s`, `2m40s`, `5m0s`.
fn go_duration(seconds: i64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        _ => format!("{}m{}s", seconds / 60, seconds % 60),
    }
}
