//! Pods that wait for a node.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

const FIRST_BACKOFF: SignedDuration = SignedDuration::from_secs(1);
const LAST_BACKOFF: SignedDuration = SignedDuration::from_secs(10);

/// Order in which pods are looked at: priority first, then whoever came first.
type Rank = (Reverse<i64>, u64);

#[derive(Debug)]
enum State {
    Active,
    /// To be looked at again at this time, to bring the explanation up to date.
    BackingOff(Timestamp),
    /// Waiting for news.
    Waiting,
}

#[derive(Debug)]
struct Entry {
    rank: Rank,
    state: State,
    attempts: u32,
}

/// The queue; pods go by uid.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: BTreeMap<String, Entry>,
    active: BTreeSet<(Rank, String)>,
    timers: BTreeSet<(Timestamp, String)>,
    waiting: BTreeSet<String>,
    next_age: u64,
}

impl Queue {
    pub(crate) fn contains(&self, uid: &str) -> bool {
        self.entries.contains_key(uid)
    }

    /// Puts a pod in line. A pod that waits already is looked at again.
    pub(crate) fn push(&mut self, uid: &str, priority: i64) {
        let age = match self.entries.get(uid) {
            Some(entry) => entry.rank.1,
            None => {
                self.next_age += 1;
                self.next_age
            }
        };
        self.remove(uid);
        let rank = (Reverse(priority), age);
        let entry = Entry { rank, state: State::Active, attempts: 0 };
        self.entries.insert(uid.to_owned(), entry);
        self.active.insert((rank, uid.to_owned()));
    }

    pub(crate) fn remove(&mut self, uid: &str) {
        let Some(entry) = self.entries.remove(uid) else { return };
        match entry.state {
            State::Active => {
                self.active.remove(&(entry.rank, uid.to_owned()));
            }
            State::BackingOff(at) => {
                self.timers.remove(&(at, uid.to_owned()));
            }
            State::Waiting => {
                self.waiting.remove(uid);
            }
        }
    }

    /// The next pod to decide on. It stays known, as waiting.
    pub(crate) fn pop(&mut self, now: Timestamp) -> Option<String> {
        while let Some((at, uid)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            self.activate(&uid);
        }
        let (_, uid) = self.active.pop_first()?;
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.state = State::Waiting;
            entry.attempts += 1;
        }
        self.waiting.insert(uid.clone());
        Some(uid)
    }

    /// Takes a pod out of the line; it stays known, as waiting.
    pub(crate) fn retire(&mut self, uid: &str) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        if matches!(entry.state, State::Active) {
            self.active.remove(&(entry.rank, uid.to_owned()));
            entry.state = State::Waiting;
            entry.attempts += 1;
            self.waiting.insert(uid.to_owned());
        }
    }

    pub(crate) fn waiting(&self) -> impl Iterator<Item = &String> {
        self.waiting.iter()
    }

    /// Looks at a waiting pod at once: it fits now.
    pub(crate) fn activate(&mut self, uid: &str) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        match entry.state {
            State::Active => return,
            State::BackingOff(at) => {
                self.timers.remove(&(at, uid.to_owned()));
            }
            State::Waiting => {
                self.waiting.remove(uid);
            }
        }
        entry.state = State::Active;
        self.active.insert((entry.rank, uid.to_owned()));
    }

    /// Looks at a waiting pod after its back-off: it still does not fit, but for other reasons.
    pub(crate) fn back_off(&mut self, uid: &str, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        if !matches!(entry.state, State::Waiting) {
            return;
        }
        let doublings = entry.attempts.saturating_sub(1).min(10);
        let delay = (FIRST_BACKOFF * (1 << doublings)).min(LAST_BACKOFF);
        let at = now.checked_add(delay).unwrap_or(Timestamp::MAX);
        entry.state = State::BackingOff(at);
        self.waiting.remove(uid);
        self.timers.insert((at, uid.to_owned()));
    }

    /// When a back-off ends.
    pub(crate) fn timeout(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    pub(crate) fn backing_off(&self) -> impl Iterator<Item = &String> {
        self.timers.iter().map(|(_, uid)| uid)
    }
}
