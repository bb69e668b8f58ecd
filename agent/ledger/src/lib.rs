//! What a node remembers: crash-safe local state, readable at any time, durable before it is acknowledged.
//!
//! Values are opaque here. Reads come from memory and never fail; writes go through one thread that gathers what is
//! queued and makes it durable with one sync. What must never be lost or rolled back, the [`Vital`], lies in a small
//! file of its own that survives torn writes.
//!
//! **Invariant**: what `commit` and `set_vital` acknowledged survives a power cut. Opening never refuses because of
//! corruption: it begins with what is left, and says what is gone.

#[cfg(test)]
mod fuzz;
mod table;
mod vital;
mod writer;

use std::{
    collections::BTreeMap,
    fs, io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock, mpsc},
    thread::{self, JoinHandle},
};

use agent_disk::{Disk, DualSlot, DualSlotError, SlotReport};
use tokio::sync::{oneshot, watch};

use crate::{
    table::RecordKey,
    writer::{Request, Writer},
};
pub use crate::{table::Table, vital::Vital};

/// The database holds small values, and the agent little memory.
const DISK: agent_disk::Options =
    agent_disk::Options { segment_bytes: 512 << 10, cache_bytes: 1 << 20, log_bytes: 0 };

/// One change of one key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// Creates or replaces.
    Put {
        /// Where.
        table: Table,
        /// Under which key.
        key: String,
        /// The new value.
        value: Vec<u8>,
    },
    /// Deletes; the key need not exist.
    Delete {
        /// Where.
        table: Table,
        /// Which key.
        key: String,
    },
}

/// What was found at open.
#[derive(Clone, Debug)]
pub struct OpenReport {
    /// What the disk had to heal.
    pub disk: agent_disk::OpenReport,
    /// How the vital file was.
    pub vital: SlotReport,
    /// Records that could not be read and were left out.
    pub n_unreadable: usize,
}

impl OpenReport {
    /// Whether something that was acknowledged is gone.
    pub fn lost_data(&self) -> bool {
        self.disk.lost_data() || self.vital == SlotReport::Lost || self.n_unreadable > 0
    }
}

/// Why the ledger could not be opened. Corruption is never a reason.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory could not be made.
    #[error("could not create {}", dir.display())]
    Create {
        /// The directory.
        dir: PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// The disk could not be opened.
    #[error("could not open the disk of the ledger")]
    Disk(#[source] agent_disk::OpenError),
    /// Its content could not be read.
    #[error("could not read the ledger")]
    Read(#[source] agent_disk::ReadError),
    /// The vital file could not be opened.
    #[error("could not open the vital file of the ledger")]
    Vital(#[source] DualSlotError),
    /// The writer could not be started.
    #[error("could not start the writer thread")]
    Thread(#[source] io::Error),
}

impl OpenError {
    /// Whether another process has the ledger open.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Disk(agent_disk::OpenError::InUse { .. }))
    }
}

/// Why a write is not known to be durable.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CommitError {
    /// The ledger was closed, or a write failed, now or earlier. Only opening it again shows what the disk holds.
    #[error("the ledger is closed")]
    Closed,
    /// There is no space on the disk. Nothing was written; a later try may succeed.
    #[error("the disk of the ledger is full")]
    Full,
    /// The vital record is larger than its file.
    #[error("the vital record is too large")]
    TooLarge,
}

/// The durable memory of a node. Clones share it.
#[derive(Clone, Debug)]
pub struct Ledger {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    memory: Arc<Memory>,
    queue: mpsc::Sender<Request>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Nothing comes here: the other end goes with the writer.
    ended: watch::Receiver<()>,
}

/// What is durable, for readers.
#[derive(Debug, Default)]
struct Memory {
    records: RwLock<BTreeMap<RecordKey, Arc<[u8]>>>,
    vital: RwLock<Vital>,
}

impl Ledger {
    /// Opens the ledger in `dir`, which is created if missing.
    pub fn open(dir: &Path) -> Result<(Self, OpenReport), OpenError> {
        fs::create_dir_all(dir).map_err(|err| OpenError::Create { dir: dir.into(), err })?;
        let (disk, disk_report) =
            Disk::open(&dir.join("records"), DISK).map_err(OpenError::Disk)?;
        let (slot, slot_report) =
            DualSlot::open(&dir.join("vital"), vital::CAPACITY).map_err(OpenError::Vital)?;
        let mut n_unreadable = 0;
        let mut records = BTreeMap::new();
        disk.scan(&mut |key, value| match table::decode(key, &value) {
            Some((key, value)) => {
                records.insert(key, value.into());
            }
            None => n_unreadable += 1,
        })
        .map_err(OpenError::Read)?;
        let vital = slot.value().map(Vital::decode);
        let vital_report = if vital == Some(None) { SlotReport::Lost } else { slot_report };
        let vital = vital.flatten().unwrap_or_default();
        let memory = Arc::new(Memory { records: RwLock::new(records), vital: RwLock::new(vital) });
        let report = OpenReport { disk: disk_report, vital: vital_report, n_unreadable };
        let (queue, requests) = mpsc::channel();
        let writer = Writer::new(disk, slot, memory.clone(), requests);
        let thread = thread::Builder::new().name("ledger".into());
        let (ends, ended) = watch::channel(());
        let work = move || {
            // Dropped whatever ends the writer, a panic too.
            let _ends = ends;
            writer.run();
        };
        let thread = thread.spawn(work).map_err(OpenError::Thread)?;
        let inner = Inner { memory, queue, writer: Mutex::new(Some(thread)), ended };
        Ok((Self { inner: Arc::new(inner) }, report))
    }

    /// Makes changes durable, all together or none. Later changes of a key win.
    ///
    /// The write happens even if the future is dropped.
    pub fn commit(
        &self,
        changes: Vec<Change>,
    ) -> impl Future<Output = Result<(), CommitError>> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        self.send(Request::Commit { changes, answer }, answered)
    }

    /// Makes changes durable, waiting on this thread. Not for use on an async worker.
    pub fn commit_blocking(&self, changes: Vec<Change>) -> Result<(), CommitError> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Commit { changes, answer };
        self.inner.queue.send(request).map_err(|_gone| CommitError::Closed)?;
        answered.blocking_recv().unwrap_or(Err(CommitError::Closed))
    }

    /// The value under a key.
    pub fn read(&self, table: Table, key: &str) -> Option<Vec<u8>> {
        let records = self.inner.memory.records.read().unwrap_or_else(PoisonError::into_inner);
        records.get(&(table, key.into())).map(|it| it.to_vec())
    }

    /// All keys and values of a table, in key order.
    pub fn scan(&self, table: Table) -> Vec<(String, Vec<u8>)> {
        let records = self.inner.memory.records.read().unwrap_or_else(PoisonError::into_inner);
        let from = (table, Box::default());
        let range = records.range((Bound::Included(from), Bound::Unbounded));
        let range = range.take_while(|((at, _), _)| *at == table);
        range.map(|((_, key), value)| (key.to_string(), value.to_vec())).collect()
    }

    /// What must never be lost.
    pub fn vital(&self) -> Vital {
        self.inner.memory.vital.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces what must never be lost. Durable when it returns.
    pub fn set_vital(
        &self,
        vital: Vital,
    ) -> impl Future<Output = Result<(), CommitError>> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        self.send(Request::SetVital { vital: Box::new(vital), answer }, answered)
    }

    /// Finishes what is queued, then refuses every write. Returns when the directory can be opened again.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Waits until nothing can be written any more: because the ledger was closed, or because a write failed and only
    /// opening it again shows what the disk holds. Reads go on. Cancel-safe.
    pub async fn closed(&self) {
        let mut ended = self.inner.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    fn send(
        &self,
        request: Request,
        answered: oneshot::Receiver<Result<(), CommitError>>,
    ) -> impl Future<Output = Result<(), CommitError>> + Send + use<> {
        let queued = self.inner.queue.send(request).is_ok();
        async move {
            if !queued {
                return Err(CommitError::Closed);
            }
            answered.await.unwrap_or(Err(CommitError::Closed))
        }
    }
}

impl Inner {
    fn close(&self) {
        // The writer may have gone before: then there is nothing to tell it.
        let _ = self.queue.send(Request::Close);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A panic of the writer was printed where it happened.
            let _ = writer.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
