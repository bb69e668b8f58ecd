//! Space kept back for the day the file system is full, for even deleting needs some.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, fallocate};

/// A file that only takes up space.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    /// Room for a few segments, and for what opening writes.
    pub(super) fn new(dir: &Path, segment_bytes: usize) -> Self {
        let bytes = u64::try_from(segment_bytes).unwrap_or(u64::MAX).saturating_mul(4);
        Self { path: dir.join("reserve"), bytes }
    }

    /// Takes the space if it is not taken and there is enough. Without it we live more dangerously, not otherwise.
    pub(super) fn fill(&self) {
        if fs::metadata(&self.path).is_ok_and(|it| it.len() == self.bytes) {
            return;
        }
        let taken = File::create(&self.path)
            .and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, self.bytes)?));
        if let Err(err) = taken {
            tracing::warn!(error = %err, path = %self.path.display(), "Could not reserve space");
            self.free();
        }
    }

    /// Gives the space back. Whether there was any.
    pub(super) fn free(&self) -> bool {
        fs::remove_file(&self.path).is_ok()
    }
}

/// Whether an error says that there is no space.
pub(super) fn is_full(err: &io::Error) -> bool {
    // The database wraps the error of the system in one of its own, of the same kind.
    matches!(err.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
