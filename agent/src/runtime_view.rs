//! A mirror of the keeper's inventory, kept current by events and by our own calls.
//!
//! A worker looks here instead of asking the keeper for everything at each step. An end is final:
//! a late answer never brings an ended container back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use agent_core::ids::{ContainerId, PodUid, SandboxId};
use agent_runtime::{ContainerState, Inventory, Phase};

/// What exists of one pod.
#[derive(Clone, Debug, Default)]
pub struct PodInventory {
    pub sandboxes: BTreeSet<SandboxId>,
    pub containers: BTreeMap<ContainerId, Phase>,
}

/// What exists of all pods.
#[derive(Debug, Default)]
pub struct RuntimeView {
    pods: Mutex<BTreeMap<PodUid, PodInventory>>,
}

impl RuntimeView {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PodUid, PodInventory>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces everything by what the keeper holds. Things that carry none of our names are not
    /// ours to touch.
    pub fn reset(&self, inventory: &Inventory) {
        let mut pods: BTreeMap<PodUid, PodInventory> = BTreeMap::new();
        for sandbox in &inventory.sandboxes {
            if let Ok(id) = sandbox.id.as_str().parse::<SandboxId>() {
                pods.entry(id.pod).or_default().sandboxes.insert(id);
            }
        }
        for container in &inventory.containers {
            if let Ok(id) = container.id.as_str().parse::<ContainerId>() {
                pods.entry(id.pod).or_default().containers.insert(id, container.phase.clone());
            }
        }
        *self.lock() = pods;
    }

    pub fn pod(&self, uid: &PodUid) -> PodInventory {
        self.lock().get(uid).cloned().unwrap_or_default()
    }

    pub fn uids(&self) -> Vec<PodUid> {
        self.lock().keys().copied().collect()
    }

    /// Whether the keeper holds anything of this pod.
    pub fn holds(&self, uid: &PodUid) -> bool {
        self.lock().get(uid).is_some_and(|it| !it.sandboxes.is_empty() || !it.containers.is_empty())
    }

    /// Containers that have not ended.
    pub fn alive(&self) -> Vec<ContainerId> {
        let pods = self.lock();
        let all = pods.values().flat_map(|it| &it.containers);
        all.filter(|(_, phase)| !matches!(phase, Phase::Exited(_)))
            .map(|(id, _)| id.clone())
            .collect()
    }

    pub fn phase(&self, id: &ContainerId) -> Option<Phase> {
        self.lock().get(&id.pod)?.containers.get(id).cloned()
    }

    pub fn sandbox_made(&self, id: &SandboxId) {
        self.lock().entry(id.pod).or_default().sandboxes.insert(id.clone());
    }

    pub fn sandbox_removed(&self, id: &SandboxId) {
        let mut pods = self.lock();
        let Some(pod) = pods.get_mut(&id.pod) else { return };
        pod.sandboxes.remove(id);
        if pod.sandboxes.is_empty() {
            // Nothing lives outside a sandbox.
            pods.remove(&id.pod);
        }
    }

    /// The answer to `ensure_container`.
    pub fn container_made(&self, id: &ContainerId, state: &ContainerState) {
        self.advance(id, state.phase.clone());
    }

    /// A container reached a phase; never moves one back.
    pub fn advance(&self, id: &ContainerId, phase: Phase) {
        let mut pods = self.lock();
        let containers = &mut pods.entry(id.pod).or_default().containers;
        let known = containers.entry(id.clone()).or_insert(Phase::Created);
        if !matches!(known, Phase::Exited(_)) {
            *known = phase;
        }
    }

    pub fn container_removed(&self, id: &ContainerId) {
        if let Some(pod) = self.lock().get_mut(&id.pod) {
            pod.containers.remove(id);
        }
    }
}
