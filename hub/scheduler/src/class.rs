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
    /// By slot, the number of the last change.
    versions: Vec<u64>,
    n_changes: u64,
    /// Slots that may have become better, in the order in which they did, the latest last.
    improved: Vec<usize>,
    /// Number of improvements that were forgotten.
    forgotten: usize,
}

/// Which way a node changes for all pods.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Change {
    /// It can only become worse: something was put on it.
    Worse,
    /// Anything else.
    Any,
}

impl Table {
    pub(crate) fn node_mut(&mut self, slot: usize, change: Change) -> Option<&mut Node> {
        self.note(slot, change);
        self.nodes.get_mut(slot)?.as_mut()
    }

    pub(crate) fn set(&mut self, slot: usize, node: Option<Node>) {
        if slot == self.nodes.len() {
            self.nodes.push(node);
            self.versions.push(0);
        } else {
            self.nodes[slot] = node;
        }
        self.note(slot, Change::Any);
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    fn n_improved(&self) -> usize {
        self.forgotten + self.improved.len()
    }

    /// Slots that improved since there had been so many, or none if that is too long ago.
    fn improved_since(&self, count: usize) -> Option<&[usize]> {
        self.improved.get(count.checked_sub(self.forgotten)?..)
    }

    fn note(&mut self, slot: usize, change: Change) {
        self.n_changes += 1;
        self.versions[slot] = self.n_changes;
        if change == Change::Worse {
            return;
        }
        // Beyond this, walking the changes costs more than walking the nodes.
        if self.improved.len() > 2 * self.nodes.len() + 1024 {
            self.forgotten += self.improved.len();
            self.improved.clear();
        }
        self.improved.push(slot);
    }
}

/// One class.
///
/// A ranking may be too good about a node, never too bad: nodes that improved are ranked anew at once,
/// those that got worse only when they come first.
#[derive(Debug)]
pub(crate) struct Class {
    pub needs: Arc<Needs>,
    /// By slot: none where the pods do not fit, and the version of the node that was looked at.
    scores: Vec<(Option<i64>, u64)>,
    /// The nodes where they fit, best first; of equals the lowest slot.
    ranking: BTreeSet<(Reverse<i64>, usize)>,
    n_improved: Option<usize>,
    explanation: Option<(u64, String)>,
}

impl Class {
    pub(crate) fn new(needs: Arc<Needs>) -> Self {
        Self {
            needs,
            scores: Vec::new(),
            ranking: BTreeSet::new(),
            n_improved: None,
            explanation: None,
        }
    }

    /// The best node as things are.
    pub(crate) fn best(&mut self, table: &Table) -> Option<usize> {
        self.catch_up(table);
        loop {
            let (_, slot) = *self.ranking.first()?;
            if self.scores[slot].1 == table.versions[slot] {
                return Some(slot);
            }
            self.rank(slot, table);
        }
    }

    /// Why there is no node, in words.
    pub(crate) fn explanation(&mut self, table: &Table) -> &str {
        let version = table.n_changes;
        if self.explanation.as_ref().is_none_or(|(known, _)| *known != version) {
            self.explanation = Some((version, explain(&self.needs, table.all())));
        }
        self.explanation.as_ref().map_or("", |(_, text)| text)
    }

    fn catch_up(&mut self, table: &Table) {
        match self.n_improved.and_then(|count| table.improved_since(count)) {
            Some(improved) => {
                for slot in improved {
                    self.rank(*slot, table);
                }
            }
            None => {
                for slot in 0..table.nodes.len() {
                    self.rank(slot, table);
                }
            }
        }
        self.n_improved = Some(table.n_improved());
    }

    fn rank(&mut self, slot: usize, table: &Table) {
        let node = table.nodes[slot].as_ref();
        let new = node.filter(|it| fits(&self.needs, it)).map(|it| score(&self.needs, it));
        if self.scores.len() <= slot {
            self.scores.resize(slot + 1, (None, 0));
        }
        let (old, _) = std::mem::replace(&mut self.scores[slot], (new, table.versions[slot]));
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
