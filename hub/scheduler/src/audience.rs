//! The nodes that admit certain pods, ranked so that the best one comes first.
//!
//! Pods that differ only in what they take share an audience. Its ranking may be too good about a node,
//! never too bad: a node that improved is ranked anew at once, one that got fuller only when it comes
//! first. So a decision costs the same with five nodes and with five thousand.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use crate::fit::{admits, has_space};
use crate::needs::{Choice, Needs};
use crate::score::{MAX_ROOM, free, liking, room};
use crate::table::Table;

/// What a node offers of CPU and memory. Of nodes of one shape, the emptier one stays the emptier one
/// whatever pod is put on it.
type Shape = (i64, i64);

/// Free share and slot: the emptiest first, of equals the lowest slot.
type Rank = (Reverse<i64>, usize);

/// Score and slot: the greatest is the best.
type Score = (i64, Reverse<usize>);

/// Where a node stands in the ranking.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Place {
    liking: i64,
    shape: Shape,
    rank: Rank,
    /// Of the node that was looked at.
    version: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Audience {
    /// By slot; none where the node does not admit the pods.
    places: Vec<Option<Place>>,
    /// What is liked most comes first.
    ranking: BTreeMap<(Reverse<i64>, Shape), BTreeSet<Rank>>,
    n_improved: Option<usize>,
}

impl Audience {
    /// The best node for one of the pods, which all make this `choice`.
    pub(crate) fn best(&mut self, choice: &Choice, needs: &Needs, table: &Table) -> Option<usize> {
        self.catch_up(choice, table);
        let mut best: Option<Score> = None;
        let groups: Vec<(Reverse<i64>, Shape)> = self.ranking.keys().copied().collect();
        for group in groups {
            let (Reverse(liking), _) = group;
            // What is liked less would have to be roomier than possible.
            if best.is_some_and(|(score, _)| liking + MAX_ROOM < score) {
                break;
            }
            best = best.max(self.best_of(group, choice, needs, table));
        }
        best.map(|(_, Reverse(slot))| slot)
    }

    /// The emptiest node of a group that has space.
    fn best_of(
        &mut self,
        group: (Reverse<i64>, Shape),
        choice: &Choice,
        needs: &Needs,
        table: &Table,
    ) -> Option<Score> {
        let mut passed: Option<Rank> = None;
        loop {
            let from = passed.map_or(Unbounded, Excluded);
            let rank = *self.ranking.get(&group)?.range((from, Unbounded)).next()?;
            let (_, slot) = rank;
            if self.places[slot].is_some_and(|place| place.version != table.version(slot)) {
                self.look_at(slot, choice, table);
                continue;
            }
            if let Some(node) = table.get(slot).filter(|node| has_space(needs, node)) {
                let (Reverse(liking), _) = group;
                return Some((liking + room(needs, node), Reverse(slot)));
            }
            passed = Some(rank);
        }
    }

    fn catch_up(&mut self, choice: &Choice, table: &Table) {
        self.places.resize(table.len(), None);
        match self.n_improved.and_then(|count| table.improved_since(count)) {
            Some(improved) => {
                for slot in improved {
                    self.look_at(*slot, choice, table);
                }
            }
            None => {
                for slot in 0..table.len() {
                    self.look_at(slot, choice, table);
                }
            }
        }
        self.n_improved = Some(table.n_improved());
    }

    fn look_at(&mut self, slot: usize, choice: &Choice, table: &Table) {
        let node = table.get(slot).filter(|node| admits(choice, node));
        let new = node.map(|node| Place {
            liking: liking(choice, node),
            shape: (node.allocatable.milli_cpu, node.allocatable.memory),
            rank: (Reverse(free(node)), slot),
            version: table.version(slot),
        });
        if let Some(old) = std::mem::replace(&mut self.places[slot], new) {
            let group = (Reverse(old.liking), old.shape);
            if let Some(ranks) = self.ranking.get_mut(&group) {
                ranks.remove(&old.rank);
                if ranks.is_empty() {
                    self.ranking.remove(&group);
                }
            }
        }
        if let Some(new) = new {
            let group = (Reverse(new.liking), new.shape);
            self.ranking.entry(group).or_default().insert(new.rank);
        }
    }
}
