//! The hub's memory: a revisioned store of encoded objects.
//!
//! Every write has a number, its [`Revision`]; that number is the object's `resourceVersion`. A write is acknowledged
//! only when it would survive a power cut, and it is visible to readers and watchers only from then on: nobody ever
//! sees something that could be lost.
//!
//! Reads, lists and watches are served from a [watch cache](WatchCache) in memory, which remembers a bounded piece of
//! history: enough to resume a watch, and to page through a list as it was when the first page was served.
//!
//! This crate must never look into an object beyond `metadata.resourceVersion`.

mod age;
pub mod backup;
mod body;
mod cache;
pub mod conformance;
mod decoded;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(test)]
mod fuzz;
mod key;
mod seal;
mod sled;
mod watch;

use std::{collections::BTreeSet, fmt, num::ParseIntError, str::FromStr, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;

#[cfg(feature = "etcd")]
pub use crate::etcd::{
    EtcdOpenError, EtcdOptions, EtcdPlace, EtcdReport, EtcdRestoreError, EtcdStorage, EtcdTls,
    PlaceError, new_epoch, restore_etcd,
};
pub use crate::{
    age::compact_by_age,
    backup::Backup,
    body::{Body, Entry},
    cache::{HistoryLimits, WatchCache},
    key::{Key, Prefix},
    seal::{KeysError, Sealer, UnsealError},
    sled::{OpenError, OpenReport, Options, SledStorage, StorageEpoch, rewrite},
    watch::Watch,
};

/// A position in the hub's history. The first write has revision 1; zero is before everything.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Revision(u64);

impl Revision {
    /// Before the first write.
    pub const ZERO: Self = Self(0);

    /// The revision with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Revision {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A store of objects with revisions.
pub trait Storage: Send + Sync + 'static {
    /// What all reading is served from.
    fn cache(&self) -> &Arc<WatchCache>;

    /// The object under `key`. Sees every write that this storage acknowledged before the call; what another hub wrote to
    /// the same store is seen after [`Self::catch_up`].
    fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.cache().get(key)
    }

    /// The objects under a prefix in key order, as they are or as they were at a revision.
    fn list(&self, request: &ListRequest) -> Result<List, ListError> {
        self.cache().list(request)
    }

    /// All changes under a prefix after a revision: each once, in order, without a gap.
    fn watch(&self, prefix: &Prefix, after: Revision) -> Result<Watch, WatchError> {
        self.cache().watch(prefix, after)
    }

    /// Performs all writes if all conditions hold, or none. Durable when it returns `Ok`.
    ///
    /// The future does not need to be polled for the write to happen; dropping it does not undo the write.
    fn txn(&self, txn: Txn) -> BoxFuture<'static, Result<Committed, TxnError>>;

    /// Waits until readers here see every write that anybody acknowledged before the call, whichever hub it went
    /// through. Returns the revision that is visible then. Bounded in time.
    fn catch_up(&self) -> BoxFuture<'static, Result<Revision, CatchUpError>>;

    /// The newest revision that readers can see.
    fn revision(&self) -> Revision {
        self.cache().revision()
    }

    /// Tells of every advance of [`Self::revision`]. Closed when the storage is.
    fn progress(&self) -> tokio::sync::watch::Receiver<Revision> {
        self.cache().progress()
    }

    /// Forgets history up to and including `revision`: older lists and watches answer `Compacted`.
    fn compact(&self, revision: Revision) {
        self.cache().compact(revision);
    }

    /// Identity of this history. Two storages with equal epochs share every revision both have.
    fn epoch(&self) -> StorageEpoch;

    /// A backup of everything as it is now, and of these files (name and content). Writes go on meanwhile.
    fn backup(&self, files: &[(String, Vec<u8>)]) -> Backup;

    /// Finishes what is queued, then refuses everything and ends every watch.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}

/// What to list.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// Objects of one kind, or of one kind in one namespace.
    pub prefix: Prefix,
    /// The state at this revision; `None` is the newest.
    pub at: Option<Revision>,
    /// Only keys greater than this (the last key of the page before).
    pub after: Option<Key>,
    /// At most so many entries.
    pub limit: Option<usize>,
}

impl ListRequest {
    /// Everything under the prefix, as it is.
    pub fn all(prefix: Prefix) -> Self {
        Self { prefix, at: None, after: None, limit: None }
    }
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct List {
    /// In key order.
    pub entries: Vec<Arc<Entry>>,
    /// The state that was listed: watch after it, or pass it as `at` for the next page.
    pub revision: Revision,
    /// How many more entries follow the last one.
    pub remaining: usize,
}

/// Why a list could not be served.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ListError {
    /// History no longer reaches back so far.
    #[error("revision {at} has been compacted, the oldest is {oldest}")]
    Compacted {
        /// What was asked for.
        at: Revision,
        /// The oldest revision that can still be listed.
        oldest: Revision,
    },
    /// The revision is not reached yet.
    #[error("revision {at} is in the future, the newest is {current}")]
    Future {
        /// What was asked for.
        at: Revision,
        /// The newest revision.
        current: Revision,
    },
}

/// Why a watch could not start, or why it ended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WatchError {
    /// Events after the wanted position are forgotten: list again, then watch from there.
    #[error("revision {after} has been compacted, the oldest is {oldest}")]
    Compacted {
        /// The position from which events were wanted.
        after: Revision,
        /// The oldest position from which a watch can start.
        oldest: Revision,
    },
    /// The revision is not reached yet.
    #[error("revision {after} is in the future, the newest is {current}")]
    Future {
        /// The position from which events were wanted.
        after: Revision,
        /// The newest revision.
        current: Revision,
    },
    /// The storage was closed.
    #[error("the storage is closed")]
    Closed,
}

/// Why readers may not see the newest.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CatchUpError {
    /// The store that hubs share cannot be reached.
    #[error("the store is out of reach: {reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// It did not answer in time.
    #[error("etcdserver: request timed out")]
    TimedOut,
    /// It answered, but what was written does not arrive here.
    #[error("this hub is behind revision {wanted} of the store")]
    Behind {
        /// What readers would have to see.
        wanted: Revision,
    },
    /// The storage was closed.
    #[error("the storage is closed")]
    Closed,
}

/// Writes that happen together, under conditions. No key is written twice.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// All must hold just before the first write.
    pub conditions: Vec<Condition>,
    /// Performed in order; the revision of each is not below that of the one before it.
    pub writes: Vec<Write>,
}

impl Txn {
    /// Puts an object that must not exist yet.
    pub fn create(key: Key, body: Body) -> Self {
        Self {
            conditions: vec![Condition::Absent(key.clone())],
            writes: vec![Write::Put(key, body)],
        }
    }

    /// Replaces an object that must still be at `revision`.
    pub fn update(key: Key, revision: Revision, body: Body) -> Self {
        Self {
            conditions: vec![Condition::Unchanged(key.clone(), revision)],
            writes: vec![Write::Put(key, body)],
        }
    }

    /// Deletes an object that must still be at `revision`.
    pub fn delete(key: Key, revision: Revision) -> Self {
        Self {
            conditions: vec![Condition::Unchanged(key.clone(), revision)],
            writes: vec![Write::Delete(key)],
        }
    }

    /// Adds a condition.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    /// Adds a write.
    #[must_use]
    pub fn and(mut self, write: Write) -> Self {
        self.writes.push(write);
        self
    }

    /// What every storage refuses, before it looks at what is stored.
    pub(crate) fn check(&self, object_bytes: usize) -> Result<(), TxnError> {
        let mut seen = BTreeSet::new();
        for write in &self.writes {
            let (Write::Put(key, _) | Write::Delete(key)) = write;
            if !seen.insert(key) {
                return Err(TxnError::Twice { key: key.clone() });
            }
            if let Write::Put(key, body) = write
                && body.size() > object_bytes
            {
                let (size, limit) = (body.size(), object_bytes);
                return Err(TxnError::TooLarge { key: key.clone(), size, limit });
            }
        }
        Ok(())
    }
}

/// What must hold for a transaction to happen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Condition {
    /// Nothing is stored under the key.
    Absent(Key),
    /// The object exists and its last write is this one.
    Unchanged(Key, Revision),
}

/// One change of one key.
#[derive(Clone, Debug)]
pub enum Write {
    /// Creates or replaces.
    Put(Key, Body),
    /// Deletes. The key must exist, else the transaction conflicts.
    Delete(Key),
}

/// A transaction that happened.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Revision of the last write (the current one if there was no write).
    pub revision: Revision,
    /// What was put, in the order of the `Put`s.
    pub entries: Vec<Arc<Entry>>,
}

/// Why a transaction did not happen, or is not known to have happened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TxnError {
    /// A condition does not hold, or a key to be deleted does not exist.
    #[error("{key} is not as expected")]
    Conflict {
        /// The first key that differs.
        key: Key,
        /// What is stored there.
        current: Option<Arc<Entry>>,
    },
    /// An object is larger than the storage accepts.
    #[error("{key} has {size} bytes, more than {limit}")]
    TooLarge {
        /// The key of the object.
        key: Key,
        /// Its size.
        size: usize,
        /// The largest accepted size.
        limit: usize,
    },
    /// One key is written twice.
    #[error("{key} is written twice in one transaction")]
    Twice {
        /// Which.
        key: Key,
    },
    /// There is more in it than the store takes at once. Nothing was written.
    #[error("the transaction has {n} parts, more than {limit}")]
    TooMany {
        /// Its conditions or its writes, whichever are more.
        n: usize,
        /// The largest accepted number.
        limit: usize,
    },
    /// The store that hubs share cannot be reached. It is unknown whether the write happened.
    #[error("the store is out of reach: {reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// It did not answer in time. It is unknown whether the write happened.
    #[error("etcdserver: request timed out")]
    TimedOut,
    /// It refused, as when it is full. Nothing was written.
    #[error("{reason}")]
    Refused {
        /// In its words.
        reason: String,
    },
    /// The storage was closed, or could not make the write durable. It is unknown whether the write will be there
    /// after the next start.
    #[error("the storage is closed")]
    Closed,
}

/// Something that happened to one key.
#[derive(Clone, Debug)]
pub enum Event {
    /// It was created (`previous` is `None`) or replaced.
    Put {
        /// What is stored from then on.
        entry: Arc<Entry>,
        /// What was stored before.
        previous: Option<Arc<Entry>>,
    },
    /// It was deleted.
    Delete {
        /// Which.
        key: Key,
        /// When.
        revision: Revision,
        /// The object as it was.
        previous: Arc<Entry>,
        /// The object as it was, with the revision of its deletion as `resourceVersion`.
        last: Bytes,
    },
}

impl Event {
    /// Where it stands in history.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put { entry, .. } => entry.revision,
            Self::Delete { revision, .. } => *revision,
        }
    }

    /// What it happened to.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { entry, .. } => &entry.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// What was stored before.
    pub fn previous(&self) -> Option<&Arc<Entry>> {
        match self {
            Self::Put { previous, .. } => previous.as_ref(),
            Self::Delete { previous, .. } => Some(previous),
        }
    }
}
