//! Replacing a file whole: readers and power cuts see the old content or the new one, nothing else.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Why a file could not be replaced. The old content is still there, unless the directory could not be synced: then
/// it is one of both.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// The new content could not be written beside the old.
    #[error("could not write {}", path.display())]
    Write {
        /// The temporary file.
        path: PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// The new content could not be put in the old one's place.
    #[error("could not rename to {}", path.display())]
    Rename {
        /// The file to be replaced.
        path: PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// The directory could not be made durable.
    #[error("could not sync directory {}", path.display())]
    Sync {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
}

/// Puts `content` in place of the file at `path`, durably. A new file is readable by its owner only.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), ReplaceError> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let fresh = path.with_file_name(name);
    write_synced(&fresh, content)
        .map_err(|err| ReplaceError::Write { path: fresh.clone(), err })?;
    fs::rename(&fresh, path).map_err(|err| ReplaceError::Rename { path: path.into(), err })?;
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        Some(_) | None => Path::new("."),
    };
    sync_dir(dir).map_err(|err| ReplaceError::Sync { path: dir.into(), err })
}

/// Makes the entries of a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_stale_temporary_file_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut stale = File::create(dir.path().join(".file.new")).unwrap();
        stale.write_all(b"much longer than the new content").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_the_file() {
        let err = replace(Path::new("/nonexistent/x"), b"").unwrap_err();
        assert_eq!(err.to_string(), "could not write /nonexistent/.x.new");
    }
}
