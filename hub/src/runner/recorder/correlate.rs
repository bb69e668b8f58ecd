//! Which events are one and the same, and which are too many. Pure.

use std::collections::BTreeMap;

use hub_controllers::{Note, Regarding, Uid};
use jiff::{SignedDuration, Timestamp};

/// So many different messages of one reason are told one by one.
const MAX_SIMILAR: usize = 10;
/// Events that lie further apart are not similar.
const SIMILAR_WITHIN: SignedDuration = SignedDuration::from_secs(600);
/// So many events an object may have at once...
const BURST: i64 = 25;
/// ...and one more each time this has passed.
const REFILL: SignedDuration = SignedDuration::from_secs(300);
/// Events that are remembered; more are forgotten, and then told anew.
const MAX_REMEMBERED: usize = 4096;

/// An event object as it is to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub component: &'static str,
    pub note: Note,
    pub name: String,
    pub count: u64,
    pub first: Timestamp,
    pub last: Timestamp,
}

/// What makes events similar.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Group {
    component: &'static str,
    regarding: Regarding,
    is_warning: bool,
    reason: &'static str,
}

#[derive(Debug)]
struct Similar {
    n_messages: usize,
    last: Timestamp,
}

#[derive(Debug)]
struct Bucket {
    tokens: i64,
    filled_at: Timestamp,
}

/// Counts events.
#[derive(Debug, Default)]
pub(super) struct Correlator {
    entries: BTreeMap<(Group, String), Entry>,
    groups: BTreeMap<Group, Similar>,
    buckets: BTreeMap<(&'static str, Uid), Bucket>,
    changed: BTreeMap<String, Entry>,
    n_named: u64,
}

impl Correlator {
    pub(super) fn add(&mut self, component: &'static str, mut note: Note, now: Timestamp) {
        self.forget(now);
        let group = Group {
            component,
            regarding: note.regarding.clone(),
            is_warning: note.is_warning,
            reason: note.reason,
        };
        let is_known = self.entries.contains_key(&(group.clone(), note.message.clone()));
        let key = if self.is_one_of_many(&group, is_known, now) {
            note.message = format!("(combined from similar events): {}", note.message);
            (group, String::new())
        } else {
            (group, note.message.clone())
        };
        if !self.take_token(component, &note.regarding.uid, now) {
            return;
        }
        self.n_named += 1;
        let serial = now.as_nanosecond() + i128::from(self.n_named);
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            component,
            name: format!("{}.{serial:x}", note.regarding.name),
            note: note.clone(),
            count: 0,
            first: now,
            last: now,
        });
        entry.count += 1;
        entry.last = now;
        entry.note = note;
        self.changed.insert(entry.name.clone(), entry.clone());
    }

    /// The events that were added since the last call.
    pub(super) fn take_changed(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.changed).into_values().collect()
    }

    fn is_one_of_many(&mut self, group: &Group, is_known: bool, now: Timestamp) -> bool {
        let similar =
            self.groups.entry(group.clone()).or_insert(Similar { n_messages: 0, last: now });
        if now.duration_since(similar.last) > SIMILAR_WITHIN {
            similar.n_messages = 0;
        }
        similar.last = now;
        if is_known {
            return false;
        }
        similar.n_messages += 1;
        similar.n_messages > MAX_SIMILAR
    }

    fn take_token(&mut self, component: &'static str, uid: &Uid, now: Timestamp) -> bool {
        let bucket = self
            .buckets
            .entry((component, uid.clone()))
            .or_insert(Bucket { tokens: BURST, filled_at: now });
        let earned = now.duration_since(bucket.filled_at).as_secs() / REFILL.as_secs();
        if earned > 0 {
            bucket.tokens = (bucket.tokens + earned).min(BURST);
            bucket.filled_at = now;
        }
        bucket.tokens -= 1;
        let has_one = bucket.tokens >= 0;
        bucket.tokens = bucket.tokens.max(0);
        has_one
    }

    fn forget(&mut self, now: Timestamp) {
        let is_recent = |last: Timestamp| now.duration_since(last) <= SIMILAR_WITHIN;
        if self.entries.len() >= MAX_REMEMBERED {
            self.entries.retain(|_, entry| is_recent(entry.last));
            self.groups.retain(|_, group| is_recent(group.last));
        }
        if self.entries.len() >= MAX_REMEMBERED {
            self.entries.clear();
            self.groups.clear();
        }
        if self.buckets.len() >= MAX_REMEMBERED {
            self.buckets.retain(|_, bucket| bucket.tokens < BURST / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn note(uid: &str, message: &str) -> Note {
        let regarding = Regarding {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            uid: Uid(uid.to_owned()),
        };
        Note { regarding, is_warning: false, reason: "Reason", message: message.to_owned() }
    }

    fn counts(correlator: &mut Correlator) -> Vec<(String, u64)> {
        let entries = correlator.take_changed().into_iter();
        let mut counts: Vec<_> = entries.map(|it| (it.note.message, it.count)).collect();
        counts.sort();
        counts
    }

    #[test]
    fn repetitions_are_counted() {
        let mut correlator = Correlator::default();
        for message in ["a", "b", "a"] {
            correlator.add("c", note("u", message), NOW);
        }
        assert_eq!(counts(&mut correlator), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
        correlator.add("c", note("u", "b"), NOW);
        assert_eq!(counts(&mut correlator), [("b".to_owned(), 2)]);
        // Another incarnation is another story.
        correlator.add("c", note("v", "b"), NOW);
        assert_eq!(counts(&mut correlator), [("b".to_owned(), 1)]);
    }

    #[test]
    fn many_similar_events_become_one() {
        let mut correlator = Correlator::default();
        for place in 0..15 {
            correlator.add("c", note("u", &format!("{place:02}")), NOW);
        }
        let counts = counts(&mut correlator);
        assert_eq!(counts.len(), 11);
        assert_eq!(counts[0], ("(combined from similar events): 14".to_owned(), 5));
    }

    #[test]
    fn a_flood_is_cut_short_until_time_has_passed() {
        let mut correlator = Correlator::default();
        for _ in 0..100 {
            correlator.add("c", note("u", "a"), NOW);
        }
        assert_eq!(counts(&mut correlator), [("a".to_owned(), 25)]);
        correlator.add("c", note("u", "a"), NOW + SignedDuration::from_secs(301));
        assert_eq!(counts(&mut correlator), [("a".to_owned(), 26)]);
    }
}
