//! What a node sees of one pod: its records, and what the runtime, the image store and the probes
//! say at this moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    backoff,
    ids::{Attempt, ContainerId, ContainerName, PodUid, SandboxId},
    record::{ContainerRecord, ExitRecord, Lifecycle, Rejection, SandboxRecord},
};

/// Everything the planner may know about a pod.
#[derive(Clone, Debug)]
pub struct ObservedPod {
    pub uid: PodUid,
    pub lifecycle: Lifecycle,
    /// When the node first saw it.
    pub started_at: Timestamp,
    /// Grace when nobody says otherwise.
    pub grace_seconds: i64,
    /// The latest sandbox that was begun.
    pub sandbox: Option<SandboxRecord>,
    /// Sandboxes of this pod that exist, in any state.
    pub sandboxes: BTreeSet<SandboxId>,
    pub sandbox_failure: Option<Failure>,
    pub volumes: VolumeState,
    pub volume_failure: Option<Failure>,
    pub containers: BTreeMap<ContainerName, ObservedContainer>,
    /// Containers of this pod that exist and that no record speaks of.
    pub stray: BTreeSet<ContainerId>,
    /// An address is leased to the pod.
    pub address: Option<Ipv4Addr>,
    /// The node did not take the pod, for this reason.
    pub rejection: Option<Rejection>,
}

impl ObservedPod {
    /// A pod that the node meets for the first time.
    pub fn new(uid: PodUid, started_at: Timestamp) -> Self {
        Self {
            uid,
            lifecycle: Lifecycle::Syncing,
            started_at,
            grace_seconds: 30,
            sandbox: None,
            sandboxes: BTreeSet::new(),
            sandbox_failure: None,
            volumes: VolumeState::Absent,
            volume_failure: None,
            containers: BTreeMap::new(),
            stray: BTreeSet::new(),
            address: None,
            rejection: None,
        }
    }

    /// The sandbox that containers run in now: complete, and still there.
    pub fn ready_sandbox(&self) -> Option<Attempt> {
        let record = self.sandbox.as_ref()?;
        (record.is_ready() && self.sandbox_exists(record.attempt)).then_some(record.attempt)
    }

    /// Whether the sandbox of this attempt exists, in any state.
    pub fn sandbox_exists(&self, attempt: Attempt) -> bool {
        self.sandboxes.iter().any(|id| id.attempt == attempt)
    }

    /// What is known of a container; an unknown one was never begun.
    pub fn container(&self, name: &ContainerName) -> &ObservedContainer {
        static UNKNOWN: ObservedContainer = ObservedContainer::UNKNOWN;
        self.containers.get(name).unwrap_or(&UNKNOWN)
    }
}

/// Directories and files of a pod's volumes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum VolumeState {
    Absent,
    /// They may exist from an earlier process, in unknown state.
    Unknown,
    /// They are as this fingerprint says.
    Ready {
        fingerprint: u64,
    },
}

/// Something failed and will be tried again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Kubernetes' reason.
    pub reason: String,
    pub message: String,
    /// How often in a row.
    pub count: u32,
    pub at: Timestamp,
}

impl Failure {
    /// Delay before the next try: 10 s, doubling up to 300 s.
    pub fn delay(&self) -> SignedDuration {
        let mut delay = backoff::INITIAL;
        for _ in 1..self.count.min(16) {
            delay = backoff::next(delay);
        }
        delay
    }

    pub fn retry_at(&self, now: Timestamp) -> Timestamp {
        backoff::until(self.at, self.delay(), now)
    }
}

/// The image of one container.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum ImageState {
    /// Nobody looked yet, or a new start must look again.
    #[default]
    Unknown,
    Pulling,
    Present,
    Failed(Failure),
}

/// What the runtime says about the attempt that the record speaks of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RuntimeState {
    Created,
    Running { started_at: Timestamp },
    Exited(ExitRecord),
}

/// A lifecycle hook of the running attempt.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum HookState {
    #[default]
    Idle,
    Running,
    Failed {
        message: String,
    },
}

/// What probes say about the running attempt.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Health {
    /// The startup probe succeeded, or there is none and the container runs.
    pub started: bool,
    /// The readiness probe succeeds, or there is none and the container has started.
    pub ready: bool,
    pub unhealthy: Option<Unhealthy>,
}

/// A probe failed for good: the container must be restarted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unhealthy {
    /// `liveness` or `startup`.
    pub probe: &'static str,
    /// The probe's own grace, if it has one.
    pub grace: Option<SignedDuration>,
}

/// One container.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ObservedContainer {
    pub record: Option<ContainerRecord>,
    pub runtime: Option<RuntimeState>,
    pub image: ImageState,
    /// The next attempt could not be made.
    pub start_failure: Option<Failure>,
    pub health: Health,
    pub post_start: HookState,
    pub pre_stop: HookState,
    /// The stop signal was sent by this process.
    pub signalled: bool,
}

impl ObservedContainer {
    const UNKNOWN: Self = Self {
        record: None,
        runtime: None,
        image: ImageState::Unknown,
        start_failure: None,
        health: Health { started: false, ready: false, unhealthy: None },
        post_start: HookState::Idle,
        pre_stop: HookState::Idle,
        signalled: false,
    };

    /// How the latest attempt ended, if it did: by its record, by the runtime, or because the
    /// sandbox that it lived in is gone.
    pub fn ended(&self, pod: &ObservedPod) -> Option<ExitRecord> {
        let record = self.record.as_ref()?;
        if let Some(exit) = &record.exit {
            return Some(exit.clone());
        }
        match &self.runtime {
            Some(RuntimeState::Exited(exit)) => Some(exit.clone()),
            Some(RuntimeState::Created | RuntimeState::Running { .. }) => None,
            None if pod.sandbox_exists(record.sandbox) => None,
            None => Some(lost(record)),
        }
    }

    /// The latest attempt exists and has not ended.
    pub fn is_alive(&self) -> bool {
        matches!(self.runtime, Some(RuntimeState::Created | RuntimeState::Running { .. }))
    }

    pub fn is_running(&self) -> bool {
        matches!(self.runtime, Some(RuntimeState::Running { .. }))
    }
}

/// The machine went down under it: nobody saw how it ended.
fn lost(record: &ContainerRecord) -> ExitRecord {
    ExitRecord {
        attempt: record.attempt,
        code: 255,
        signal: None,
        reason: "Unknown".to_owned(),
        message: String::new(),
        started_at: Some(record.created_at),
        finished_at: record.created_at,
        image_id: record.image_id.clone(),
        lost: true,
    }
}
