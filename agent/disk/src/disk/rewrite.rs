//! Copying a database into a fresh one: the old is damaged in ways it may not know, or has grown far beyond what it
//! holds (its file never shrinks).
//!
//! ```text
//! write store.new, durably -> store becomes broken-N (or goes away) -> store.new becomes store
//! ```
//! Cut anywhere, the next open finds a whole `store`, or a whole `store.new` and no `store`.

use std::{fs, io, path::Path};

use super::{
    Batch, CommitError, Healing, OpenError, OpenReport, Options, heal,
    records::{self, Records},
    store::{self, Failure, Store},
    tree,
};
use crate::sync_dir;

/// A batch of the copy ends at this size.
const BATCH_BYTES: usize = 1 << 20;
/// A file is too large when it is larger than this, and than eight times its content.
const SLACK: u64 = 64 << 20;

/// Why a database is copied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Why {
    Damaged,
    Grown,
    /// Nothing is to be left of what was replaced.
    Asked,
}

/// Completes or undoes a copy that was cut.
pub(super) fn finish(dir: &Path) -> io::Result<()> {
    let (store, fresh) = (dir.join("store"), dir.join("store.new"));
    if !fresh.exists() {
        return Ok(());
    }
    if store.exists() {
        return fs::remove_dir_all(&fresh);
    }
    fs::rename(&fresh, &store)?;
    sync_dir(dir)
}

/// Whether a database should be copied.
pub(super) fn wanted(store: &Store, records: &Records, report: &OpenReport) -> Option<Why> {
    if report.damaged() {
        return Some(Why::Damaged);
    }
    let size = store.file.metadata().map_or(0, |it| it.len());
    (size > SLACK && size / 8 > records.n_bytes()).then_some(Why::Grown)
}

/// Replaces the database below `dir` by a fresh copy.
pub(super) fn rewrite(
    dir: &Path,
    (store, records): (Store, Records),
    options: Options,
    why: Why,
    report: &mut OpenReport,
) -> Result<(Store, Records), OpenError> {
    let at = |path: &Path| {
        let path = path.to_path_buf();
        |err| OpenError::Io { path, err }
    };
    let (old, fresh) = (dir.join("store"), dir.join("store.new"));
    match copy(&store.db, &records, &fresh, options) {
        Ok(()) => {}
        // What is merely large can stay so.
        Err(err) if why == Why::Grown => {
            tracing::warn!(error = %err, dir = %dir.display(), "Could not shrink the database");
            fs::remove_dir_all(&fresh).map_err(at(&fresh))?;
            return Ok((store, records));
        }
        Err(err) => return Err(at(&fresh)(io::Error::other(err))),
    }
    drop(store);
    let kept = match why {
        Why::Damaged => Some(heal::quarantine(dir, &old).map_err(at(&old))?),
        Why::Grown | Why::Asked => {
            fs::remove_dir_all(&old).map_err(at(&old))?;
            None
        }
    };
    fs::rename(&fresh, &old).map_err(at(&fresh))?;
    sync_dir(dir).map_err(at(dir))?;
    report.healed.push(Healing::Rewritten { kept });
    let (store, records, intact) = store::open(&old, options).map_err(|failure| match failure {
        Failure::Io(err) => at(&old)(err),
        Failure::Corrupt(reason) => {
            OpenError::Database { dir: old.clone(), err: sled::Error::ReportableBug(reason) }
        }
    })?;
    debug_assert!(intact, "a fresh copy is what was copied");
    Ok((store, records))
}

fn copy(
    from: &sled::Db,
    from_records: &Records,
    to: &Path,
    options: Options,
) -> Result<(), CopyError> {
    fs::create_dir_all(to).map_err(CopyError::Create)?;
    let (store, mut records, _) = store::open(to, options).map_err(CopyError::Open)?;
    records.continue_from(from_records);
    let mut write = |batch| tree::write(&store, records.encode(&batch, None), to);
    let (mut batch, mut bytes, mut failed) = (Batch::default(), 0, None);
    records::scan(from, &mut |key, value| {
        bytes += key.len() + value.len();
        batch.put(key.to_vec(), value);
        if bytes > BATCH_BYTES && failed.is_none() {
            failed = write(std::mem::take(&mut batch)).err();
            bytes = 0;
        }
    })
    .map_err(CopyError::Read)?;
    match failed {
        Some(err) => Err(CopyError::Write(err)),
        None => write(batch).map_err(CopyError::Write),
    }
}

#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error("could not create the fresh database")]
    Create(#[source] io::Error),
    #[error("could not open the fresh database: {0:?}")]
    Open(Failure),
    #[error("could not read the old database")]
    Read(#[source] sled::Error),
    #[error("could not write the fresh database")]
    Write(#[source] CommitError),
}
