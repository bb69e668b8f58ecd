//! The one thread that writes. It decides conflicts in memory, against what is stored and what the batch at hand has
//! already changed, and answers nobody before the batch is durable.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, mpsc},
};

use agent_disk::{Batch, Disk};
use tokio::sync::oneshot;

use super::record;
use crate::{
    Committed, Condition, Entry, Event, Key, Revision, Sealer, Txn, TxnError, WatchCache, Write,
};

/// A batch ends at so many transactions or bytes, so that the first in it does not wait too long.
const BATCH_TXNS: usize = 1024;
const BATCH_BYTES: usize = 4 << 20;

type Answer = oneshot::Sender<Result<Committed, TxnError>>;

/// What is asked of the writer.
pub(super) enum Request {
    Txn { txn: Txn, answer: Answer },
    Close,
}

pub(super) struct Writer {
    disk: Disk,
    cache: Arc<WatchCache>,
    requests: mpsc::Receiver<Request>,
    sealer: Option<Arc<Sealer>>,
    staged: Staged,
}

/// A batch in the making.
#[derive(Default)]
struct Staged {
    /// What the batch changes, seen by later transactions of the same batch.
    overlay: BTreeMap<Key, Option<Arc<Entry>>>,
    events: Vec<Event>,
    disk: Batch,
    answers: Vec<(Answer, Result<Committed, TxnError>)>,
    bytes: usize,
    revision: Revision,
}

impl Writer {
    pub(super) fn new(
        disk: Disk,
        cache: Arc<WatchCache>,
        requests: mpsc::Receiver<Request>,
        sealer: Option<Arc<Sealer>>,
    ) -> Self {
        let staged = Staged { revision: cache.revision(), ..Staged::default() };
        Self { disk, cache, requests, sealer, staged }
    }

    /// Serves until closed, or until the disk fails.
    pub(super) fn run(mut self) {
        loop {
            let open = self.gather();
            let Err(err) = self.commit() else { if open { continue } else { break } };
            if err.is_full() && open {
                // Nothing was written; numbers go on from what is visible.
                tracing::warn!(error = %err, cause = ?err, "Could not write to the storage");
                self.staged.revision = self.cache.revision();
            } else {
                tracing::error!(error = %err, cause = ?err, "Closed the storage after a failed commit");
                break;
            }
        }
        self.cache.close();
    }

    /// Waits for one transaction and takes all that came with it. `false` when there will be no more.
    fn gather(&mut self) -> bool {
        let Ok(first) = self.requests.recv() else { return false };
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Txn { txn, answer } => {
                    let result = self.staged.stage(&self.cache, self.sealer.as_deref(), txn);
                    self.staged.answers.push((answer, result));
                }
                Request::Close => return false,
            }
            let full = self.staged.answers.len() >= BATCH_TXNS || self.staged.bytes >= BATCH_BYTES;
            next = if full { None } else { self.requests.try_recv().ok() };
        }
        true
    }

    fn commit(&mut self) -> Result<(), agent_disk::CommitError> {
        let fresh = Staged { revision: self.staged.revision, ..Staged::default() };
        let mut staged = mem::replace(&mut self.staged, fresh);
        if !staged.events.is_empty() {
            record::reached(&mut staged.disk, staged.revision);
            // On failure the answers are dropped, which tells the callers `Closed`.
            self.disk.commit(staged.disk)?;
            self.cache.publish(staged.events);
        }
        for (answer, result) in staged.answers {
            // The caller may have gone; the write stands.
            let _ = answer.send(result);
        }
        Ok(())
    }
}

impl Staged {
    fn stage(
        &mut self,
        cache: &WatchCache,
        sealer: Option<&Sealer>,
        txn: Txn,
    ) -> Result<Committed, TxnError> {
        for condition in &txn.conditions {
            self.check(cache, condition)?;
        }
        self.check_deletes(cache, &txn.writes)?;
        let mut entries = Vec::new();
        for write in txn.writes {
            self.revision = self.revision.next();
            match write {
                Write::Put(key, body) => {
                    let previous = self.current(cache, &key);
                    let created = previous.as_ref().map_or(self.revision, |it| it.created);
                    let entry = Entry::written(key, self.revision, created, &body);
                    self.bytes += entry.bytes.len();
                    record::put(&mut self.disk, &entry, sealer);
                    self.overlay.insert(entry.key.clone(), Some(entry.clone()));
                    entries.push(entry.clone());
                    self.events.push(Event::Put { entry, previous });
                }
                Write::Delete(key) => self.delete(cache, key),
            }
        }
        Ok(Committed { revision: self.revision, entries })
    }

    fn delete(&mut self, cache: &WatchCache, key: Key) {
        let previous = self.current(cache, &key).expect("checked before the first write");
        let (revision, last) = (self.revision, previous.stamped(self.revision));
        record::delete(&mut self.disk, &key);
        self.overlay.insert(key.clone(), None);
        self.events.push(Event::Delete { key, revision, previous, last });
    }

    fn check(&self, cache: &WatchCache, condition: &Condition) -> Result<(), TxnError> {
        let (key, wanted) = match condition {
            Condition::Absent(key) => (key, None),
            Condition::Unchanged(key, revision) => (key, Some(*revision)),
        };
        let current = self.current(cache, key);
        if current.as_ref().map(|it| it.revision) == wanted {
            return Ok(());
        }
        Err(TxnError::Conflict { key: key.clone(), current })
    }

    /// Walks through the writes to see whether each deletion will find its key.
    fn check_deletes(&self, cache: &WatchCache, writes: &[Write]) -> Result<(), TxnError> {
        let mut exists: BTreeMap<&Key, bool> = BTreeMap::new();
        for write in writes {
            match write {
                Write::Put(key, _) => {
                    exists.insert(key, true);
                }
                Write::Delete(key) => {
                    let known = exists.insert(key, false);
                    if !known.unwrap_or_else(|| self.current(cache, key).is_some()) {
                        return Err(TxnError::Conflict { key: key.clone(), current: None });
                    }
                }
            }
        }
        Ok(())
    }

    fn current(&self, cache: &WatchCache, key: &Key) -> Option<Arc<Entry>> {
        self.overlay.get(key).cloned().unwrap_or_else(|| cache.get(key))
    }
}
