//! What a node uses, as it tells the hub when it is asked ([`crate::stream::StreamKind::Stats`]).
//!
//! The hub takes nothing of it on trust: it looks up each pod by its UID among those that are bound
//! to the node.

use serde::{Deserialize, Serialize};

/// Largest report as JSON, in bytes.
pub const MAX_REPORT: usize = 4 << 20;

/// What a node and its pods use.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Report {
    /// The whole machine; absent if it could not be read.
    pub node: Option<Usage>,
    /// Pods with running containers.
    pub pods: Vec<PodUsage>,
}

/// One pod.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodUsage {
    /// `metadata.uid`.
    pub uid: String,
    /// Its running containers.
    pub containers: Vec<ContainerUsage>,
}

/// One container.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerUsage {
    /// Its name in the pod.
    pub name: String,
    /// What it uses.
    pub usage: Usage,
}

/// Amounts of one thing.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Usage {
    /// CPU time per time, in billionths of a core, over the window.
    pub cpu_nanocores: u64,
    /// Memory that cannot be dropped at once, in bytes, at the end of the window.
    pub memory_working_set: u64,
    /// Length of the window, in milliseconds.
    pub window_ms: u64,
}
