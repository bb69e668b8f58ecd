//! The database itself, and our own descriptor of its file.

use std::{
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
    time::Duration,
};

use super::Options;
use crate::sync_dir;

/// An open database whose content was read once from end to end.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) db: sled::Db,
    /// For syncing.
    pub(super) file: File,
}

/// Why the database did not open.
#[derive(Debug)]
pub(super) enum Failure {
    /// The content is damaged, in the words of the database or of its panic.
    Corrupt(String),
    /// The file system refused.
    Io(io::Error),
}

/// The database of this process that was just dropped lets go of its file a little later.
const UNLOCK_TRIES: u32 = 100;
const UNLOCK_PAUSE: Duration = Duration::from_millis(20);

/// Opens the database in `dir`, reads everything, and makes its files durable.
pub(super) fn open(dir: &Path, options: Options) -> Result<Store, Failure> {
    let config = sled::Config::new()
        .path(dir)
        .mode(sled::Mode::LowSpace)
        .segment_size(options.segment_bytes)
        .cache_capacity(options.cache_bytes)
        .flush_every_ms(None);
    let mut tries = 0;
    let db = loop {
        match catch(|| config.open().and_then(|db| read_all(&db).map(|()| db))) {
            Err(err) if is_locked(&err) && tries < UNLOCK_TRIES => {
                tries += 1;
                thread::sleep(UNLOCK_PAUSE);
            }
            other => break other?,
        }
    };
    let file = make_durable(dir).map_err(Failure::Io)?;
    Ok(Store { db, file })
}

/// Runs code of the database, turning its panics into values where panics unwind.
fn catch<T>(run: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(err))) if !is_damage(&err) => Err(Failure::Io(err)),
        Ok(Err(err)) => Err(Failure::Corrupt(err.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(Failure::Corrupt(text.unwrap_or("panic").into()))
        }
    }
}

/// A short or senseless file shows as these.
fn is_damage(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotFound
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::NotADirectory
    ) || (err.raw_os_error().is_none() && !is_lock_text(err))
}

fn is_locked(failure: &Failure) -> bool {
    matches!(failure, Failure::Io(err) if is_lock_text(err))
}

fn is_lock_text(err: &io::Error) -> bool {
    err.raw_os_error().is_none() && err.to_string().contains("acquire lock")
}

fn read_all(db: &sled::Db) -> Result<(), sled::Error> {
    db.iter().try_for_each(|pair| pair.map(|_| ()))
}

fn make_durable(dir: &Path) -> io::Result<File> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_dir(dir)?;
    if let Some(parent) = dir.parent() {
        sync_dir(parent)?;
        if let Some(grandparent) = parent.parent() {
            sync_dir(grandparent)?;
        }
    }
    File::options().read(true).write(true).open(dir.join("db"))
}
