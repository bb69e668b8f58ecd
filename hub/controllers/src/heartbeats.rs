//! When nodes were heard, by the clock of this process.
//!
//! The `renewTime` of a Lease is of the clock of whichever hub wrote it, and that clock may be wrong. It is compared with
//! nothing but itself: a node is heard when it changes. Kubernetes' node lifecycle controller does the same (its
//! `probeTimestamp`).

use std::collections::BTreeMap;

use jiff::Timestamp;

/// What is known of all nodes.
#[derive(Debug, Default)]
pub(crate) struct Heartbeats {
    nodes: BTreeMap<String, Heartbeat>,
}

#[derive(Debug, Default)]
struct Heartbeat {
    /// When the Node was first seen; none if it was there before this process looked.
    came_at: Option<Timestamp>,
    /// What its Lease said last.
    renewed: Option<Timestamp>,
    /// When that was seen to change; none if it has not.
    heard_at: Option<Timestamp>,
}

impl Heartbeats {
    /// A Node is there. `now` is none for what the first list holds.
    pub(crate) fn node_came(&mut self, node: &str, now: Option<Timestamp>) {
        self.nodes.entry(node.to_owned()).or_default().came_at = now;
    }

    /// The Lease of a node says that it was renewed then. `now` is none for what the first list holds: that may be old.
    pub(crate) fn lease_says(
        &mut self,
        node: &str,
        renewed: Option<Timestamp>,
        now: Option<Timestamp>,
    ) {
        let heartbeat = self.nodes.entry(node.to_owned()).or_default();
        if renewed.is_some() && renewed != heartbeat.renewed {
            heartbeat.renewed = renewed;
            heartbeat.heard_at = now;
        }
    }

    /// Forgets a node that is gone.
    pub(crate) fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// When the Node was first seen, if that was after the first list.
    pub(crate) fn came_at(&self, node: &str) -> Option<Timestamp> {
        self.nodes.get(node)?.came_at
    }

    /// When the node was heard, if it was since the first list.
    pub(crate) fn heard_at(&self, node: &str) -> Option<Timestamp> {
        self.nodes.get(node)?.heard_at
    }
}
