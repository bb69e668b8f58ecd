//! Decides what one pod needs next. Performs nothing.
//!
//! ```text
//! Syncing ──(deleted, completed, deadline, removed)──> Terminating ──> Terminated ──> forgotten
//!   volumes, sandbox, init containers, containers        stop containers, remove sandbox,
//!   restarts with back-off                               remove volumes, release address
//! ```
//!
//! A pod whose teardown began is never started again under its UID. Every action is idempotent,
//! so that a plan may be cut anywhere and be followed by a fresh one.

mod observed;
mod start;
mod teardown;

pub use observed::{
    Failure, Health, HookState, ImageState, ObservedContainer, ObservedPod, RuntimeState,
    Unhealthy, VolumeState,
};
pub use start::{Next, next_step, target_sandbox};
pub use teardown::{TeardownStep, teardown_step};

use jiff::{SignedDuration, Timestamp};

use crate::{
    desired::{DesiredContainer, DesiredPod, Role, Verdict},
    ids::{Attempt, ContainerId, ContainerName, SandboxId},
    record::{ExitRecord, Lifecycle, StopRecord, TeardownReason},
};

/// Shortest time between the stop signal and the kill, as the kubelet has it.
pub const MIN_GRACE: SignedDuration = SignedDuration::from_secs(2);
/// How long after a kill the container is killed again, should it still be there.
const KILL_AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// What to do now, and when to look again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// Removals first: a new container never meets its predecessor.
    pub actions: Vec<Action>,
    pub recheck_at: Option<Timestamp>,
    /// Why something desired is not being done yet.
    pub waiting_on: Vec<WaitingOn>,
}

/// One idempotent effect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Write down that the pod is taken down from now on.
    BeginTeardown { reason: TeardownReason, grace: SignedDuration },
    /// Write down that the container is to stop, since now, and why.
    StopContainer { id: ContainerId, grace: SignedDuration, reason: StopReason },
    /// Start the preStop hook of a container that is to stop.
    RunPreStop { id: ContainerId },
    /// Send the image's stop signal.
    SignalContainer { id: ContainerId },
    /// End every process of the container now.
    KillContainer { id: ContainerId },
    /// Write down how the attempt ended.
    RecordExit { id: ContainerId, exit: ExitRecord },
    /// Remove what the runtime holds of an attempt that ended; its log stays.
    RemoveContainer { id: ContainerId },
    /// Remove the log of an attempt that nobody can ask for.
    RemoveLog { id: ContainerId },
    /// Take the network and the namespaces of a sandbox away, and what is left in it.
    RemoveSandbox { id: SandboxId },
    /// Remove the pod's volume directories.
    RemoveVolumes,
    /// Give the pod's address back.
    ReleaseAddress,
    /// Write down that nothing of the pod is left.
    FinishTeardown { reason: TeardownReason },
    /// Drop records and logs.
    Forget,
    /// Make the volumes as they should be, or bring their content up to date.
    PrepareVolumes { fingerprint: u64 },
    /// Start fetching a container's image.
    PullImage { name: ContainerName },
    /// Make namespaces and network.
    CreateSandbox { id: SandboxId },
    /// Write down the attempt, create and start it. `backoff` is the delay after it.
    StartContainer { id: ContainerId, sandbox: Attempt, backoff: SignedDuration },
}

/// Why a container is stopped. The text is the event's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StopReason {
    Teardown,
    ImageChanged,
    SandboxChanged,
    Unhealthy { probe: &'static str },
    PostStartHook { message: String },
}

/// What keeps something desired from being done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WaitingOn {
    Volumes,
    Sandbox,
    Config { container: ContainerName },
    Image { container: ContainerName },
    Backoff { container: ContainerName, until: Timestamp },
    Init { container: ContainerName },
    Stop { container: ContainerName },
}

impl Plan {
    pub(crate) fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(crate) fn look_again(&mut self, at: Timestamp) {
        self.recheck_at = Some(self.recheck_at.map_or(at, |known| known.min(at)));
    }
}

/// Plans the next step of one pod.
pub fn plan(desired: &Verdict, observed: &ObservedPod, now: Timestamp) -> Plan {
    match (&observed.lifecycle, desired) {
        (Lifecycle::Syncing, Verdict::Wanted(pod)) => match teardown::due(pod, observed, now) {
            Some((reason, grace)) => teardown::begin(Some(pod), observed, reason, grace, now),
            None => sync(pod, observed, now),
        },
        (Lifecycle::Syncing, Verdict::Unwanted { last }) => {
            let grace = SignedDuration::from_secs(observed.grace_seconds);
            teardown::begin(last.as_deref(), observed, TeardownReason::Removed, grace, now)
        }
        // Absence proves nothing: what runs is left alone.
        (Lifecycle::Syncing, Verdict::Unknown) => Plan::default(),
        (Lifecycle::Terminating { since, grace_seconds, reason }, verdict) => {
            let pod = match verdict {
                Verdict::Wanted(pod) => Some(&**pod),
                Verdict::Unwanted { last } => last.as_deref(),
                Verdict::Unknown => None,
            };
            let grace = SignedDuration::from_secs(*grace_seconds);
            let mut plan = Plan::default();
            teardown::advance(&mut plan, pod, observed, *reason, *since, grace, now);
            plan
        }
        (Lifecycle::Terminated { .. }, Verdict::Unwanted { .. }) => {
            Plan { actions: vec![Action::Forget], ..Plan::default() }
        }
        (Lifecycle::Terminated { .. }, Verdict::Wanted(_) | Verdict::Unknown) => Plan::default(),
    }
}

/// A pod that is to run: removals, then volumes and sandbox, then containers.
fn sync(pod: &DesiredPod, observed: &ObservedPod, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    remove_strays(&mut plan, observed);
    let target = target_sandbox(observed);
    for container in &pod.containers {
        keep_alive_or_stop(&mut plan, container, observed, target, now);
    }
    record_exits(&mut plan, observed);
    if teardown::is_finished(pod, observed, target, now) {
        // Nothing is alive but sidecars, which the teardown stops.
        let grace = pod.grace;
        let next = teardown::begin(Some(pod), observed, TeardownReason::Completed, grace, now);
        return next;
    }
    start::start_containers(&mut plan, pod, observed, target, now);
    if let Some(deadline) = pod.active_deadline {
        plan.look_again(observed.started_at.checked_add(deadline).unwrap_or(Timestamp::MAX));
    }
    plan
}

fn remove_strays(plan: &mut Plan, observed: &ObservedPod) {
    for id in &observed.stray {
        plan.push(Action::KillContainer { id: id.clone() });
        plan.push(Action::RemoveContainer { id: id.clone() });
    }
}

/// Writes down how attempts ended and frees what the runtime holds of them.
fn record_exits(plan: &mut Plan, observed: &ObservedPod) {
    for container in observed.containers.values() {
        let (Some(record), Some(exit)) = (&container.record, container.ended(observed)) else {
            continue;
        };
        let id = record.id(observed.uid);
        if record.exit.is_none() {
            plan.push(Action::RecordExit { id: id.clone(), exit });
        }
        if container.runtime.is_some() {
            plan.push(Action::RemoveContainer { id });
        }
    }
}

/// Stops a container that should not go on as it is.
fn keep_alive_or_stop(
    plan: &mut Plan,
    desired: &DesiredContainer,
    observed: &ObservedPod,
    target: Attempt,
    now: Timestamp,
) {
    let container = observed.container(&desired.name);
    let Some(record) = container.record.as_ref().filter(|_| container.is_alive()) else { return };
    let changed = record.image.as_ref().is_some_and(|image| *image != desired.image);
    let pod_grace = SignedDuration::from_secs(observed.grace_seconds);
    let (reason, grace) = if record.sandbox != target {
        (StopReason::SandboxChanged, pod_grace)
    } else if changed && matches!(desired.role, Role::Main | Role::Sidecar) {
        (StopReason::ImageChanged, pod_grace)
    } else if let HookState::Failed { message } = &container.post_start {
        (StopReason::PostStartHook { message: message.clone() }, pod_grace)
    } else if let Some(unhealthy) = &container.health.unhealthy {
        let grace = unhealthy.grace.unwrap_or(pod_grace);
        (StopReason::Unhealthy { probe: unhealthy.probe }, grace)
    } else if let Some(stop) = &record.stop {
        // A stop that was begun is finished, whatever its reason was.
        (StopReason::SandboxChanged, SignedDuration::from_secs(stop.grace_seconds))
    } else {
        return;
    };
    advance_stop(plan, Some(desired), container, &record.id(observed.uid), (grace, reason), now);
}

/// The next step of stopping one container: note, hook, signal, kill.
fn advance_stop(
    plan: &mut Plan,
    desired: Option<&DesiredContainer>,
    container: &ObservedContainer,
    id: &ContainerId,
    (grace, reason): (SignedDuration, StopReason),
    now: Timestamp,
) {
    let grace = grace.max(MIN_GRACE);
    plan.waiting_on.push(WaitingOn::Stop { container: id.name.clone() });
    let known = container.record.as_ref().and_then(|record| record.stop.as_ref());
    let Some(StopRecord { since, grace_seconds }) = known else {
        plan.push(Action::StopContainer { id: id.clone(), grace, reason });
        let hook = container.is_running() && desired.is_some_and(|it| it.pre_stop);
        plan.push(if hook {
            Action::RunPreStop { id: id.clone() }
        } else {
            Action::SignalContainer { id: id.clone() }
        });
        plan.look_again(now.checked_add(grace).unwrap_or(now));
        return;
    };
    let grace = grace.min(SignedDuration::from_secs(*grace_seconds)).max(MIN_GRACE);
    if *since > now {
        // The clock was set back: the grace is counted anew, once, and neither cut short nor endless.
        plan.push(Action::StopContainer { id: id.clone(), grace, reason });
        plan.look_again(now.checked_add(grace).unwrap_or(now));
        return;
    }
    let deadline = crate::backoff::until(*since, grace, now);
    let hook_runs = container.pre_stop == HookState::Running;
    if now >= deadline {
        plan.push(Action::KillContainer { id: id.clone() });
        plan.look_again(now.checked_add(KILL_AGAIN).unwrap_or(now));
        return;
    }
    if !hook_runs && !container.signalled {
        plan.push(Action::SignalContainer { id: id.clone() });
    }
    plan.look_again(deadline);
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
