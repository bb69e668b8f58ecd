//! A key-value store in a directory: batches are atomic and durable, opening heals.
//!
//! ```text
//! dir/lock        held while open
//! dir/opening     one byte for each open that was begun and not finished: an abort inside does not repeat for ever
//! dir/store/      the database
//! dir/floor       number of batches that were there at the last open: a store that has fewer has lost some
//! dir/store.new/  a fresh copy of it in the making
//! dir/broken-N/   a database that could not be opened, kept for inspection
//! ```
//!
//! sled underneath has traps, which this module must hide: `flush` alone does not survive a power cut, a leftover
//! snapshot blocks opening, large values leak space, and its file never shrinks.

mod floor;
mod heal;
mod records;
mod rewrite;
mod store;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

pub use self::heal::{Healing, OpenReport};
use self::{floor::Floor, records::Records, store::Store};

/// How to open a disk. The segment size must not change during its life.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size of the units in which the database file grows and is collected; a power of two, at most 16 MiB.
    pub segment_bytes: usize,
    /// Memory for pages.
    pub cache_bytes: u64,
}

/// Changes that become durable together or not at all. Later changes of a key win.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// Creates or replaces a value.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push((key, Some(value)));
    }

    /// Deletes a key; it need not exist.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.changes.push((key, None));
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Why a disk could not be opened. Corruption is never a reason.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another `Disk` of this one, has it open.
    #[error("{} is in use", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The file system refuses: no space, no permission, read-only.
    #[error("could not use {}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// Not even an empty database could be opened.
    #[error("could not open the database in {}", dir.display())]
    Database {
        /// The directory.
        dir: PathBuf,
        /// Why.
        #[source]
        err: sled::Error,
    },
}

/// Why a batch is not known to be durable. The disk is closed from then on.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The database refused.
    #[error("could not write to the database in {}", dir.display())]
    Database {
        /// The directory of the disk.
        dir: PathBuf,
        /// Why.
        #[source]
        err: sled::Error,
    },
    /// The database file could not be synced.
    #[error("could not sync the database in {}", dir.display())]
    Sync {
        /// The directory of the disk.
        dir: PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// An earlier commit failed.
    #[error("{} was closed by an earlier failure", dir.display())]
    Closed {
        /// The directory of the disk.
        dir: PathBuf,
    },
}

/// The database could not be read.
#[derive(Debug, thiserror::Error)]
#[error("could not read the database in {}", dir.display())]
pub struct ReadError {
    dir: PathBuf,
    #[source]
    err: sled::Error,
}

/// A durable key-value store with one writer.
#[derive(Debug)]
pub struct Disk {
    // Fields drop in order: the database before the lock.
    store: Store,
    records: Records,
    floor: Floor,
    dir: PathBuf,
    closed: bool,
    _lock: File,
}

impl Disk {
    /// Opens the disk in `dir`, which is created if missing.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, OpenReport), OpenError> {
        let io_error = |path: &Path| {
            let path = path.to_path_buf();
            |err| OpenError::Io { path, err }
        };
        fs::create_dir_all(dir).map_err(io_error(dir))?;
        let lock = lock(dir)?;
        let mut report = OpenReport::default();
        rewrite::finish(dir).map_err(io_error(dir))?;
        let floor = Floor::open(dir);
        let (store, records) = heal::open(dir, options, &mut report)?;
        let intact = store.headers_intact(&dir.join("store"), options.segment_bytes);
        if !intact.map_err(io_error(dir))? {
            report.healed.push(Healing::FoundDamage);
        }
        if floor.is_above(&records) && !report.lost_data() {
            report.healed.push(Healing::LostWrites { n_values: records.n_values() });
        }
        let mut disk = Self { store, records, floor, dir: dir.into(), closed: false, _lock: lock };
        if let Some(why) = disk.rewrite_wanted(&report) {
            disk = disk.rewrite(options, why, &mut report)?;
        }
        disk.floor.raise(&disk.records);
        Ok((disk, report))
    }

    /// Makes a batch durable. After an error the disk is closed: whether the batch is there shows at the next open.
    pub fn commit(&mut self, batch: Batch) -> Result<(), CommitError> {
        if self.closed {
            return Err(CommitError::Closed { dir: self.dir.clone() });
        }
        if batch.is_empty() {
            return Ok(());
        }
        let written = write(&self.store, self.records.encode(batch), &self.dir);
        self.closed = written.is_err();
        if written.is_ok() {
            self.floor.follow(&self.records);
        }
        written
    }

    /// Visits every key and value, in no promised order.
    pub fn scan(&self, visit: &mut dyn FnMut(&[u8], Vec<u8>)) -> Result<(), ReadError> {
        records::scan(&self.store.db, visit).map_err(|err| ReadError { dir: self.dir.clone(), err })
    }
}

fn write(store: &Store, batch: sled::Batch, dir: &Path) -> Result<(), CommitError> {
    let database = |err| CommitError::Database { dir: dir.into(), err };
    store.db.apply_batch(batch).map_err(database)?;
    store.db.flush().map_err(database)?;
    // `flush` only starts the writing of pages; what a power cut respects is this.
    store.file.sync_data().map_err(|err| CommitError::Sync { dir: dir.into(), err })
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let lock = File::create(&path).map_err(|err| OpenError::Io { path: path.clone(), err })?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.into() }),
        Err(fs::TryLockError::Error(err)) => Err(OpenError::Io { path, err }),
    }
}

#[cfg(test)]
mod tests;
