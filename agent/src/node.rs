//! Everything that the parts of the agent share, put together once.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
};

use agent_core::{
    field::NodeFacts,
    ids::{PodRef, PodUid},
    node::Machine,
};
use agent_image::ImageStore;
use agent_ledger::Ledger;
use agent_runtime::Runtime;
use serde::{Deserialize, Serialize};

use crate::{
    clock::NodeClock, config::AgentConfig, desired::DesiredStore, events::Events, link::LinkHandle,
    network::Network, outbox::Outbox, runtime_view::RuntimeView, stats::Sampler,
};

/// One agent's parts. Nothing here decides anything.
pub struct Node {
    pub config: AgentConfig,
    pub clock: NodeClock,
    pub ledger: Ledger,
    pub desired: Arc<DesiredStore>,
    pub outbox: Arc<Outbox>,
    pub events: Events,
    pub runtime: Runtime,
    pub view: RuntimeView,
    pub images: ImageStore,
    pub network: Network,
    pub pods: PodTable,
    pub(crate) stats: Sampler,
    pub link: OnceLock<LinkHandle>,
    /// The least score for the OOM killer that containers may have here.
    pub least_oom_score_adj: i32,
    /// Processes and threads that one pod may have here.
    pub pod_pids_limit: Option<u64>,
    machine: RwLock<Machine>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("name", &self.config.node_name).finish_non_exhaustive()
    }
}

/// What [`Node::new`] is given.
#[derive(Debug)]
pub struct Parts {
    pub config: AgentConfig,
    pub ledger: Ledger,
    pub desired: Arc<DesiredStore>,
    pub outbox: Arc<Outbox>,
    pub runtime: Runtime,
    pub images: ImageStore,
    pub network: Network,
    pub machine: Machine,
}

impl Node {
    pub fn new(parts: Parts, clock: NodeClock) -> Self {
        let Parts { config, ledger, desired, outbox, runtime, images, network, machine } = parts;
        let events = Events::new(&config.node_name, Arc::clone(&outbox), clock.clone());
        Self {
            config,
            clock,
            ledger,
            desired,
            outbox,
            events,
            runtime,
            view: RuntimeView::default(),
            images,
            network,
            pods: PodTable::default(),
            stats: Sampler::default(),
            link: OnceLock::new(),
            least_oom_score_adj: crate::machine::least_oom_score_adj(),
            pod_pids_limit: crate::machine::pod_pids_limit(),
            machine: RwLock::new(machine),
        }
    }

    pub fn machine(&self) -> Machine {
        self.machine.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_machine(&self, machine: Machine) {
        *self.machine.write().unwrap_or_else(PoisonError::into_inner) = machine;
    }

    /// The machine's own address.
    pub fn host_ip(&self) -> Option<IpAddr> {
        let machine = self.machine.read().unwrap_or_else(PoisonError::into_inner);
        self.config.node_ip.or_else(|| machine.addresses.first().copied())
    }

    /// What pods may learn about the node.
    pub fn facts(&self) -> NodeFacts {
        let allocatable = self.machine.read().unwrap_or_else(PoisonError::into_inner).allocatable();
        NodeFacts {
            node_name: self.config.node_name.clone(),
            host_ip: self.host_ip(),
            allocatable_milli_cpu: allocatable.milli_cpu,
            allocatable_memory: allocatable.memory,
        }
    }
}

/// What every pod last said of itself, for the local commands.
#[derive(Debug, Default)]
pub struct PodTable {
    rows: Mutex<BTreeMap<PodUid, Kept>>,
}

/// A row as text: a tree of values takes ten times as much, and is seldom looked at.
#[derive(Debug)]
struct Kept {
    json: Box<str>,
    ended: bool,
}

/// One pod.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PodRow {
    pub uid: PodUid,
    pub pod: PodRef,
    pub status: serde_json::Value,
    pub deleting: bool,
    /// What it waits for.
    pub waiting_on: Vec<String>,
}

impl PodTable {
    pub fn set(&self, row: PodRow) {
        let ended = matches!(row.status["phase"].as_str(), Some("Succeeded" | "Failed"));
        let json = serde_json::to_string(&row).unwrap_or_default().into_boxed_str();
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.insert(row.uid, Kept { json, ended });
    }

    pub fn remove(&self, uid: &PodUid) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Pods that run to no end any more: they succeeded or failed.
    pub fn ended(&self) -> BTreeSet<PodUid> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.iter().filter(|(_, it)| it.ended).map(|(uid, _)| *uid).collect()
    }

    /// All pods, by namespace and name.
    pub fn list(&self) -> Vec<PodRow> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows: Vec<PodRow> =
            rows.values().filter_map(|it| serde_json::from_str(&it.json).ok()).collect();
        rows.sort_by(|a, b| a.pod.cmp(&b.pod));
        rows
    }
}
