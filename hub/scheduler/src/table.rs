//! All nodes, and what changed about them.

use crate::needs::Needs;
use crate::node::Node;

/// Nodes by slot; slots of removed nodes are used again.
#[derive(Debug, Default)]
pub(crate) struct Table {
    nodes: Vec<Option<Node>>,
    /// By slot, the number of its last change.
    versions: Vec<u64>,
    n_changes: u64,
    /// Slots that may have become better for some pod, the latest last.
    improved: Vec<usize>,
    /// Number of improvements that were forgotten.
    forgotten: usize,
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn get(&self, slot: usize) -> Option<&Node> {
        self.nodes.get(slot)?.as_ref()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    /// The number of changes there have been.
    pub(crate) fn n_changes(&self) -> u64 {
        self.n_changes
    }

    /// The number of the last change of a slot.
    pub(crate) fn version(&self, slot: usize) -> u64 {
        self.versions[slot]
    }

    /// Puts a node into a slot, or takes it out.
    pub(crate) fn set(&mut self, slot: usize, node: Option<Node>) {
        if slot == self.nodes.len() {
            self.nodes.push(node);
            self.versions.push(0);
        } else {
            self.nodes[slot] = node;
        }
        self.note_change(slot);
        self.note_improvement(slot);
    }

    /// Puts a pod on a node, which makes the node worse for all others.
    pub(crate) fn occupy(&mut self, slot: usize, needs: &Needs) {
        if let Some(node) = &mut self.nodes[slot] {
            node.used.add(needs);
        }
        self.note_change(slot);
    }

    /// Takes a pod off a node.
    pub(crate) fn vacate(&mut self, slot: usize, needs: &Needs) {
        if let Some(node) = &mut self.nodes[slot] {
            node.used.remove(needs);
        }
        self.note_change(slot);
        self.note_improvement(slot);
    }

    /// The number of improvements there have been.
    pub(crate) fn n_improved(&self) -> usize {
        self.forgotten + self.improved.len()
    }

    /// Slots improved since there had been so many, or none if that is too long ago.
    pub(crate) fn improved_since(&self, count: usize) -> Option<&[usize]> {
        self.improved.get(count.checked_sub(self.forgotten)?..)
    }

    fn note_change(&mut self, slot: usize) {
        self.n_changes += 1;
        self.versions[slot] = self.n_changes;
    }

    fn note_improvement(&mut self, slot: usize) {
        // Beyond this, walking the changes costs more than walking the nodes.
        if self.improved.len() > 2 * self.nodes.len() + 1024 {
            self.forgotten += self.improved.len();
            self.improved.clear();
        }
        self.improved.push(slot);
    }
}
