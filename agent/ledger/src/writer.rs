//! The one thread that writes, so that many callers share one sync.

use std::{
    mem,
    sync::{Arc, PoisonError, mpsc},
};

use agent_disk::{Batch, Disk, DualSlot, DualSlotError};
use tokio::sync::oneshot;

use crate::{Change, CommitError, Memory, Vital, table};

/// A batch ends at so many requests, so that the first in it does not wait too long.
const BATCH: usize = 256;

type Answer = oneshot::Sender<Result<(), CommitError>>;

pub(crate) enum Request {
    Commit { changes: Vec<Change>, answer: Answer },
    SetVital { vital: Box<Vital>, answer: Answer },
    Close,
}

pub(crate) struct Writer {
    disk: Disk,
    slot: DualSlot,
    memory: Arc<Memory>,
    requests: mpsc::Receiver<Request>,
    batch: Batch,
    changes: Vec<Change>,
    answers: Vec<Answer>,
}

/// The ledger is over: asked for, or after a failure that was logged.
struct Over;

impl Writer {
    pub(crate) fn new(
        disk: Disk,
        slot: DualSlot,
        memory: Arc<Memory>,
        requests: mpsc::Receiver<Request>,
    ) -> Self {
        let (batch, changes, answers) = (Batch::default(), Vec::new(), Vec::new());
        Self { disk, slot, memory, requests, batch, changes, answers }
    }

    /// Serves until closed, or until a write fails. Answers that are not given tell their callers `Closed`.
    pub(crate) fn run(mut self) {
        while let Ok(first) = self.requests.recv() {
            let mut next = Some(first);
            while let Some(request) = next {
                if self.handle(request).is_err() {
                    return;
                }
                let full = self.answers.len() >= BATCH;
                next = if full { None } else { self.requests.try_recv().ok() };
            }
            if self.flush().is_err() {
                return;
            }
        }
    }

    fn handle(&mut self, request: Request) -> Result<(), Over> {
        match request {
            Request::Commit { changes, answer } => {
                for change in &changes {
                    match change {
                        Change::Put { table, key, value } => {
                            let key = table::disk_key(*table, key);
                            self.batch.put(key, table::disk_value(value));
                        }
                        Change::Delete { table, key } => {
                            self.batch.delete(table::disk_key(*table, key));
                        }
                    }
                }
                self.changes.extend(changes);
                self.answers.push(answer);
                Ok(())
            }
            Request::SetVital { vital, answer } => {
                // In the order of the calls: what was committed before is durable before.
                self.flush()?;
                self.set_vital(*vital, answer)
            }
            Request::Close => {
                self.flush()?;
                Err(Over)
            }
        }
    }

    fn flush(&mut self) -> Result<(), Over> {
        let batch = mem::take(&mut self.batch);
        if let Err(err) = self.disk.commit(batch) {
            if err.is_full() {
                tracing::warn!(error = %err, cause = ?err, "Could not write to the ledger");
                self.changes.clear();
                for answer in self.answers.drain(..) {
                    // The caller may have gone.
                    let _ = answer.send(Err(CommitError::Full));
                }
                return Ok(());
            }
            tracing::error!(error = %err, cause = ?err, "Closed the ledger after a failed commit");
            return Err(Over);
        }
        let mut records = self.memory.records.write().unwrap_or_else(PoisonError::into_inner);
        for change in self.changes.drain(..) {
            match change {
                Change::Put { table, key, value } => {
                    records.insert((table, key.into()), value.into())
                }
                Change::Delete { table, key } => records.remove(&(table, key.into())),
            };
        }
        drop(records);
        for answer in self.answers.drain(..) {
            // The caller may have gone; the write stands.
            let _ = answer.send(Ok(()));
        }
        Ok(())
    }

    fn set_vital(&mut self, vital: Vital, answer: Answer) -> Result<(), Over> {
        let result = match self.slot.set(&vital.encode()) {
            Ok(()) => {
                *self.memory.vital.write().unwrap_or_else(PoisonError::into_inner) = vital;
                Ok(())
            }
            Err(DualSlotError::TooLarge { .. }) => Err(CommitError::TooLarge),
            Err(err) => {
                tracing::error!(error = %err, cause = ?err, "Closed the ledger after a failed write");
                return Err(Over);
            }
        };
        // The caller may have gone; the write stands.
        let _ = answer.send(result);
        Ok(())
    }
}
