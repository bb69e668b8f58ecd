//! A key-value store in a directory: batches are atomic and durable, opening heals.
//!
//! ```text
//! dir/lock        held while open
//! dir/opening     one byte for each open that was begun and not finished: an abort inside does not repeat for ever
//! dir/store/      the database
//! dir/reserve     space kept back for a full file system
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
mod reserve;
mod rewrite;
mod store;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

pub use self::heal::{Healing, OpenReport};
use self::{floor::Floor, records::Records, reserve::Reserve, store::Store};

/// How to open a disk. The segment size is that of its creation for all its life.
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

impl OpenError {
    fn is_full(&self) -> bool {
        matches!(self, Self::Io { err, .. } if reserve::is_full(err))
    }
}

/// Why a batch is not known to be durable. Unless it [is for want of space](Self::is_full), the disk is closed from
/// then on.
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
    /// There was no space, and the database could not be opened again with what had been kept back.
    #[error("could not recover the database in {}", dir.display())]
    Recover {
        /// The directory of the disk.
        dir: PathBuf,
        /// Why.
        #[source]
        err: Box<OpenError>,
    },
    /// An earlier commit failed.
    #[error("{} was closed by an earlier failure", dir.display())]
    Closed {
        /// The directory of the disk.
        dir: PathBuf,
    },
}

impl CommitError {
    /// Whether there is no space. The batch is not there, what was there before still is, and the next commit may
    /// succeed when space was made.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Database { err: sled::Error::Io(err), .. } | Self::Sync { err, .. } => {
                reserve::is_full(err)
            }
            Self::Recover { err, .. } => err.is_full(),
            Self::Database { .. } | Self::Closed { .. } => false,
        }
    }
}

/// The database could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database refused.
    #[error("could not read the database in {}", dir.display())]
    Database {
        /// The directory of the disk.
        dir: PathBuf,
        /// Why.
        #[source]
        err: sled::Error,
    },
    /// An earlier commit failed.
    #[error("{} was closed by an earlier failure", dir.display())]
    Closed {
        /// The directory of the disk.
        dir: PathBuf,
    },
}

/// A durable key-value store with one writer.
#[derive(Debug)]
pub struct Disk {
    // Fields drop in order: the database before the lock.
    state: State,
    records: Records,
    /// How many batches are known to be durable.
    n_durable: u64,
    floor: Floor,
    reserve: Reserve,
    options: Options,
    dir: PathBuf,
    _lock: File,
}

#[derive(Debug)]
enum State {
    Open(Store),
    /// There was no space; the next commit opens again.
    Full,
    /// A commit failed otherwise.
    Closed,
}

impl Disk {
    /// Opens the disk in `dir`, which is created if missing.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, OpenReport), OpenError> {
        let io_error = |err| OpenError::Io { path: dir.into(), err };
        fs::create_dir_all(dir).map_err(io_error)?;
        // Secrets lie in it, whatever the umask and the directories above.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(io_error)?;
        let lock = lock(dir)?;
        let mut report = OpenReport::default();
        let reserve = Reserve::new(dir, options.segment_bytes);
        let mut opened = open_store(dir, options, &mut report);
        if opened.as_ref().is_err_and(OpenError::is_full) && reserve.free() {
            opened = open_store(dir, options, &mut report);
        }
        let (store, records) = opened?;
        let mut floor = Floor::open(dir);
        if floor.is_above(&records) && !report.lost_data() {
            report.healed.push(Healing::LostWrites { n_values: records.n_values() });
        }
        let (store, records) = match rewrite::wanted(&store, &records, &report) {
            Some(why) => rewrite::rewrite(dir, (store, records), options, why, &mut report)?,
            None => (store, records),
        };
        floor.raise(&records);
        reserve.fill();
        let disk = Self {
            state: State::Open(store),
            n_durable: records.n_batches(),
            records,
            floor,
            reserve,
            options,
            dir: dir.into(),
            _lock: lock,
        };
        Ok((disk, report))
    }

    /// Makes a batch durable. After an error that is not for want of space the disk is closed: whether the batch is
    /// there shows at the next open.
    pub fn commit(&mut self, batch: Batch) -> Result<(), CommitError> {
        let closed = CommitError::Closed { dir: self.dir.clone() };
        let written = match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => Err(closed),
            State::Open(store) if batch.is_empty() => {
                self.state = State::Open(store);
                return Ok(());
            }
            State::Open(store) => {
                let records = self.records.encode(&batch);
                match write(&store, records, &self.dir) {
                    Ok(()) => Ok(store),
                    Err(err) if err.is_full() => {
                        drop(store);
                        let helped = self.reserve.free();
                        tracing::warn!(dir = %self.dir.display(), helped, "Ran out of disk space");
                        if helped { self.recover(&batch) } else { Err(err) }
                    }
                    Err(err) => Err(err),
                }
            }
            State::Full => self.recover(&batch),
        };
        match written {
            Ok(store) => {
                self.state = State::Open(store);
                self.n_durable = self.records.n_batches();
            }
            Err(err) => {
                if err.is_full() {
                    self.state = State::Full;
                }
                return Err(err);
            }
        }
        if self.floor.follow(&self.records) {
            self.reserve.fill();
        }
        Ok(())
    }

    /// Visits every key and value, in no promised order.
    pub fn scan(&self, visit: &mut dyn FnMut(&[u8], Vec<u8>)) -> Result<(), ReadError> {
        let State::Open(store) = &self.state else {
            return Err(ReadError::Closed { dir: self.dir.clone() });
        };
        records::scan(&store.db, visit)
            .map_err(|err| ReadError::Database { dir: self.dir.clone(), err })
    }

    /// Opens the database again after it ran out of space, which it takes as its end, and writes the batch. All that
    /// was acknowledged must be there.
    fn recover(&mut self, batch: &Batch) -> Result<Store, CommitError> {
        let mut report = OpenReport::default();
        let opened = open_store(&self.dir, self.options, &mut report);
        let (store, records) = opened
            .map_err(|err| CommitError::Recover { dir: self.dir.clone(), err: err.into() })?;
        if report.damaged() || report.lost_data() || records.n_batches() < self.n_durable {
            return Err(CommitError::Closed { dir: self.dir.clone() });
        }
        self.records = records;
        let again = self.records.encode(batch);
        write(&store, again, &self.dir)?;
        Ok(store)
    }
}

fn open_store(
    dir: &Path,
    options: Options,
    report: &mut OpenReport,
) -> Result<(Store, Records), OpenError> {
    let io_error = |err| OpenError::Io { path: dir.into(), err };
    rewrite::finish(dir).map_err(io_error)?;
    let (store, records) = heal::open(dir, options, report)?;
    let intact = store.headers_intact(&dir.join("store"));
    if !intact.map_err(io_error)? {
        report.healed.push(Healing::FoundDamage);
    }
    Ok((store, records))
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
