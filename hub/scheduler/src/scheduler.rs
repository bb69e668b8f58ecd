//! The scheduler itself: keeps the table of nodes and the queue of pods, and decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::class::Classes;
use crate::needs::Needs;
use crate::node::Node;
use crate::queue::Queue;
use crate::table::Table;
use crate::value::{at, list_at, str_at};

/// One incarnation of a pod.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// What to do about a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Bind it. It counts on the node from here on; see [`Scheduler::handle_bind_failed`].
    Bind { pod: PodRef, node: String },
    /// Tell the user why it waits. Said again only in other words.
    Unschedulable { pod: PodRef, message: String },
}

#[derive(Debug)]
struct Pod {
    name: PodRef,
    needs: Arc<Needs>,
    priority: i64,
    place: Place,
    /// The words in which the user was told last.
    told: Option<String>,
}

/// Where a pod is.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Place {
    /// In the queue.
    Pending,
    /// Decided; the bind is under way.
    Assumed(String),
    Bound(String),
}

impl Place {
    fn node(&self) -> Option<&String> {
        match self {
            Self::Pending => None,
            Self::Assumed(node) | Self::Bound(node) => Some(node),
        }
    }
}

/// Decides for all pods of the default scheduler.
#[derive(Debug, Default)]
pub struct Scheduler {
    table: Table,
    slots: BTreeMap<String, usize>,
    free_slots: Vec<usize>,
    /// By uid.
    pods: BTreeMap<String, Pod>,
    /// Uids by node, also of nodes that are not known yet.
    on_node: BTreeMap<String, BTreeSet<String>>,
    queue: Queue,
    classes: Classes,
    /// Something changed that may help pods that wait.
    is_stale: bool,
}

impl Scheduler {
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of pods that have no node yet.
    pub fn n_pending(&self) -> usize {
        self.pods.values().filter(|pod| pod.place == Place::Pending).count()
    }

    /// A new or changed node.
    pub fn handle_node(&mut self, node: &Value) {
        let mut new = Node::of(node);
        let slot = match self.slots.get(&new.name) {
            Some(slot) => *slot,
            None => self.free_slots.pop().unwrap_or(self.table.len()),
        };
        if let Some(old) = self.table.get(slot)
            && old.name == new.name
        {
            new.used = old.used.clone();
            if *old == new {
                return;
            }
        } else {
            for uid in self.on_node.get(&new.name).into_iter().flatten() {
                if let Some(pod) = self.pods.get(uid) {
                    new.used.add(&pod.needs);
                }
            }
        }
        self.slots.insert(new.name.clone(), slot);
        self.table.set(slot, Some(new));
        self.is_stale = true;
    }

    /// A node that is gone.
    pub fn handle_node_removed(&mut self, name: &str) {
        let Some(slot) = self.slots.remove(name) else { return };
        self.table.set(slot, None);
        self.free_slots.push(slot);
        self.is_stale = true;
    }

    /// A new or changed pod.
    pub fn handle_pod(&mut self, pod: &Value) {
        let metadata = at(pod, &["metadata"]);
        let uid = str_at(metadata, &["uid"]);
        let node = str_at(pod, &["spec", "nodeName"]);
        let phase = str_at(pod, &["status", "phase"]);
        if phase == "Succeeded" || phase == "Failed" || (node.is_empty() && !is_ours(pod)) {
            self.handle_pod_removed(uid);
            return;
        }
        if !self.pods.contains_key(uid) {
            self.add(pod, uid);
        }
        let Some(known) = self.pods.get(uid) else { return };
        match (&known.place, node) {
            (Place::Pending, "") => {
                let priority = known.priority;
                if !self.queue.contains(uid) {
                    self.queue.push(uid, priority);
                }
            }
            // The bind has not shown up yet.
            (Place::Assumed(_) | Place::Bound(_), "") => {}
            (Place::Assumed(assumed), node) if assumed == node => {
                self.replace(uid, Place::Bound(node.to_owned()));
            }
            (Place::Bound(bound), node) if bound == node => {}
            _ => {
                self.queue.remove(uid);
                self.put(uid, Place::Bound(node.to_owned()));
            }
        }
    }

    /// A pod that is gone.
    pub fn handle_pod_removed(&mut self, uid: &str) {
        self.queue.remove(uid);
        if !self.pods.contains_key(uid) {
            return;
        }
        self.put(uid, Place::Pending);
        self.pods.remove(uid);
    }

    /// A bind that did not work. The pod waits again.
    pub fn handle_bind_failed(&mut self, uid: &str, now: Timestamp) {
        let Some(pod) = self.pods.get(uid) else { return };
        if !matches!(pod.place, Place::Assumed(_)) {
            return;
        }
        let priority = pod.priority;
        self.put(uid, Place::Pending);
        self.queue.push(uid, priority);
        // Once at the head of the queue, it would be tried again without end.
        self.queue.retire(uid);
        self.queue.back_off(uid, now);
    }

    /// The next decision. `None` means that nothing can be decided before news or [`Self::poll_timeout`].
    pub fn poll_decision(&mut self, now: Timestamp) -> Option<Decision> {
        if std::mem::take(&mut self.is_stale) {
            self.wake(now);
        }
        while let Some(uid) = self.queue.pop(now) {
            let Some(pod) = self.pods.get_mut(&uid) else {
                self.queue.remove(&uid);
                continue;
            };
            if let Some(slot) = self.classes.best(&pod.needs, &self.table) {
                let Some(node) = self.table.get(slot).map(|node| node.name.clone()) else {
                    continue;
                };
                pod.told = None;
                let pod = pod.name.clone();
                self.queue.remove(&uid);
                self.put(&uid, Place::Assumed(node.clone()));
                return Some(Decision::Bind { pod, node });
            }
            let message = self.classes.explanation(&pod.needs, &self.table);
            if pod.told.as_deref() != Some(message) {
                let message = message.to_owned();
                pod.told = Some(message.clone());
                return Some(Decision::Unschedulable { pod: pod.name.clone(), message });
            }
        }
        None
    }

    /// When [`Self::poll_decision`] has to be called even if nothing happens.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.queue.timeout()
    }

    /// Looks again at pods that fit by now; the others get their explanation renewed in time.
    fn wake(&mut self, now: Timestamp) {
        let waiting: Vec<String> =
            self.queue.waiting().chain(self.queue.backing_off()).cloned().collect();
        for uid in waiting {
            let Some(pod) = self.pods.get(&uid) else { continue };
            if pod.told.is_none() {
                // Backing off from a failed bind: that has nothing to do with nodes.
                continue;
            }
            match self.classes.best(&pod.needs, &self.table) {
                Some(_) => self.queue.activate(&uid),
                None => self.queue.back_off(&uid, now),
            }
        }
    }

    fn add(&mut self, pod: &Value, uid: &str) {
        let spec = at(pod, &["spec"]);
        self.forget_classes();
        let needs = self.classes.shared(Needs::of(spec));
        let name = PodRef {
            namespace: str_at(pod, &["metadata", "namespace"]).to_owned(),
            name: str_at(pod, &["metadata", "name"]).to_owned(),
            uid: uid.to_owned(),
        };
        let priority = at(spec, &["priority"]).as_i64().unwrap_or_default();
        let pod = Pod { name, needs, priority, place: Place::Pending, told: None };
        self.pods.insert(uid.to_owned(), pod);
    }

    /// Moves a pod, and what it takes with it.
    fn put(&mut self, uid: &str, place: Place) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let needs = pod.needs.clone();
        let old = std::mem::replace(&mut pod.place, place.clone());
        if let Some(node) = old.node() {
            if let Some(uids) = self.on_node.get_mut(node) {
                uids.remove(uid);
            }
            if let Some(slot) = self.slots.get(node) {
                self.table.vacate(*slot, &needs);
            }
            self.is_stale = true;
        }
        if let Some(node) = place.node() {
            self.on_node.entry(node.clone()).or_default().insert(uid.to_owned());
            if let Some(slot) = self.slots.get(node) {
                self.table.occupy(*slot, &needs);
            }
        }
    }

    /// Changes what is known of a pod that stays where it is.
    fn replace(&mut self, uid: &str, place: Place) {
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.place = place;
        }
    }

    fn forget_classes(&mut self) {
        if self.classes.are_many() {
            let wanted = self.pods.values().map(|pod| &pod.needs).collect();
            self.classes.retain(&wanted);
        }
    }
}

/// Whether a pod without a node is to be scheduled by us now.
fn is_ours(pod: &Value) -> bool {
    let name = str_at(pod, &["spec", "schedulerName"]);
    (name.is_empty() || name == "default-scheduler")
        && list_at(pod, &["spec", "schedulingGates"]).is_empty()
        && at(pod, &["metadata", "deletionTimestamp"]).is_null()
}

#[cfg(test)]
mod tests;
