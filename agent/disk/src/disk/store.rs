//! The database itself, and our own descriptor of its file.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
    time::Duration,
};

use super::{Options, records::Records};
use crate::sync_dir;

/// An open database whose content was read once from end to end.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) db: sled::Db,
    /// For syncing.
    pub(super) file: File,
    segment_bytes: usize,
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

/// Opens the database in `dir`, reads everything, and makes its files durable. Also tells whether the content is what
/// the last batch left.
pub(super) fn open(dir: &Path, options: Options) -> Result<(Store, Records, bool), Failure> {
    let segment_bytes = existing_segment_bytes(dir).unwrap_or(options.segment_bytes);
    let config = sled::Config::new()
        .path(dir)
        .mode(sled::Mode::LowSpace)
        .segment_size(segment_bytes)
        .cache_capacity(options.cache_bytes)
        .flush_every_ms(None);
    let fresh = !(dir.join("db").exists() && dir.join("conf").exists());
    let mut tries = 0;
    let (db, records, intact) = loop {
        let attempt = || {
            let db = config.open()?;
            let mut records = Records::new(segment_bytes);
            let intact = records.load(&db)?;
            Ok((db, records, intact))
        };
        match catch(attempt) {
            Err(err) if is_locked(&err) && tries < UNLOCK_TRIES => {
                tries += 1;
                thread::sleep(UNLOCK_PAUSE);
            }
            other => break other?,
        }
    };
    let file = make_durable(dir, fresh).map_err(Failure::Io)?;
    Ok((Store { db, file, segment_bytes }, records, intact))
}

/// The segment size with which a database was made, whatever would be chosen today: opened with another, its log is
/// nonsense.
fn existing_segment_bytes(dir: &Path) -> Option<usize> {
    let conf = fs::read(dir.join("conf")).ok()?;
    let text = String::from_utf8_lossy(&conf);
    let value = text.lines().find_map(|line| line.strip_prefix("segment_size: "))?;
    value.parse().ok().filter(|it: &usize| it.is_power_of_two())
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

/// How a segment of the log begins: checksum u32 | position in the log, inverted u63 | another position u64.
const HEADER_BYTES: usize = 20;

impl Store {
    /// Whether every segment of the log begins as it should, and the one that is written to is there. The database
    /// looks at some of them only when it replays the log, and then gives up the rest of it, with all that was
    /// written since.
    pub(super) fn headers_intact(&self, dir: &Path) -> io::Result<bool> {
        let step = u64::try_from(self.segment_bytes).unwrap_or(u64::MAX);
        let len = self.file.metadata()?.len();
        let mut positions = BTreeSet::new();
        let mut at = 0;
        while at + 20 <= len {
            let mut header = [0; HEADER_BYTES];
            self.file.read_exact_at(&mut header, at)?;
            let unused = header.iter().all(|byte| *byte == header[0]);
            let position = position(&header);
            if !unused && position.is_none() {
                return Ok(false);
            }
            positions.extend(position);
            at += step;
        }
        let Some(stable) = newest_snapshot(dir)? else { return Ok(true) };
        // The next segment may not have been begun yet.
        let begun = stable % step > 20 && (stable + 1) % step != 0;
        Ok(!begun || positions.contains(&(stable / step * step)))
    }
}

fn position(header: &[u8; HEADER_BYTES]) -> Option<u64> {
    let (checksum, rest) = header.split_at(4);
    let position = u64::from_le_bytes(rest.get(..8)?.try_into().ok()?);
    let intact = checksum == (crc32fast::hash(rest) ^ u32::MAX).to_le_bytes();
    intact.then_some(position ^ (u64::MAX >> 1))
}

/// The position in the log that the newest snapshot covers; it stands in the file name.
fn newest_snapshot(dir: &Path) -> io::Result<Option<u64>> {
    let mut newest = None;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let position = name.to_str().and_then(|it| it.strip_prefix("snap."));
        newest = newest.max(position.and_then(|it| u64::from_str_radix(it, 16).ok()));
    }
    Ok(newest)
}

/// What can be read must not be lost any more, also what an earlier process wrote and had no time to sync.
fn make_durable(dir: &Path, fresh: bool) -> io::Result<File> {
    let file = File::options().read(true).write(true).open(dir.join("db"))?;
    file.sync_all()?;
    if fresh {
        File::open(dir.join("conf"))?.sync_all()?;
        for dir in dir.ancestors().take(3).filter(|it| !it.as_os_str().is_empty()) {
            sync_dir(dir)?;
        }
    }
    Ok(file)
}
