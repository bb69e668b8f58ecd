//! Which containers start next, and what they need first.

use jiff::{SignedDuration, Timestamp};

use super::{
    Action, Failure, ImageState, ObservedContainer, ObservedPod, Plan, RuntimeState, VolumeState,
    WaitingOn,
};
use crate::{
    backoff,
    desired::{DesiredContainer, DesiredPod, Role},
    ids::{Attempt, ContainerId, SandboxId},
};

/// What comes next for one container, before volumes, sandbox and image are considered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Next {
    /// It runs, or is on its way up or down.
    Alive,
    /// It should run as this attempt; `backoff` is the delay after it.
    Start { attempt: Attempt, backoff: SignedDuration },
    /// It restarts when the delay is over.
    Backoff { until: Timestamp, delay: SignedDuration },
    /// It ended, and that was that.
    Finished,
}

/// The attempt that a sandbox of this pod has, or will have.
pub fn target_sandbox(observed: &ObservedPod) -> Attempt {
    match &observed.sandbox {
        None => Attempt::default(),
        // An unfinished one is finished; one that was complete and is gone is replaced.
        Some(record) if observed.sandbox_exists(record.attempt) || !record.is_ready() => {
            record.attempt
        }
        Some(record) => record.attempt.next(),
    }
}

/// What one container needs next.
pub fn next_step(
    desired: &DesiredContainer,
    container: &ObservedContainer,
    observed: &ObservedPod,
    target: Attempt,
    now: Timestamp,
) -> Next {
    let Some(record) = &container.record else {
        return Next::Start { attempt: Attempt::default(), backoff: SignedDuration::ZERO };
    };
    let carried = record.backoff();
    if desired.role == Role::Ephemeral && record.sandbox != target && !container.is_alive() {
        // It belongs to what was looked at then.
        return Next::Finished;
    }
    let Some(exit) = container.ended(observed) else {
        return match &container.runtime {
            Some(RuntimeState::Running { .. } | RuntimeState::Exited(_)) => Next::Alive,
            // Written down, and perhaps half made: make the same attempt again.
            Some(RuntimeState::Created) | None if record.sandbox == target => {
                Next::Start { attempt: record.attempt, backoff: carried }
            }
            Some(RuntimeState::Created) => Next::Alive,
            None => Next::Start { attempt: record.attempt.next(), backoff: carried },
        };
    };
    let attempt = record.attempt.next();
    if desired.role == Role::Init && exit.succeeded() && record.sandbox != target {
        // A new sandbox is initialised again.
        return Next::Start { attempt, backoff: carried };
    }
    if !desired.restarts_after(&exit) {
        return Next::Finished;
    }
    if exit.lost {
        // The machine went down, the container did not fail.
        return Next::Start { attempt, backoff: carried };
    }
    if record.image.as_ref().is_some_and(|image| *image != desired.image) {
        return Next::Start { attempt, backoff: backoff::INITIAL };
    }
    let delay = backoff::before_restart(carried, record.created_at, exit.finished_at);
    let until = backoff::until(exit.finished_at, delay, now);
    if now < until {
        return Next::Backoff { until, delay };
    }
    Next::Start { attempt, backoff: backoff::next(delay) }
}

/// Plans volumes, sandbox, images and starts, in this order.
pub(super) fn start_containers(
    plan: &mut Plan,
    pod: &DesiredPod,
    observed: &ObservedPod,
    target: Attempt,
    now: Timestamp,
) {
    let volumes = prepare_volumes(plan, pod, observed, now);
    let wanted = startable(plan, pod, observed, target, now);
    let any_wanted = !wanted.is_empty() || observed.sandbox_exists(target);
    let mut ready = Vec::new();
    for (desired, attempt, backoff) in wanted {
        if may_start(plan, desired, observed.container(&desired.name), now) {
            ready.push((desired, attempt, backoff));
        }
    }
    if !volumes {
        plan.waiting_on.push(WaitingOn::Volumes);
        return;
    }
    if !any_wanted || !ensure_sandbox(plan, observed, target, now) {
        return;
    }
    for (desired, attempt, backoff) in ready {
        let id = ContainerId { pod: observed.uid, name: desired.name.clone(), attempt };
        if let Some(old) = attempt.0.checked_sub(2) {
            plan.push(Action::RemoveLog {
                id: ContainerId { attempt: Attempt(old), ..id.clone() },
            });
        }
        plan.push(Action::StartContainer { id, sandbox: target, backoff });
    }
}

/// Whether the volumes are, or are about to be, as they should.
fn prepare_volumes(
    plan: &mut Plan,
    pod: &DesiredPod,
    observed: &ObservedPod,
    now: Timestamp,
) -> bool {
    let fingerprint = pod.volumes_fingerprint;
    let ready = matches!(observed.volumes, VolumeState::Ready { .. });
    if pod.volumes.is_err() {
        // What is mounted stays as it is: a ConfigMap that vanished takes nothing down.
        return ready;
    }
    if observed.volumes == (VolumeState::Ready { fingerprint }) {
        return true;
    }
    if let Some(failure) = waits(observed.volume_failure.as_ref(), now) {
        plan.look_again(failure);
        return ready;
    }
    plan.push(Action::PrepareVolumes { fingerprint });
    true
}

fn waits(failure: Option<&Failure>, now: Timestamp) -> Option<Timestamp> {
    failure.map(|it| it.retry_at(now)).filter(|at| now < *at)
}

/// Containers whose turn it is, with the attempt that they start as.
fn startable<'a>(
    plan: &mut Plan,
    pod: &'a DesiredPod,
    observed: &ObservedPod,
    target: Attempt,
    now: Timestamp,
) -> Vec<(&'a DesiredContainer, Attempt, SignedDuration)> {
    // Once a main container was begun in this sandbox, it is initialised for good.
    let initialised = pod.of_role(Role::Main).any(|it| {
        let record = observed.container(&it.name).record.as_ref();
        record.is_some_and(|record| record.sandbox == target)
    });
    // These look at what goes wrong: they wait for nobody, and nobody for them.
    let mut wanted = Vec::new();
    for desired in pod.of_role(Role::Ephemeral) {
        let container = observed.container(&desired.name);
        let next = next_step(desired, container, observed, target, now);
        if let Next::Start { attempt, backoff } = next {
            wanted.push((desired, attempt, backoff));
        }
    }
    for desired in &pod.containers {
        if initialised && desired.role == Role::Init || desired.role == Role::Ephemeral {
            continue;
        }
        let container = observed.container(&desired.name);
        let passed = match next_step(desired, container, observed, target, now) {
            Next::Alive => desired.role == Role::Sidecar && container.health.started,
            Next::Finished => desired.role == Role::Init,
            Next::Start { attempt, backoff } => {
                wanted.push((desired, attempt, backoff));
                false
            }
            Next::Backoff { until, .. } => {
                plan.look_again(until);
                let container = desired.name.clone();
                plan.waiting_on.push(WaitingOn::Backoff { container, until });
                false
            }
        };
        if !passed && !initialised && desired.role != Role::Main {
            plan.waiting_on.push(WaitingOn::Init { container: desired.name.clone() });
            break;
        }
    }
    wanted
}

/// Whether configuration and image allow the start; starts the pull if that is what lacks.
fn may_start(
    plan: &mut Plan,
    desired: &DesiredContainer,
    container: &ObservedContainer,
    now: Timestamp,
) -> bool {
    let name = || desired.name.clone();
    if desired.problem.is_some() {
        // Only a new desired state resolves this, and that wakes us.
        plan.waiting_on.push(WaitingOn::Config { container: name() });
        return false;
    }
    if let Some(until) = waits(container.start_failure.as_ref(), now) {
        plan.look_again(until);
        plan.waiting_on.push(WaitingOn::Backoff { container: name(), until });
        return false;
    }
    match &container.image {
        ImageState::Present => return true,
        ImageState::Pulling => {}
        ImageState::Unknown => plan.push(Action::PullImage { name: name() }),
        ImageState::Failed(failure) => match waits(Some(failure), now) {
            Some(at) => plan.look_again(at),
            None => plan.push(Action::PullImage { name: name() }),
        },
    }
    plan.waiting_on.push(WaitingOn::Image { container: name() });
    false
}

/// Whether the sandbox is, or is about to be, there. Older ones go first.
fn ensure_sandbox(
    plan: &mut Plan,
    observed: &ObservedPod,
    target: Attempt,
    now: Timestamp,
) -> bool {
    let in_use = |attempt| {
        observed.containers.values().any(|it| {
            it.is_alive() && it.record.as_ref().is_some_and(|record| record.sandbox == attempt)
        })
    };
    for id in observed.sandboxes.iter().filter(|id| id.attempt != target) {
        if in_use(id.attempt) {
            plan.waiting_on.push(WaitingOn::Sandbox);
            return false;
        }
        plan.push(Action::RemoveSandbox { id: id.clone() });
    }
    if observed.ready_sandbox() == Some(target) {
        return true;
    }
    if let Some(until) = waits(observed.sandbox_failure.as_ref(), now) {
        plan.look_again(until);
        plan.waiting_on.push(WaitingOn::Sandbox);
        return false;
    }
    plan.push(Action::CreateSandbox { id: SandboxId { pod: observed.uid, attempt: target } });
    true
}
