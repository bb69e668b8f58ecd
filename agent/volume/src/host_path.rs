//! Paths of the node that a container asked for: is it what was said to be there?

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, fstat, openat},
    io::Errno,
};

/// What must be at a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HostPathKind {
    /// Whatever is there; an empty directory is made if there is nothing.
    Any,
    /// A directory.
    Directory,
    /// A directory, made with mode 0755 if there is nothing.
    DirectoryOrCreate,
    /// A regular file.
    File,
    /// A regular file, made empty with mode 0644 if there is nothing; its directory must be there.
    FileOrCreate,
    /// A UNIX socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// Why a host path cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostPathError {
    /// It does not start with a slash.
    #[error("host path {path} is not absolute")]
    Relative {
        /// The path.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("hostPath type check failed: {path} is not a {wanted}")]
    WrongKind {
        /// The path.
        path: PathBuf,
        /// What should be there.
        wanted: &'static str,
    },
    /// It is not there or cannot be made.
    #[error("could not open host path {path}")]
    Open {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        err: io::Error,
    },
}

/// Opens the path (`O_PATH`), making it where the kind says so, and checks on the descriptor that it
/// is of that kind. Mount from the descriptor, not from the path.
pub fn check_host_path(path: &Path, kind: HostPathKind) -> Result<OwnedFd, HostPathError> {
    if !path.is_absolute() {
        return Err(HostPathError::Relative { path: path.to_owned() });
    }
    let opening = |err| HostPathError::Open { path: path.to_owned(), err };
    let fd = open(path, kind).map_err(opening)?;
    let found = FileType::from_raw_mode(fstat(&fd).map_err(|err| opening(err.into()))?.st_mode);
    match wanted(kind) {
        Some((ty, name)) if ty != found => {
            Err(HostPathError::WrongKind { path: path.to_owned(), wanted: name })
        }
        _ => Ok(fd),
    }
}

fn wanted(kind: HostPathKind) -> Option<(FileType, &'static str)> {
    match kind {
        HostPathKind::Any => None,
        HostPathKind::Directory | HostPathKind::DirectoryOrCreate => {
            Some((FileType::Directory, "directory"))
        }
        HostPathKind::File | HostPathKind::FileOrCreate => Some((FileType::RegularFile, "file")),
        HostPathKind::Socket => Some((FileType::Socket, "socket file")),
        HostPathKind::CharDevice => Some((FileType::CharacterDevice, "character device")),
        HostPathKind::BlockDevice => Some((FileType::BlockDevice, "block device")),
    }
}

fn open(path: &Path, kind: HostPathKind) -> io::Result<OwnedFd> {
    let attempt = || openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    match (attempt(), kind) {
        (Err(Errno::NOENT), HostPathKind::Any | HostPathKind::DirectoryOrCreate) => {
            std::fs::create_dir_all(path)?;
            Ok(attempt()?)
        }
        (Err(Errno::NOENT), HostPathKind::FileOrCreate) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
            openat(CWD, path, flags, Mode::from_raw_mode(0o644))?;
            Ok(attempt()?)
        }
        (result, _) => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &Path, kind: HostPathKind, expected: &str) {
        let found = match check_host_path(path, kind) {
            Ok(_) => "ok".to_owned(),
            Err(err) => err.to_string(),
        };
        assert!(found.ends_with(expected), "{kind:?}: {found}");
    }

    #[test]
    fn each_kind_takes_only_its_own() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        check(&at("d"), HostPathKind::Directory, "/d");
        check(&at("d/e"), HostPathKind::DirectoryOrCreate, "ok");
        check(&at("d/e"), HostPathKind::Directory, "ok");
        check(&at("d/e"), HostPathKind::File, "e is not a file");
        check(&at("none/f"), HostPathKind::FileOrCreate, "none/f");
        check(&at("f"), HostPathKind::FileOrCreate, "ok");
        check(&at("f"), HostPathKind::File, "ok");
        check(&at("f"), HostPathKind::DirectoryOrCreate, "f is not a directory");
        check(&at("any"), HostPathKind::Any, "ok");
        check(&at("any"), HostPathKind::Directory, "ok");
        let _socket = std::os::unix::net::UnixListener::bind(at("s")).unwrap();
        check(&at("s"), HostPathKind::Socket, "ok");
        check(&at("s"), HostPathKind::CharDevice, "s is not a character device");
        check(Path::new("/dev/null"), HostPathKind::CharDevice, "ok");
        check(Path::new("/dev/null"), HostPathKind::BlockDevice, "null is not a block device");
        check(Path::new("x"), HostPathKind::Any, "is not absolute");
    }
}
