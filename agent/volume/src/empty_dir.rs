//! Scratch directories, on the node's disk or in memory.

use std::{ffi::OsString, io, path::Path};

use rustix::fs::{Gid, Mode, fchmod, fchown};

use crate::tmpfs::{self, Tmpfs};

/// A scratch directory that lives as long as its owner.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EmptyDir {
    /// Keep the contents in memory instead of on disk.
    pub memory: bool,
    /// Bytes, enforced only for `memory`; on disk the caller watches the usage.
    pub size_limit: Option<u64>,
    /// Group that owns the directory and, through the setgid bit, what is made in it.
    pub gid: Option<u32>,
}

/// Why a scratch directory could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not prepare scratch directory {path}")]
pub struct EmptyDirError {
    /// The directory.
    pub path: std::path::PathBuf,
    /// What the kernel said.
    #[source]
    pub err: io::Error,
}

/// Makes the directory, writable for all, unless it is there; contents are never touched.
pub fn ensure_empty_dir(dir: &Path, spec: &EmptyDir) -> Result<(), EmptyDirError> {
    ensure(dir, spec).map_err(|err| EmptyDirError { path: dir.to_owned(), err })
}

/// Mode and group are set before the directory is there under its name, and never again: its owner
/// may have changed them.
fn ensure(dir: &Path, spec: &EmptyDir) -> io::Result<()> {
    let mode = if spec.gid.is_some() { 0o2777 } else { 0o777 };
    if spec.memory {
        std::fs::create_dir_all(dir)?;
        let size = spec.size_limit;
        return tmpfs::ensure(dir, &Tmpfs { size, mode, gid: spec.gid, secret: false });
    }
    if dir.exists() {
        return Ok(());
    }
    let mut name = OsString::from(".new-");
    name.push(dir.file_name().unwrap_or_default());
    let fresh = dir.with_file_name(name);
    std::fs::create_dir_all(&fresh)?;
    let fd = tmpfs::open_dir(&fresh)?;
    fchown(&fd, None, spec.gid.map(Gid::from_raw))?;
    fchmod(&fd, Mode::from_raw_mode(mode))?;
    std::fs::rename(&fresh, dir)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::remove_pod_volumes;

    #[test]
    fn a_directory_on_disk_is_open_to_all_and_kept_on_repetition() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("scratch");
        let spec = EmptyDir { gid: Some(2000), ..EmptyDir::default() };
        ensure_empty_dir(&dir, &spec).unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o7777, 0o2777);
        assert_eq!(std::fs::metadata(&dir).unwrap().gid(), 2000);
        std::fs::create_dir(dir.join("kept")).unwrap();
        ensure_empty_dir(&dir, &spec).unwrap();
        assert!(dir.join("kept").exists());
    }

    #[test]
    fn memory_has_its_limit_and_goes_away_with_its_owner() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("owner/scratch");
        let spec = EmptyDir { memory: true, size_limit: Some(1 << 20), gid: None };
        ensure_empty_dir(&dir, &spec).unwrap();
        ensure_empty_dir(&dir, &spec).unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o7777, 0o777);
        let too_much = std::fs::File::create(dir.join("big")).unwrap();
        let err = io::Write::write_all(&mut &too_much, &vec![1; 2 << 20]).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::StorageFull);
        drop(too_much);
        remove_pod_volumes(&temp.path().join("owner")).unwrap();
        assert!(!temp.path().join("owner").exists());
    }
}
