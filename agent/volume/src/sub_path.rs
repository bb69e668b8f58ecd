//! A path inside a volume, resolved as if the volume were the root of all files.
//!
//! Whoever writes to the volume can put links there at any moment. Resolution is the kernel's, in one
//! call below the volume's descriptor, and what is mounted is the descriptor that came out.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2},
    io::Errno,
};

use crate::RelPath;

/// Why a path inside a volume could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("could not open {path} inside the volume")]
pub struct SubPathError {
    /// The path.
    pub path: RelPath,
    /// What the kernel said.
    #[source]
    pub err: io::Error,
}

/// Opens what is there (`O_PATH`). Links lead at most to the volume's root.
pub fn open_sub_path(root: BorrowedFd<'_>, path: &RelPath) -> Result<OwnedFd, SubPathError> {
    open(root, path.as_str()).map_err(|err| SubPathError { path: path.clone(), err: err.into() })
}

/// As [`open_sub_path`], making missing directories with the mode of the volume's root.
pub fn ensure_sub_path(root: BorrowedFd<'_>, path: &RelPath) -> Result<OwnedFd, SubPathError> {
    ensure(root, path).map_err(|err| SubPathError { path: path.clone(), err: err.into() })
}

fn ensure(root: BorrowedFd<'_>, path: &RelPath) -> rustix::io::Result<OwnedFd> {
    match open(root, path.as_str()) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    let mode = Mode::from_raw_mode(fstat(root)?.st_mode & 0o7777);
    let mut at = open(root, ".")?;
    let mut so_far = String::new();
    for component in path.components() {
        so_far.push_str(component);
        at = match open(root, &so_far) {
            Err(Errno::NOENT) => {
                match mkdirat(&at, component, mode) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(err) => return Err(err),
                }
                open(root, &so_far)?
            }
            result => result?,
        };
        so_far.push('/');
    }
    Ok(at)
}

fn open(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut rounds = 0;
    loop {
        match openat2(root, path, flags, Mode::empty(), resolve) {
            // Something was renamed meanwhile, and the kernel cannot vouch for a `..` in a link.
            Err(Errno::AGAIN) if rounds < 128 => rounds += 1,
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::{fd::AsFd, unix::fs::symlink},
        path::Path,
        sync::atomic::{AtomicBool, Ordering},
    };

    use rustix::fs::{RenameFlags, renameat_with};

    use super::*;

    fn volume(temp: &Path) -> OwnedFd {
        std::fs::create_dir_all(temp.join("volume/real")).unwrap();
        std::fs::create_dir_all(temp.join("etc")).unwrap();
        crate::tmpfs::open_dir(&temp.join("volume")).unwrap()
    }

    fn inode(fd: &OwnedFd) -> u64 {
        fstat(fd).unwrap().st_ino
    }

    fn inode_of(path: &Path) -> u64 {
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap())
    }

    #[test]
    fn links_out_of_the_volume_lead_back_into_it() {
        let temp = tempfile::tempdir().unwrap();
        let root = volume(temp.path());
        symlink("/etc", temp.path().join("volume/absolute")).unwrap();
        symlink("../etc", temp.path().join("volume/dots")).unwrap();
        symlink("/proc/self/root/etc", temp.path().join("volume/magic")).unwrap();
        for name in ["absolute", "dots", "magic"] {
            assert!(open_sub_path(root.as_fd(), &name.parse().unwrap()).is_err(), "{name}");
            assert!(ensure_sub_path(root.as_fd(), &name.parse().unwrap()).is_err(), "{name}");
        }
        std::fs::create_dir(temp.path().join("volume/etc")).unwrap();
        let found = open_sub_path(root.as_fd(), &"absolute".parse().unwrap()).unwrap();
        assert_eq!(inode(&found), inode_of(&temp.path().join("volume/etc")));
    }

    #[test]
    fn missing_directories_are_made_inside() {
        let temp = tempfile::tempdir().unwrap();
        let root = volume(temp.path());
        symlink("real", temp.path().join("volume/link")).unwrap();
        let made = ensure_sub_path(root.as_fd(), &"link/a/b".parse().unwrap()).unwrap();
        assert_eq!(inode(&made), inode_of(&temp.path().join("volume/real/a/b")));
    }

    #[test]
    fn a_directory_swapped_for_a_link_never_opens_the_outside() {
        let temp = tempfile::tempdir().unwrap();
        let root = volume(temp.path());
        symlink("../../etc", temp.path().join("volume/evil")).unwrap();
        let outside = inode_of(&temp.path().join("etc"));
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    renameat_with(&root, "real", &root, "evil", RenameFlags::EXCHANGE).unwrap();
                }
            });
            let path = "real".parse().unwrap();
            for _ in 0..10_000 {
                if let Ok(fd) = open_sub_path(root.as_fd(), &path) {
                    assert_ne!(inode(&fd), outside);
                }
            }
            is_done.store(true, Ordering::Relaxed);
        });
    }
}
