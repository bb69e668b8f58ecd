//! A class of pods with equal needs, and its ranking of the nodes.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::fit::{explain, fits};
use crate::needs::Needs;
use crate::node::Node;
use crate::score::score;

/// All nodes, by slot; slots of removed nodes are used again.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub nodes: Vec<Option<Node>>,
    /// Slots in the order in which they changed, the latest last.
    changes: Vec<usize>,
    /// Number of changes that were forgotten.
    forgotten: usize,
}

impl Table {
    pub(crate) fn node_mut(&mut self, slot: usize) -> Option<&mut Node> {
        self.note_change(slot);
        self.nodes.get_mut(slot)?.as_mut()
    }

    pub(crate) fn set(&mut self, slot: usize, node: Option<Node>) {
        if slot == self.nodes.len() {
            self.nodes.push(node);
        } else {
            self.nodes[slot] = node;
        }
        self.note_change(slot);
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    fn version(&self) -> usize {
        self.forgotten + self.changes.len()
    }

    /// Slots that changed since a version, or none if that is too long ago.
    fn since(&self, version: usize) -> Option<&[usize]> {
        self.changes.get(version.checked_sub(self.forgotten)?..)
    }

    fn note_change(&mut self, slot: usize) {
        // Beyond this, walking the changes costs more than walking the nodes.
        if self.changes.len() > 2 * self.nodes.len() + 1024 {
            self.forgotten += self.changes.len();
            self.changes.clear();
        }
        self.changes.push(slot);
    }
}

/// One class.
#[derive(Debug)]
pub(crate) struct Class {
    pub needs: Arc<Needs>,
    /// By slot; none where the pods do not fit.
    scores: Vec<Option<i64>>,
    /// The nodes where they fit, best first; of equals the lowest slot.
    ranking: BTreeSet<(Reverse<i64>, usize)>,
    version: Option<usize>,
    explanation: Option<(usize, String)>,
}

impl Class {
    pub(crate) fn new(needs: Arc<Needs>) -> Self {
        Self {
            needs,
            scores: Vec::new(),
            ranking: BTreeSet::new(),
            version: None,
            explanation: None,
        }
    }

    /// The best node as things are.
    pub(crate) fn best(&mut self, table: &Table) -> Option<usize> {
        self.catch_up(table);
        self.ranking.first().map(|(_, slot)| *slot)
    }

    /// Why there is no node, in words.
    pub(crate) fn explanation(&mut self, table: &Table) -> &str {
        let version = table.version();
        if self.explanation.as_ref().is_none_or(|(known, _)| *known != version) {
            self.explanation = Some((version, explain(&self.needs, table.all())));
        }
        self.explanation.as_ref().map_or("", |(_, text)| text)
    }

    fn catch_up(&mut self, table: &Table) {
        match self.version.and_then(|version| table.since(version)) {
            Some(changes) => {
                for slot in changes {
                    self.rank(*slot, table);
                }
            }
            None => {
                for slot in 0..table.nodes.len() {
                    self.rank(slot, table);
                }
            }
        }
        self.version = Some(table.version());
    }

    fn rank(&mut self, slot: usize, table: &Table) {
        let node = table.nodes.get(slot).and_then(Option::as_ref);
        let new = node.filter(|it| fits(&self.needs, it)).map(|it| score(&self.needs, it));
        if self.scores.len() <= slot {
            self.scores.resize(slot + 1, None);
        }
        let old = std::mem::replace(&mut self.scores[slot], new);
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.ranking.remove(&(Reverse(old), slot));
        }
        if let Some(new) = new {
            self.ranking.insert((Reverse(new), slot));
        }
    }
}
