//! Puts together what the planner may know: records, the keeper's inventory, images, probes.

use std::collections::BTreeSet;

use agent_core::{
    desired::{DesiredContainer, PullPolicy},
    ids::{Attempt, ContainerId, ContainerName},
    pod::{Failure, ImageState, ObservedContainer, ObservedPod, RuntimeState},
    record::{ContainerRecord, ExitRecord, Lifecycle, SandboxRecord},
};
use agent_image::ImageRef;
use agent_runtime::{ExitStatus, Phase};
use jiff::Timestamp;

use super::{DEFAULT_GRACE_SECONDS, PodWorker};
use crate::runtime_view::PodInventory;

/// Exit code when nobody saw the end.
const UNKNOWN_CODE: i32 = 255;

impl PodWorker {
    /// Looks at the pod. Changes nothing but the image states, which it brings up to date.
    pub(super) fn observe(&mut self) -> ObservedPod {
        let now = self.node.clock.now();
        let inventory = self.node.view.pod(&self.uid);
        self.adopt(&inventory, now);
        self.look_for_images(now);
        if self.memory.lacks_cidr && self.node.network.cidr().is_some() {
            self.memory.lacks_cidr = false;
            self.memory.sandbox_failure = None;
        }
        let record = self.records.pod.as_ref();
        let pod_grace = self.pod.as_ref().map(|it| it.grace.as_secs());
        let recorded_grace = record.map(|it| it.grace_seconds);
        let mut observed = ObservedPod {
            uid: self.uid,
            lifecycle: record.map_or(Lifecycle::Syncing, |it| it.lifecycle.clone()),
            started_at: record.map_or(now, |it| it.started_at),
            grace_seconds: pod_grace.or(recorded_grace).unwrap_or(DEFAULT_GRACE_SECONDS),
            sandbox: record.and_then(|it| it.sandbox.clone()),
            sandboxes: inventory.sandboxes.clone(),
            sandbox_failure: self.memory.sandbox_failure.clone(),
            volumes: self.memory.volumes.clone(),
            volume_failure: self.memory.volume_failure.clone(),
            containers: Default::default(),
            stray: self.strays(&inventory),
            address: self.records.address,
            rejection: record.and_then(|it| it.rejection.clone()),
        };
        let described = self.pod.iter().flat_map(|it| it.containers.iter().map(|it| &it.name));
        let names: BTreeSet<ContainerName> =
            described.chain(self.records.containers.keys()).cloned().collect();
        for name in names {
            let container = self.observe_container(&name, &inventory);
            observed.containers.insert(name, container);
        }
        observed
    }

    fn observe_container(
        &self,
        name: &ContainerName,
        inventory: &PodInventory,
    ) -> ObservedContainer {
        let record = self.records.containers.get(name).cloned();
        let mut observed = ObservedContainer { record, ..ObservedContainer::default() };
        if let Some(memory) = self.memory.containers.get(name) {
            observed.image = memory.image.clone();
            observed.start_failure = memory.start_failure.clone();
            observed.post_start = memory.post_start.clone();
            observed.pre_stop = memory.pre_stop.clone();
            observed.signalled = memory.signalled;
        }
        if let Some(record) = &observed.record {
            let id = record.id(self.uid);
            observed.runtime = inventory.containers.get(&id).map(|phase| match phase {
                Phase::Created => RuntimeState::Created,
                Phase::Running { started_at, .. } => {
                    RuntimeState::Running { started_at: *started_at }
                }
                Phase::Exited(exit) => {
                    RuntimeState::Exited(exit_record(record, exit, String::new()))
                }
            });
            if let Some(memory) = self.memory.containers.get(name) {
                observed.health = memory.health(record.attempt);
            }
        }
        observed
    }

    /// Containers that no record speaks of, but for those that are adopted.
    fn strays(&self, inventory: &PodInventory) -> BTreeSet<ContainerId> {
        let known = |id: &&ContainerId| {
            self.records.containers.get(&id.name).is_some_and(|it| it.attempt == id.attempt)
        };
        inventory.containers.keys().filter(|id| !known(id)).cloned().collect()
    }

    /// Makes records for what runs without one: the ledger was lost, the containers were not.
    fn adopt(&mut self, inventory: &PodInventory, now: Timestamp) {
        let Some(sandbox) = inventory.sandboxes.iter().next_back() else { return };
        let attempt = sandbox.attempt;
        let address = self.records.address;
        if self.records.pod.as_ref().is_none_or(|it| it.sandbox.is_none())
            && let Some(record) = self.pod_record()
        {
            tracing::warn!(sandbox = %sandbox, "Adopted a sandbox that no record speaks of");
            record.sandbox = Some(SandboxRecord { attempt, made_at: Some(now), address });
        }
        for (id, phase) in &inventory.containers {
            let unknown = !self.records.containers.contains_key(&id.name);
            if unknown && matches!(phase, Phase::Running { .. }) {
                tracing::warn!(container = %id, "Adopted a container that no record speaks of");
                let record = adopted(id, attempt, now);
                self.records.containers.insert(id.name.clone(), record);
            }
        }
    }

    /// Images that are here already need no pull, unless every start must ask the registry.
    fn look_for_images(&mut self, now: Timestamp) {
        let Some(pod) = self.pod.clone() else { return };
        for desired in &pod.containers {
            let memory = self.memory.container(&desired.name);
            if memory.image_name != desired.image {
                memory.image = ImageState::Unknown;
                memory.image_name.clone_from(&desired.image);
            }
            if memory.image == ImageState::Unknown {
                let here = desired
                    .image
                    .parse::<ImageRef>()
                    .ok()
                    .and_then(|it| self.node.images.lookup(&it))
                    .is_some();
                self.memory.container(&desired.name).image = image_state(desired, here, now);
            }
        }
    }
}

fn image_state(desired: &DesiredContainer, here: bool, now: Timestamp) -> ImageState {
    match (desired.pull_policy, here) {
        (PullPolicy::IfNotPresent | PullPolicy::Never, true) => ImageState::Present,
        (PullPolicy::Never, false) => ImageState::Failed(Failure {
            reason: "ErrImageNeverPull".to_owned(),
            message: format!(
                "Container image {:?} is not present with pull policy of Never",
                desired.image
            ),
            count: 1,
            at: now,
        }),
        (PullPolicy::Always, _) | (PullPolicy::IfNotPresent, false) => ImageState::Unknown,
    }
}

fn adopted(id: &ContainerId, sandbox: Attempt, now: Timestamp) -> ContainerRecord {
    ContainerRecord {
        name: id.name.clone(),
        attempt: id.attempt,
        sandbox,
        image: None,
        image_id: String::new(),
        backoff_seconds: 0,
        created_at: now,
        stop_signal: agent_core::spec::DEFAULT_STOP_SIGNAL,
        stop: None,
        exit: None,
        last: None,
        ready: true,
        ready_changed_at: None,
    }
}

/// The runtime's word about an end in Kubernetes' words.
pub(super) fn exit_record(
    record: &ContainerRecord,
    exit: &ExitStatus,
    message: String,
) -> ExitRecord {
    let (code, reason) = if exit.unknown {
        (UNKNOWN_CODE, "Unknown")
    } else if exit.oom_killed {
        (exit.code, "OOMKilled")
    } else if exit.code == 0 {
        (0, "Completed")
    } else {
        (exit.code, "Error")
    };
    ExitRecord {
        attempt: record.attempt,
        code,
        signal: None,
        reason: reason.to_owned(),
        message,
        started_at: exit.started_at,
        finished_at: exit.finished_at,
        image_id: record.image_id.clone(),
        // The keeper did not see it run: the machine went down under it, or the keeper did while it
        // started. One that ran and ended unseen counts as any other that failed.
        lost: exit.unknown && exit.started_at.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_took_with_it_is_lost_and_what_ended_unseen_has_failed() {
        let at = Timestamp::from_second(1_000).unwrap();
        let id = "5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e.c.3".parse().unwrap();
        let record = adopted(&id, Attempt(0), at);
        let check = |code, unknown, started_at, expect: (i32, &str, bool)| {
            let exit = ExitStatus {
                code,
                signal: None,
                oom_killed: false,
                unknown,
                started_at,
                finished_at: at,
            };
            let found = exit_record(&record, &exit, String::new());
            assert_eq!((found.code, &*found.reason, found.lost), expect);
        };
        check(255, true, None, (UNKNOWN_CODE, "Unknown", true));
        check(255, true, Some(at), (UNKNOWN_CODE, "Unknown", false));
        check(1, false, Some(at), (1, "Error", false));
        check(0, false, Some(at), (0, "Completed", false));
    }
}
