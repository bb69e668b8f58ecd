//! The watch cache: every live object, and a bounded piece of history per kind.
//!
//! One writer publishes batches of events; any number of readers list, and any number of watches pull from the
//! history at their own pace. A watch holds a position, not a queue: a slow one costs nothing, and when history has
//! left it behind it ends with an error from which it can resume by listing.
//!
//! **Invariant**: a batch becomes visible as a whole, in revision order, and only after it was made durable.

use std::{
    collections::{BTreeMap, VecDeque},
    iter,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use tokio::sync::watch;

use crate::{Entry, Event, Key, List, ListError, ListRequest, Prefix, Revision, Watch, WatchError};

/// How much history is kept for each kind, at most.
#[derive(Clone, Copy, Debug)]
pub struct HistoryLimits {
    /// Number of events.
    pub events: usize,
    /// Bytes of encoded objects that events hold.
    pub bytes: usize,
}

impl HistoryLimits {
    /// Enough for minutes of a busy cluster.
    pub const DEFAULT: Self = Self { events: 20_000, bytes: 32 << 20 };
}

/// Live objects and recent events in memory.
#[derive(Debug)]
pub struct WatchCache {
    state: RwLock<State>,
    limits: HistoryLimits,
}

#[derive(Debug)]
struct State {
    revision: Revision,
    /// History before this was never here, or was compacted in every table.
    base: Revision,
    tables: BTreeMap<Box<str>, Table>,
    /// `None` once closed.
    progress: Option<watch::Sender<Revision>>,
}

#[derive(Debug)]
struct Table {
    entries: BTreeMap<Key, Arc<Entry>>,
    log: VecDeque<Arc<Event>>,
    log_bytes: usize,
    /// The log holds every event of this table after this revision.
    forgotten: Revision,
    wake: Arc<watch::Sender<Revision>>,
}

impl WatchCache {
    /// A cache that starts with these objects, at this revision, with no history.
    pub(crate) fn new(
        entries: impl IntoIterator<Item = Entry>,
        revision: Revision,
        limits: HistoryLimits,
    ) -> Self {
        let progress = Some(watch::Sender::new(revision));
        let mut state = State { revision, base: revision, tables: BTreeMap::new(), progress };
        for entry in entries {
            let key = entry.key.clone();
            state.table(key.table()).entries.insert(key, Arc::new(entry));
        }
        Self { state: RwLock::new(state), limits }
    }

    /// The object under a key.
    pub fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.read().tables.get(key.table())?.entries.get(key).cloned()
    }

    /// Every object of every kind, at one revision.
    pub(crate) fn snapshot(&self) -> (Vec<Arc<Entry>>, Revision) {
        let state = self.read();
        let entries = state.tables.values().flat_map(|it| it.entries.values().cloned());
        (entries.collect(), state.revision)
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.read().revision
    }

    /// Tells of every advance of the revision.
    pub fn progress(&self) -> watch::Receiver<Revision> {
        let state = self.read();
        let closed = || watch::Sender::new(state.revision).subscribe();
        state.progress.as_ref().map_or_else(closed, watch::Sender::subscribe)
    }

    /// See [`crate::Storage::list`].
    pub fn list(&self, request: &ListRequest) -> Result<List, ListError> {
        let state = self.read();
        let at = request.at.unwrap_or(state.revision);
        if at > state.revision {
            return Err(ListError::Future { at, current: state.revision });
        }
        let table = state.tables.get(request.prefix.table());
        let oldest = table.map_or(state.base, |it| it.forgotten);
        if at < oldest {
            return Err(ListError::Compacted { at, oldest });
        }
        let Some(table) = table else {
            return Ok(List { entries: Vec::new(), revision: at, remaining: 0 });
        };
        let start = match &request.after {
            Some(after) if after.as_str() >= request.prefix.as_str() => {
                Bound::Excluded(after.clone())
            }
            Some(_) | None => Bound::Included(request.prefix.first()),
        };
        let mut found = table.entries_at(&request.prefix, start, at);
        let limit = request.limit.unwrap_or(usize::MAX);
        let entries = found.by_ref().take(limit).cloned().collect();
        let remaining = found.count();
        Ok(List { entries, revision: at, remaining })
    }

    /// See [`crate::Storage::watch`].
    pub fn watch(self: &Arc<Self>, prefix: &Prefix, after: Revision) -> Result<Watch, WatchError> {
        let mut state = self.write();
        let current = state.revision;
        if state.progress.is_none() {
            return Err(WatchError::Closed);
        }
        if after > current {
            return Err(WatchError::Future { after, current });
        }
        let table = state.table(prefix.table());
        if after < table.forgotten {
            return Err(WatchError::Compacted { after, oldest: table.forgotten });
        }
        let wake = table.wake.subscribe();
        Ok(Watch::new(self.clone(), prefix.clone(), after, wake))
    }

    /// Events after a position: at most about `limit`, and the position up to which they are complete.
    pub(crate) fn events_after(
        &self,
        prefix: &Prefix,
        after: Revision,
        limit: usize,
        into: &mut VecDeque<Arc<Event>>,
    ) -> Result<Revision, WatchError> {
        let state = self.read();
        if state.progress.is_none() {
            return Err(WatchError::Closed);
        }
        let Some(table) = state.tables.get(prefix.table()) else {
            return Ok(state.revision);
        };
        if after < table.forgotten {
            return Err(WatchError::Compacted { after, oldest: table.forgotten });
        }
        for event in table.events_after(after).filter(|it| prefix.contains(it.key())) {
            // A revision may have several events: it is delivered whole.
            if into.len() >= limit
                && let Some(last) = into.back().map(|it| it.revision())
                && last < event.revision()
            {
                return Ok(last);
            }
            into.push_back(event.clone());
        }
        Ok(state.revision)
    }

    /// Makes a batch of durable events visible. Their revisions continue from the current one.
    pub(crate) fn publish(&self, events: Vec<Event>) {
        let mut state = self.write();
        let mut touched: Touched = BTreeMap::new();
        for event in events {
            state.take(event, &self.limits, &mut touched);
        }
        Self::wake(state, &touched);
    }

    /// Makes durable changes visible that happened elsewhere, and moves on to `revision`: everything up to it is in them
    /// or was there before.
    #[cfg(feature = "etcd")]
    pub(crate) fn absorb(&self, changes: Vec<Change>, revision: Revision) {
        let mut state = self.write();
        let mut touched: Touched = BTreeMap::new();
        for change in changes {
            if let Some(event) = state.event(change) {
                state.take(event, &self.limits, &mut touched);
            }
        }
        state.revision = state.revision.max(revision);
        Self::wake(state, &touched);
    }

    /// Begins anew with these objects, when it is not known how they became what they are: every watch is left behind
    /// that has not come as far.
    #[cfg(feature = "etcd")]
    pub(crate) fn reset(&self, entries: Vec<Entry>, revision: Revision) {
        let mut state = self.write();
        state.revision = state.revision.max(revision);
        state.base = state.revision;
        let base = state.base;
        let mut touched: Touched = BTreeMap::new();
        for (name, table) in &mut state.tables {
            touched.insert(name.clone(), table.wake.clone());
            let wake = table.wake.clone();
            *table = Table { wake, ..Table::new(base) };
        }
        for entry in entries {
            let key = entry.key.clone();
            state.table(key.table()).entries.insert(key, Arc::new(entry));
        }
        Self::wake(state, &touched);
    }

    /// Tells readers, once nobody is kept from reading.
    fn wake(state: RwLockWriteGuard<'_, State>, touched: &Touched) {
        let revision = state.revision;
        let progress = state.progress.clone();
        drop(state);
        for wake in touched.values() {
            wake.send_replace(revision);
        }
        if let Some(progress) = progress {
            progress.send_replace(revision);
        }
    }

    /// Forgets history up to and including `revision`.
    pub(crate) fn compact(&self, revision: Revision) {
        let mut state = self.write();
        let revision = revision.min(state.revision);
        state.base = state.base.max(revision);
        for table in state.tables.values_mut() {
            table.forget(revision);
        }
    }

    /// Whether it is closed: what lies in it may no longer be true.
    #[cfg(feature = "etcd")]
    pub(crate) fn is_closed(&self) -> bool {
        self.read().progress.is_none()
    }

    /// Ends every watch; later ones are refused.
    pub(crate) fn close(&self) {
        let mut state = self.write();
        state.progress = None;
        let revision = state.revision;
        for table in state.tables.values() {
            table.wake.send_replace(revision);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kinds that changed, and whom to tell.
type Touched = BTreeMap<Box<str>, Arc<watch::Sender<Revision>>>;

/// What happened elsewhere.
#[cfg(feature = "etcd")]
#[derive(Debug)]
pub(crate) enum Change {
    Put(Arc<Entry>),
    Delete(Key, Revision),
}

impl State {
    fn take(&mut self, event: Event, limits: &HistoryLimits, touched: &mut Touched) {
        self.revision = event.revision();
        let name: Box<str> = event.key().table().into();
        let table = self.table(&name);
        touched.entry(name).or_insert_with(|| table.wake.clone());
        table.absorb(event, limits);
    }

    /// The change with what was there before; nothing if it was known already.
    #[cfg(feature = "etcd")]
    fn event(&mut self, change: Change) -> Option<Event> {
        let (key, revision) = match &change {
            Change::Put(entry) => (&entry.key, entry.revision),
            Change::Delete(key, revision) => (key, *revision),
        };
        if revision < self.revision {
            return None;
        }
        let previous = self.tables.get(key.table()).and_then(|it| it.entries.get(key)).cloned();
        match change {
            Change::Put(entry) => Some(Event::Put { entry, previous }),
            Change::Delete(key, revision) => {
                let previous = previous?;
                let last = previous.stamped(revision);
                Some(Event::Delete { key, revision, previous, last })
            }
        }
    }

    fn table(&mut self, name: &str) -> &mut Table {
        if !self.tables.contains_key(name) {
            self.tables.insert(name.into(), Table::new(self.base));
        }
        self.tables.get_mut(name).expect("inserted above")
    }
}

impl Table {
    fn new(forgotten: Revision) -> Self {
        Self {
            entries: BTreeMap::new(),
            log: VecDeque::new(),
            log_bytes: 0,
            forgotten,
            wake: Arc::new(watch::Sender::new(Revision::ZERO)),
        }
    }

    fn absorb(&mut self, event: Event, limits: &HistoryLimits) {
        match &event {
            Event::Put { entry, .. } => self.entries.insert(entry.key.clone(), entry.clone()),
            Event::Delete { key, .. } => self.entries.remove(key),
        };
        self.log_bytes += weight(&event);
        self.log.push_back(Arc::new(event));
        while self.log.len() > limits.events || self.log_bytes > limits.bytes {
            self.forget_one();
        }
    }

    fn forget(&mut self, revision: Revision) {
        while self.log.front().is_some_and(|it| it.revision() <= revision) {
            self.forget_one();
        }
        self.forgotten = self.forgotten.max(revision);
    }

    fn forget_one(&mut self) {
        if let Some(event) = self.log.pop_front() {
            self.log_bytes -= weight(&event);
            self.forgotten = event.revision();
        }
    }

    fn events_after(&self, after: Revision) -> impl Iterator<Item = &Arc<Event>> {
        let from = self.log.partition_point(|it| it.revision() <= after);
        self.log.range(from..)
    }

    /// The entries of a range as they were at a revision that the log reaches back to.
    fn entries_at<'a>(
        &'a self,
        prefix: &'a Prefix,
        start: Bound<Key>,
        at: Revision,
    ) -> impl Iterator<Item = &'a Arc<Entry>> {
        // The first event after `at` of each key knows what was there at `at`.
        let mut old: BTreeMap<&Key, Option<&Arc<Entry>>> = BTreeMap::new();
        let range = (start, Bound::Unbounded);
        for event in self.events_after(at) {
            let key = event.key();
            let inside = prefix.contains(key) && std::ops::RangeBounds::contains(&range, key);
            if inside {
                old.entry(key).or_insert_with(|| event.previous());
            }
        }
        let kept: Vec<_> = old.values().filter_map(|entry| *entry).collect();
        let mut kept = kept.into_iter().peekable();
        let live = self.entries.range(range).take_while(|(key, _)| prefix.contains(key));
        let mut live =
            live.filter(move |(key, _)| !old.contains_key(key)).map(|(_, it)| it).peekable();
        iter::from_fn(move || match (live.peek(), kept.peek()) {
            (Some(a), Some(b)) if a.key < b.key => live.next(),
            (_, Some(_)) => kept.next(),
            (_, None) => live.next(),
        })
    }
}

fn weight(event: &Event) -> usize {
    match event {
        Event::Put { entry, .. } => entry.bytes.len(),
        Event::Delete { previous, last, .. } => previous.bytes.len() + last.len(),
    }
}
