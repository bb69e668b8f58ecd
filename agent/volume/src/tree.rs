//! Removal of directory trees that somebody else filled.
//!
//! Never follows a link, never enters a mount, and needs three descriptors however deep the tree is:
//! directories below the second level are moved up before they are emptied.

use std::{
    ffi::{CStr, CString, OsString},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, ResolveFlags, openat2, renameat_with,
        unlinkat,
    },
    io::Errno,
    mount::{UnmountFlags, unmount},
};

/// Why a tree is still there.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The table of mounts could not be read.
    #[error("could not read the mount table")]
    MountTable {
        /// What the kernel said.
        #[source]
        err: io::Error,
    },
    /// Something mounted below it stays mounted.
    #[error("could not unmount {path}")]
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        err: io::Error,
    },
    /// A file or directory stays.
    #[error("could not remove {path}")]
    Remove {
        /// The tree.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        err: io::Error,
    },
}

/// Unmounts what is mounted below `dir`, and removes it. Not being there is success.
pub fn remove_pod_volumes(dir: &Path) -> Result<(), RemoveError> {
    let removing = |err| RemoveError::Remove { path: dir.to_owned(), err };
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(removing(Errno::INVAL.into()));
    };
    let parent = match std::fs::canonicalize(parent) {
        Ok(parent) => parent,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(removing(err)),
    };
    unmount_below(&parent.join(name))?;
    let name = CString::new(name.as_bytes()).map_err(|err| removing(err.into()))?;
    let parent = crate::tmpfs::open_dir(&parent).map_err(removing)?;
    remove(parent.as_fd(), &name).map_err(removing)
}

/// Removes `name` below `parent` with everything in it. Not being there is success; a mount inside
/// is an error, and is left untouched.
pub fn remove(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    if unlink(parent, name)? == Unlinked::No {
        let top = match open_below(parent, name) {
            Err(Errno::NOENT) => return Ok(()),
            result => result?,
        };
        empty(&top)?;
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(err) => return Err(err.into()),
        }
    }
    Ok(())
}

/// Removes everything in a directory, and keeps the directory.
pub fn empty(top: &OwnedFd) -> io::Result<()> {
    let mut moved = 0_u64;
    // What is moved up while a pass runs may escape it, but not the next.
    loop {
        let names = names(top)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            if unlink(top.as_fd(), &name)? == Unlinked::No {
                let child = open_below(top.as_fd(), &name)?;
                flatten(&child, top, &mut moved)?;
                unlinkat(top, &name, AtFlags::REMOVEDIR)?;
            }
        }
    }
}

/// Empties `child`: its directories that are not empty move to `top`.
fn flatten(child: &OwnedFd, top: &OwnedFd, moved: &mut u64) -> io::Result<()> {
    for name in names(child)? {
        if unlink(child.as_fd(), &name)? == Unlinked::Yes {
            continue;
        }
        loop {
            *moved += 1;
            let target = format!(".removing-{moved}");
            match renameat_with(child, &name, top, target, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                result => break result?,
            }
        }
    }
    Ok(())
}

#[derive(Eq, PartialEq)]
enum Unlinked {
    Yes,
    /// It is a directory with something in it.
    No,
}

fn unlink(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Unlinked> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(Unlinked::Yes),
        Err(Errno::ISDIR) => {}
        Err(err) => return Err(err.into()),
    }
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(Unlinked::Yes),
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => Ok(Unlinked::No),
        Err(err) => Err(err.into()),
    }
}

fn open_below(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(dir, name, flags, Mode::empty(), resolve)
}

fn names(dir: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Unmounts whatever is mounted on `dir` or below it, the last mounted first.
fn unmount_below(dir: &Path) -> Result<(), RemoveError> {
    let table =
        std::fs::read("/proc/self/mountinfo").map_err(|err| RemoveError::MountTable { err })?;
    let mut points: Vec<PathBuf> = table.split(|c| *c == b'\n').filter_map(mount_point).collect();
    points.retain(|point| point.starts_with(dir));
    for point in points.into_iter().rev() {
        match unmount_by_fd(&point) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(err) => return Err(RemoveError::Unmount { path: point, err: err.into() }),
        }
    }
    Ok(())
}

fn unmount_by_fd(point: &Path) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat2(CWD, point, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    // Detached at once, gone when our own descriptor is closed.
    unmount(format!("/proc/self/fd/{}", fd.as_raw_fd()), UnmountFlags::DETACH)
}

/// The fifth field of a mountinfo line, with its octal escapes undone.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|c| *c == b' ').nth(4)?;
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let escaped = behind.get(..3).filter(|_| *first == b'\\').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        path.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &behind[3..] } else { behind };
    }
    Some(PathBuf::from(OsString::from_vec(path)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::{
        fs::{mkdirat, openat},
        mount::mount_bind,
    };

    use super::*;

    #[test]
    fn links_are_removed_and_not_what_they_point_to() {
        let temp = tempfile::tempdir().unwrap();
        let victim = temp.path().join("victim");
        std::fs::create_dir_all(victim.join("sub")).unwrap();
        let dir = temp.path().join("volumes");
        std::fs::create_dir_all(dir.join("a/b/c")).unwrap();
        symlink(&victim, dir.join("link")).unwrap();
        symlink(&victim, dir.join("a/b/link")).unwrap();
        remove_pod_volumes(&dir).unwrap();
        remove_pod_volumes(&dir).unwrap();
        assert!(!dir.exists());
        assert!(victim.join("sub").exists());
        symlink(&victim, &dir).unwrap();
        remove_pod_volumes(&dir).unwrap();
        assert!(victim.join("sub").exists() && !dir.is_symlink());
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("deep");
        std::fs::create_dir(&dir).unwrap();
        let mut at = crate::tmpfs::open_dir(&dir).unwrap();
        for _ in 0..5000 {
            mkdirat(&at, "d", Mode::from_raw_mode(0o700)).unwrap();
            at = openat(&at, "d", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        }
        drop(at);
        remove_pod_volumes(&dir).unwrap();
        assert!(!dir.exists());
    }

    #[test]
    fn mounts_inside_are_undone_and_their_contents_survive() {
        let temp = tempfile::tempdir().unwrap();
        let outside = temp.path().join("out side");
        std::fs::create_dir_all(outside.join("kept")).unwrap();
        let point = temp.path().join("volumes/with space/m");
        std::fs::create_dir_all(&point).unwrap();
        mount_bind(&outside, &point).unwrap();
        let top = crate::tmpfs::open_dir(&temp.path().join("volumes")).unwrap();
        assert!(empty(&top).is_err(), "a mount must stop a plain removal");
        assert!(outside.join("kept").exists());
        drop(top);
        remove_pod_volumes(&temp.path().join("volumes")).unwrap();
        assert!(outside.join("kept").exists());
        assert!(!temp.path().join("volumes").exists());
    }
}
