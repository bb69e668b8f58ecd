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
    pub(crate) fn begin_attempt(&mut self) {
        self.start_failure = None;
        self.post_start = HookState::Idle;
        self.pre_stop = HookState::Idle;
        self.signalled = false;
        self.probes = None;
    }

    pub(crate) fn pre_stop_ended(&mut self) {
        self.pre_stop = HookState::Idle;
    }

    pub(crate) fn post_start_ended(&mut self, result: Result<(), String>) {
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
