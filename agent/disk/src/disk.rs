//! A key-value store in a directory: batches are atomic and durable, opening heals.
//!
//! ```text
//! dir/lock        held while open
//! dir/opening     one byte for each open that was begun and not finished: an abort inside does not repeat for ever
//! dir/store/      the database
//! dir/reserve     space kept back for a full file system
//! dir/floor       number of batches that were there at the last open: a store that has fewer has lost some
//! dir/store.new/  a fresh copy of it in the making
//! dir/log-0, -1   batches that the database does not have yet, where there is a log
//! dir/broken-N/   a database that could not be opened, kept for inspection
//! ```
//!
//! sled underneath has traps, which this module must hide: `flush` alone does not survive a power cut, a leftover
//! snapshot blocks opening, large values leak space, and its file never shrinks.

mod floor;
mod heal;
mod log;
mod logged;
mod records;
mod reserve;
mod rewrite;
mod store;
mod tree;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

pub use self::heal::{Healing, OpenReport};
use self::{floor::Floor, logged::Logged, tree::Tree};

/// How to open a disk. The segment size is that of its creation for all its life.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size of the units in which the database file grows and is collected; a power of two, at most 16 MiB.
    pub segment_bytes: usize,
    /// Memory for pages.
    pub cache_bytes: u64,
    /// Batches go to a log of about this size first, and to the database in the background: a commit is one
    /// sequential write and one sync. Zero for few and small writes, which then go to the database at once.
    pub log_bytes: u64,
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
    /// What the log holds could not be brought into the database.
    #[error("could not apply the log in {}", dir.display())]
    Replay {
        /// The directory.
        dir: PathBuf,
        /// Why.
        #[source]
        err: CommitError,
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
        match self {
            Self::Io { err, .. } => reserve::is_full(err),
            Self::Replay { err, .. } => err.is_full(),
            Self::InUse { .. } | Self::Database { .. } => false,
        }
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
    /// The log is full, and the database has no space for what is in it.
    #[error("no space for the log in {}", dir.display())]
    NoSpace {
        /// The directory of the disk.
        dir: PathBuf,
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
            Self::NoSpace { .. } => true,
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
    inner: Inner,
    floor: Floor,
    _lock: File,
}

#[derive(Debug)]
enum Inner {
    Direct(Tree),
    Logged(Logged),
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
        let mut tree = Tree::open(dir, options, &mut report)?;
        // Also where no log is wanted: one may have been there.
        logged::replay(dir, &mut tree, &mut report)?;
        let mut floor = Floor::open(dir);
        if floor.is_above(tree.number()) && !report.lost_data() {
            report.healed.push(Healing::LostWrites { n_values: tree.n_values() });
        }
        tree.rewrite_if_wanted(&mut report)?;
        floor.raise(tree.number());
        tree.fill_reserve();
        let inner = if options.log_bytes == 0 {
            log::remove(dir).map_err(io_error)?;
            Inner::Direct(tree)
        } else {
            Inner::Logged(Logged::start(dir, tree, options.log_bytes)?)
        };
        Ok((Self { inner, floor, _lock: lock }, report))
    }

    /// Copies everything into a fresh database. Of values that were replaced nothing is left but what the file system
    /// keeps of removed files.
    pub fn rewrite(dir: &Path, options: Options) -> Result<(), OpenError> {
        let io_error = |err| OpenError::Io { path: dir.into(), err };
        let _lock = lock(dir)?;
        let mut report = OpenReport::default();
        let mut tree = Tree::open(dir, options, &mut report)?;
        logged::replay(dir, &mut tree, &mut report)?;
        let mut floor = Floor::open(dir);
        if report.damaged() || floor.is_above(tree.number()) {
            // An ordinary open heals it, and tells.
            return Ok(());
        }
        tree.rewrite(rewrite::Why::Asked, &mut report)?;
        log::remove(dir).map_err(io_error)?;
        floor.raise(tree.number());
        Ok(())
    }

    /// Makes a batch durable. After an error that is not for want of space the disk is closed: whether the batch is
    /// there shows at the next open.
    pub fn commit(&mut self, batch: Batch) -> Result<(), CommitError> {
        let number = match &mut self.inner {
            Inner::Direct(tree) => {
                tree.commit(&batch, None)?;
                tree.number()
            }
            Inner::Logged(logged) => logged.commit(batch)?,
        };
        if self.floor.follow(number)
            && let Inner::Direct(tree) = &self.inner
        {
            tree.fill_reserve();
        }
        Ok(())
    }

    /// Visits every key and value, in no promised order.
    pub fn scan(&self, visit: &mut dyn FnMut(&[u8], Vec<u8>)) -> Result<(), ReadError> {
        match &self.inner {
            Inner::Direct(tree) => tree.scan(visit),
            Inner::Logged(logged) => logged.scan(visit),
        }
    }
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
mod fuzz;
#[cfg(test)]
mod tests;
