//! Taking a pod down: once begun, it only goes forward.

use jiff::{SignedDuration, Timestamp};

use super::{
    Action, ObservedPod, Plan, StopReason, VolumeState, WaitingOn, advance_stop, record_exits,
    remove_strays,
    start::{Next, next_step},
};
use crate::{
    desired::{DesiredPod, RestartPolicy, Role},
    ids::{Attempt, ContainerName},
    record::{Lifecycle, TeardownReason},
};

/// What is next in a teardown. It is read off what is left, so that it resumes anywhere.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum TeardownStep {
    /// Containers are alive.
    StopContainers,
    /// Namespaces and network are there.
    RemoveSandbox,
    /// Volume directories are there.
    RemoveVolumes,
    /// The address is leased.
    ReleaseAddress,
    /// Nothing is left.
    Done,
}

/// The first thing that is left of the pod.
pub fn teardown_step(observed: &ObservedPod) -> TeardownStep {
    let alive = observed.containers.values().any(super::ObservedContainer::is_alive);
    if alive || !observed.stray.is_empty() {
        TeardownStep::StopContainers
    } else if !observed.sandboxes.is_empty() {
        TeardownStep::RemoveSandbox
    } else if observed.volumes != VolumeState::Absent {
        TeardownStep::RemoveVolumes
    } else if observed.address.is_some() {
        TeardownStep::ReleaseAddress
    } else {
        TeardownStep::Done
    }
}

/// Whether a pod that syncs must be taken down, why, and with what grace.
pub(super) fn due(
    pod: &DesiredPod,
    observed: &ObservedPod,
    now: Timestamp,
) -> Option<(TeardownReason, SignedDuration)> {
    if let Some(grace) = pod.deletion {
        return Some((TeardownReason::Deleted, grace));
    }
    let deadline = observed.started_at.checked_add(pod.active_deadline?).ok()?;
    (now >= deadline).then_some((TeardownReason::DeadlineExceeded, pod.grace))
}

/// Whether every container did what it was to do, or failed for good.
pub(super) fn is_finished(
    pod: &DesiredPod,
    observed: &ObservedPod,
    target: Attempt,
    now: Timestamp,
) -> bool {
    let begun = pod.containers.iter().any(|it| observed.container(&it.name).record.is_some());
    let sandbox_lost = observed.sandbox.as_ref().is_some_and(|it| it.attempt != target);
    if pod.restart_policy == RestartPolicy::Never && begun && sandbox_lost {
        return true;
    }
    let init_failed = pod.of_role(Role::Init).any(|it| {
        let container = observed.container(&it.name);
        let failed = container.ended(observed).is_some_and(|exit| !exit.succeeded());
        failed && next_step(it, container, observed, target, now) == Next::Finished
    });
    init_failed
        || pod.of_role(Role::Main).all(|it| {
            let next = next_step(it, observed.container(&it.name), observed, target, now);
            next == Next::Finished
        })
}

/// Writes the teardown down and takes its first steps.
pub(super) fn begin(
    pod: Option<&DesiredPod>,
    observed: &ObservedPod,
    reason: TeardownReason,
    grace: SignedDuration,
    now: Timestamp,
) -> Plan {
    debug_assert_eq!(observed.lifecycle, Lifecycle::Syncing, "a teardown begins once");
    let mut plan = Plan::default();
    plan.push(Action::BeginTeardown { reason, grace });
    advance(&mut plan, pod, observed, reason, now, grace, now);
    plan
}

/// The next steps of a teardown.
pub(super) fn advance(
    plan: &mut Plan,
    pod: Option<&DesiredPod>,
    observed: &ObservedPod,
    reason: TeardownReason,
    since: Timestamp,
    grace: SignedDuration,
    now: Timestamp,
) {
    // A later deletion may shorten the grace, and never lengthens it.
    let grace = pod.and_then(|it| it.deletion).map_or(grace, |asked| asked.min(grace));
    remove_strays(plan, observed);
    let alive = to_stop(pod, observed);
    for name in &alive {
        let container = observed.container(name);
        let Some(record) = &container.record else { continue };
        let desired = pod.and_then(|it| it.container(name));
        let passed = now.duration_since(since).max(SignedDuration::ZERO);
        let left = if record.stop.is_some() { grace } else { grace.saturating_sub(passed) };
        let stop = (left, StopReason::Teardown);
        advance_stop(plan, desired, container, &record.id(observed.uid), stop, now);
    }
    record_exits(plan, observed);
    if !alive.is_empty() {
        return;
    }
    for id in &observed.sandboxes {
        plan.push(Action::RemoveSandbox { id: id.clone() });
    }
    if observed.volumes != VolumeState::Absent {
        plan.push(Action::RemoveVolumes);
    }
    if observed.address.is_some() {
        plan.push(Action::ReleaseAddress);
    }
    plan.push(Action::FinishTeardown { reason });
}

/// Containers to stop now: all but sidecars together, then sidecars one by one, the last first.
fn to_stop(pod: Option<&DesiredPod>, observed: &ObservedPod) -> Vec<ContainerName> {
    let is_sidecar = |name: &ContainerName| {
        pod.and_then(|it| it.container(name)).is_some_and(|it| it.role == Role::Sidecar)
    };
    let alive = |name: &&ContainerName| observed.container(name).is_alive();
    let others: Vec<_> =
        observed.containers.keys().filter(alive).filter(|it| !is_sidecar(it)).cloned().collect();
    if !others.is_empty() {
        return others;
    }
    let sidecars = pod.into_iter().flat_map(|it| it.of_role(Role::Sidecar).rev());
    sidecars.map(|it| &it.name).filter(alive).take(1).cloned().collect()
}

impl WaitingOn {
    /// The container that is waited for or that waits, if it is one.
    pub fn container(&self) -> Option<&ContainerName> {
        match self {
            Self::Volumes | Self::Sandbox => None,
            Self::Config { container }
            | Self::Image { container }
            | Self::Backoff { container, .. }
            | Self::Init { container }
            | Self::Stop { container } => Some(container),
        }
    }
}
