//! Storage on the local disk: one writer thread that gathers what is queued and makes it durable with one sync.
//!
//! ```text
//! txn() -> queue -> writer: check conditions, number, stamp -> disk commit (durable) -> watch cache -> answers
//! ```
//!
//! Callers encode; the writer only copies bytes. After a failed commit nothing is acknowledged any more: the storage
//! is closed, and the next start shows what the disk really holds.

pub(crate) mod record;
mod writer;

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
};

use agent_disk::Disk;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use self::writer::{Request, Writer};
use crate::{
    Backup, CatchUpError, Committed, HistoryLimits, Revision, Sealer, Storage, Txn, TxnError,
    UnsealError, WatchCache,
};

/// Batches go to the database in pieces of about this size, in the background.
const LOG_BYTES: u64 = 4 << 20;

/// Objects that are sealed anew in one batch.
const RESEAL_BATCH: usize = 256;

/// How to open the storage.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much history is kept in memory.
    pub history: HistoryLimits,
    /// The largest object that is accepted.
    pub object_bytes: usize,
    /// Page cache of the database; the watch cache comes on top.
    pub cache_bytes: u64,
    /// Which objects are sealed on the disk, and with what. What lies there otherwise is brought in order at open.
    pub sealer: Option<Arc<Sealer>>,
}

impl Options {
    /// What the hub uses unless told otherwise.
    pub const DEFAULT: Self = Self {
        history: HistoryLimits::DEFAULT,
        object_bytes: 3 << 19,
        cache_bytes: 16 << 20,
        sealer: None,
    };
}

pub(crate) fn disk_options(cache_bytes: u64) -> agent_disk::Options {
    agent_disk::Options { segment_bytes: 8 << 20, cache_bytes, log_bytes: LOG_BYTES }
}

/// What was found at open.
#[derive(Debug)]
pub struct OpenReport {
    /// What the disk had to heal.
    pub disk: agent_disk::OpenReport,
    /// How many objects there are.
    pub n_entries: usize,
    /// Records that could not be read and were left out.
    pub n_unreadable: usize,
    /// How many objects were sealed anew, or no longer.
    pub n_resealed: usize,
    /// Whether this is a new history: the first start, or something was lost.
    pub new_epoch: bool,
}

/// Why the storage could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk could not be opened.
    #[error("could not open the disk of the storage")]
    Disk(#[source] agent_disk::OpenError),
    /// Its content could not be read.
    #[error("could not read the storage")]
    Read(#[source] agent_disk::ReadError),
    /// The first record could not be written.
    #[error("could not write to the storage")]
    Commit(#[source] agent_disk::CommitError),
    /// The data was written by a later version of this program.
    #[error("the storage has format {found}, this program knows {known}")]
    Format {
        /// The format on the disk.
        found: u8,
        /// The newest format that can be read.
        known: u8,
    },
    /// An object cannot be read without the right key. Nothing was changed.
    #[error("could not open {key}")]
    Sealed {
        /// The object.
        key: String,
        /// Why.
        #[source]
        err: UnsealError,
    },
    /// The writer could not be started.
    #[error("could not start the writer thread")]
    Thread(#[source] std::io::Error),
}

/// Identity of one history: drawn at its beginning, and anew when a part of it was lost.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StorageEpoch(u128);

impl StorageEpoch {
    /// The epoch with this number.
    pub const fn new(number: u128) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u128 {
        self.0
    }

    pub(crate) fn draw() -> Self {
        Self(uuid::Uuid::new_v4().as_u128())
    }
}

impl fmt::Display for StorageEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for StorageEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Storage in a directory of its own.
#[derive(Debug)]
pub struct SledStorage {
    cache: Arc<WatchCache>,
    epoch: StorageEpoch,
    sealer: Option<Arc<Sealer>>,
    object_bytes: usize,
    queue: mpsc::Sender<Request>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SledStorage {
    /// Opens the storage in `dir`, which is created if missing. Heals what can be healed, and says so.
    pub fn open(dir: &Path, options: Options) -> Result<(Arc<Self>, OpenReport), OpenError> {
        let opened = Disk::open(dir, disk_options(options.cache_bytes));
        let (mut disk, disk_report) = opened.map_err(OpenError::Disk)?;
        let sealer = options.sealer.clone();
        let loaded = record::load(&disk, sealer.as_deref())?;
        let lost = disk_report.lost_data() || loaded.n_unreadable > 0;
        let known = loaded.epoch.filter(|_| !lost);
        let epoch = known.unwrap_or_else(StorageEpoch::draw);
        if known.is_none() {
            disk.commit(record::founding(epoch, loaded.revision)).map_err(OpenError::Commit)?;
        }
        reseal(&mut disk, &loaded, sealer.as_deref()).map_err(OpenError::Commit)?;
        let report = OpenReport {
            disk: disk_report,
            n_resealed: loaded.to_reseal.len(),
            n_entries: loaded.entries.len(),
            n_unreadable: loaded.n_unreadable,
            new_epoch: known.is_none(),
        };
        let cache = WatchCache::new(loaded.entries, loaded.revision, options.history);
        let cache = Arc::new(cache);
        let (queue, requests) = mpsc::channel();
        let writer = Writer::new(disk, cache.clone(), requests, sealer.clone());
        let thread = std::thread::Builder::new().name("storage".into());
        let thread = thread.spawn(move || writer.run()).map_err(OpenError::Thread)?;
        let storage = Self {
            cache,
            epoch,
            sealer,
            object_bytes: options.object_bytes,
            queue,
            writer: Mutex::new(Some(thread)),
        };
        Ok((Arc::new(storage), report))
    }

    /// Finishes what is queued, then refuses everything. Returns when the directory can be opened again.
    pub fn close(&self) {
        // The writer may have gone before: then there is nothing to tell it.
        let _ = self.queue.send(Request::Close);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A panic of the writer was printed where it happened.
            let _ = writer.join();
        }
    }
}

/// Copies the storage in `dir` into a fresh file, and seals what is to be sealed: nothing is left of what objects were
/// before. Nobody may have it open.
///
/// # Errors
/// It cannot be opened, read or written; then it is as it was.
pub fn rewrite(dir: &Path, options: Options) -> Result<OpenReport, OpenError> {
    let disk_options = disk_options(options.cache_bytes);
    let (storage, report) = SledStorage::open(dir, options)?;
    storage.close();
    drop(storage);
    Disk::rewrite(dir, disk_options).map_err(OpenError::Disk)?;
    Ok(report)
}

/// Writes again what is not sealed as it should be. Revisions stay: to readers nothing changes.
fn reseal(
    disk: &mut Disk,
    loaded: &record::Loaded,
    sealer: Option<&Sealer>,
) -> Result<(), agent_disk::CommitError> {
    for some in loaded.to_reseal.chunks(RESEAL_BATCH) {
        let mut batch = agent_disk::Batch::default();
        for entry in some.iter().filter_map(|index| loaded.entries.get(*index)) {
            record::put(&mut batch, entry, sealer);
        }
        disk.commit(batch)?;
    }
    Ok(())
}

impl Drop for SledStorage {
    fn drop(&mut self) {
        self.close();
    }
}

impl Storage for SledStorage {
    fn cache(&self) -> &Arc<WatchCache> {
        &self.cache
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'static, Result<Committed, TxnError>> {
        let checked = txn.check(self.object_bytes);
        let (answer, answered) = oneshot::channel();
        let queued = checked.and_then(|()| {
            self.queue.send(Request::Txn { txn, answer }).map_err(|_gone| TxnError::Closed)
        });
        Box::pin(async move {
            queued?;
            answered.await.unwrap_or(Err(TxnError::Closed))
        })
    }

    fn catch_up(&self) -> BoxFuture<'static, Result<Revision, CatchUpError>> {
        // There is nobody else who writes here.
        Box::pin(std::future::ready(Ok(self.cache.revision())))
    }

    fn epoch(&self) -> StorageEpoch {
        self.epoch
    }

    fn backup(&self, files: &[(String, Vec<u8>)]) -> Backup {
        let (entries, revision) = self.cache.snapshot();
        Backup::new(entries, revision, self.sealer.clone(), files)
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.close() })
    }
}

#[cfg(test)]
mod tests;
