//! What a node writes down about a pod, so that the next process finds it again.
//!
//! Written before the act that it describes: a record may describe something that does not exist
//! yet, and never the other way round. Versioned, and converted here.

use std::net::Ipv4Addr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::ids::{Attempt, ContainerId, ContainerName, PodRef, PodUid, SandboxId};

/// Version of the records written today.
const VERSION: u32 = 1;

/// Where a pod stands. Moves down this list, never up.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Lifecycle {
    /// What is desired is being made true.
    Syncing,
    /// Everything is being taken down. What is left to do shows in what is left.
    Terminating { since: Timestamp, grace_seconds: i64, reason: TeardownReason },
    /// Nothing is left but records and logs.
    Terminated { at: Timestamp, reason: TeardownReason },
}

/// Why a pod is taken down.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum TeardownReason {
    /// The Pod has a deletion timestamp.
    Deleted,
    /// Every container did what it was to do, or failed for good.
    Completed,
    /// The pod ran longer than `activeDeadlineSeconds`.
    DeadlineExceeded,
    /// The complete desired set does not have it.
    Removed,
    /// The node did not take it.
    Rejected,
}

/// Why a node did not take a pod, in Kubernetes' words.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Rejection {
    pub reason: String,
    pub message: String,
}

/// One pod.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PodRecord {
    pub uid: PodUid,
    pub pod: PodRef,
    /// Grace for a teardown when the Pod object is not there to say.
    pub grace_seconds: i64,
    /// When the node first saw the pod: `status.startTime`.
    pub started_at: Timestamp,
    pub lifecycle: Lifecycle,
    /// The latest sandbox that was begun.
    pub sandbox: Option<SandboxRecord>,
    /// Why the pod was not taken at all.
    #[serde(default)]
    pub rejection: Option<Rejection>,
}

/// One attempt at a sandbox.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SandboxRecord {
    pub attempt: Attempt,
    /// Namespaces and network were complete, since then.
    pub made_at: Option<Timestamp>,
    /// None in the host's network.
    pub address: Option<Ipv4Addr>,
}

/// The latest attempt at a container, and how the one before ended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ContainerRecord {
    pub name: ContainerName,
    pub attempt: Attempt,
    /// Sandbox that it was made in.
    pub sandbox: Attempt,
    /// None when the container was found without a record.
    pub image: Option<String>,
    pub image_id: String,
    /// Delay that a restart after this attempt must wait.
    pub backoff_seconds: i64,
    pub created_at: Timestamp,
    /// Signal that asks it to end.
    pub stop_signal: i32,
    pub stop: Option<StopRecord>,
    pub exit: Option<ExitRecord>,
    /// How the previous attempt ended.
    pub last: Option<ExitRecord>,
    /// Last known readiness, so that a new agent does not begin by taking the pod off Services.
    pub ready: bool,
    /// When it last changed.
    pub ready_changed_at: Option<Timestamp>,
}

/// A stop that was begun.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct StopRecord {
    pub since: Timestamp,
    pub grace_seconds: i64,
}

/// How an attempt ended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ExitRecord {
    pub attempt: Attempt,
    pub code: i32,
    pub signal: Option<i32>,
    /// Kubernetes' reason: `Completed`, `Error`, `OOMKilled`, `StartError`, `Unknown`.
    pub reason: String,
    pub message: String,
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    pub image_id: String,
    /// It did not end, it was lost: the machine went down under it.
    pub lost: bool,
}

impl ExitRecord {
    pub fn succeeded(&self) -> bool {
        self.code == 0
    }
}

impl SandboxRecord {
    pub fn is_ready(&self) -> bool {
        self.made_at.is_some()
    }
}

impl PodRecord {
    /// Nothing of it is left but this and its logs.
    pub fn has_ended(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Terminated { .. })
    }

    pub fn sandbox_id(&self, attempt: Attempt) -> SandboxId {
        SandboxId { pod: self.uid, attempt }
    }
}

impl ContainerRecord {
    pub fn id(&self, pod: PodUid) -> ContainerId {
        ContainerId { pod, name: self.name.clone(), attempt: self.attempt }
    }

    pub fn backoff(&self) -> SignedDuration {
        SignedDuration::from_secs(self.backoff_seconds)
    }
}

#[derive(Serialize)]
struct Written<'a, T> {
    v: u32,
    r: &'a T,
}

#[derive(Deserialize)]
struct Read<T> {
    v: u32,
    r: T,
}

/// The bytes for the ledger.
pub fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    // Plain structs with string keys: serialisation to JSON cannot fail.
    serde_json::to_vec(&Written { v: VERSION, r: record }).unwrap_or_default()
}

/// Reads what [`encode`] wrote; `None` for anything else.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let read: Read<T> = serde_json::from_slice(bytes).ok()?;
    (read.v == VERSION).then_some(read.r)
}
