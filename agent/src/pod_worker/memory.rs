//! What a worker knows that is not worth writing down: it is lost with the process, and then
//! looked up again.

use std::collections::BTreeMap;

use agent_core::{
    ids::{Attempt, ContainerName},
    pod::{Failure, Health, HookState, ImageState, VolumeState},
};
use jiff::Timestamp;

use crate::{probes::ProbeSet, records::PodRecords};

/// Memory of one pod.
#[derive(Debug)]
pub(crate) struct PodMemory {
    pub(crate) volumes: VolumeState,
    pub(crate) volume_failure: Option<Failure>,
    pub(crate) sandbox_failure: Option<Failure>,
    /// The sandbox failed for want of an address range: no reason to wait once there is one.
    pub(crate) lacks_cidr: bool,
    pub(crate) containers: BTreeMap<ContainerName, ContainerMemory>,
    /// The volume problem that was last told in an event.
    pub(crate) told_volume_problem: Option<String>,
}

/// Memory of one container.
#[derive(Debug, Default)]
pub(crate) struct ContainerMemory {
    pub(crate) image: ImageState,
    /// What the image state is about.
    pub(crate) image_name: String,
    /// The last pull's failure, for counting in a row.
    pub(crate) pull_failure: Option<Failure>,
    pub(crate) start_failure: Option<Failure>,
    /// The attempt that the hooks below are about.
    attempt: Option<Attempt>,
    pub(crate) post_start: HookState,
    pub(crate) pre_stop: HookState,
    pub(crate) signalled: bool,
    pub(crate) probes: Option<ProbeSet>,
}

impl PodMemory {
    pub(crate) fn new(records: &PodRecords) -> Self {
        let met_before = records.pod.is_some();
        Self {
            volumes: if met_before { VolumeState::Unknown } else { VolumeState::Absent },
            volume_failure: None,
            sandbox_failure: None,
            lacks_cidr: false,
            containers: BTreeMap::new(),
            told_volume_problem: None,
        }
    }

    pub(crate) fn container(&mut self, name: &ContainerName) -> &mut ContainerMemory {
        self.containers.entry(name.clone()).or_default()
    }

    pub(crate) fn stop_probes(&mut self) {
        for container in self.containers.values_mut() {
            container.probes = None;
        }
    }
}

impl ContainerMemory {
    /// A new attempt begins: nothing of the last one counts.
    pub(crate) fn begin_attempt(&mut self, attempt: Attempt) {
        self.attempt = Some(attempt);
        self.start_failure = None;
        self.post_start = HookState::Idle;
        self.pre_stop = HookState::Idle;
        self.signalled = false;
        self.probes = None;
    }

    pub(crate) fn post_start_began(&mut self, attempt: Attempt) {
        self.attempt = Some(attempt);
        self.post_start = HookState::Running;
    }

    pub(crate) fn pre_stop_began(&mut self, attempt: Attempt) {
        self.attempt = Some(attempt);
        self.pre_stop = HookState::Running;
    }

    /// A hook may end long after its container did; then it says nothing about the next one.
    pub(crate) fn pre_stop_ended(&mut self, attempt: Attempt) {
        if self.attempt == Some(attempt) {
            self.pre_stop = HookState::Idle;
        }
    }

    /// See [`Self::pre_stop_ended`].
    pub(crate) fn post_start_ended(&mut self, attempt: Attempt, result: Result<(), String>) {
        if self.attempt != Some(attempt) {
            return;
        }
        self.post_start = match result {
            Ok(()) => HookState::Idle,
            Err(message) => HookState::Failed { message },
        };
    }

    /// What the probes of this attempt say; nothing yet if none run.
    pub(crate) fn health(&self, attempt: Attempt) -> Health {
        let probes = self.probes.as_ref().filter(|it| it.attempt() == attempt);
        probes.map(ProbeSet::health).unwrap_or_default()
    }
}

/// One more failure in a row.
pub(crate) fn failed_again(
    before: Option<&Failure>,
    reason: &str,
    message: String,
    at: Timestamp,
) -> Failure {
    let count = before.map_or(0, |it| it.count).saturating_add(1);
    Failure { reason: reason.to_owned(), message, count, at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_that_ends_late_says_nothing_about_the_next_attempt() {
        let mut memory = ContainerMemory::default();
        let failed = || Err("exit 1".to_owned());
        memory.begin_attempt(Attempt(4));
        memory.post_start_began(Attempt(4));
        memory.begin_attempt(Attempt(5));
        memory.post_start_ended(Attempt(4), failed());
        assert_eq!(memory.post_start, HookState::Idle);
        memory.post_start_began(Attempt(5));
        memory.post_start_ended(Attempt(4), Ok(()));
        assert_eq!(memory.post_start, HookState::Running);
        memory.post_start_ended(Attempt(5), failed());
        assert_eq!(memory.post_start, HookState::Failed { message: "exit 1".to_owned() });

        memory.begin_attempt(Attempt(6));
        memory.pre_stop_began(Attempt(6));
        memory.pre_stop_ended(Attempt(5));
        assert_eq!(memory.pre_stop, HookState::Running);
        memory.pre_stop_ended(Attempt(6));
        assert_eq!(memory.pre_stop, HookState::Idle);
    }

    /// The agent was started again while the container ran.
    #[test]
    fn a_hook_counts_for_an_attempt_that_was_found_running() {
        let mut memory = ContainerMemory::default();
        memory.pre_stop_began(Attempt(3));
        memory.pre_stop_ended(Attempt(3));
        assert_eq!(memory.pre_stop, HookState::Idle);
    }
}
