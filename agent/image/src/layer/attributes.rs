//! Owner, mode, times and extended attributes: of an entry, or of what lies in a lower layer.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{
        AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod,
        fchown, fgetxattr, flistxattr, fsetxattr, futimens, lsetxattr, utimensat,
    },
    io::Errno,
};

use crate::layer::tar::Entry;

pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// Everything about an inode but its kind and contents.
#[derive(Debug)]
pub(crate) struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    pub(crate) mtime: (i64, u32),
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Attributes {
    pub(crate) fn of_entry(entry: &mut Entry) -> Self {
        let mut xattrs = std::mem::take(&mut entry.xattrs);
        xattrs.retain(|(name, _)| is_kept(name));
        let Entry { mode, uid, gid, mtime, .. } = *entry;
        Self { mode, uid, gid, mtime, xattrs }
    }

    pub(crate) fn of_stat(stat: &Stat, xattrs: Vec<(String, Vec<u8>)>) -> Self {
        let mtime = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
        Self { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, mtime, xattrs }
    }

    /// For files and directories, by descriptor.
    pub(crate) fn set(&self, fd: &OwnedFd) -> io::Result<()> {
        // Changing the owner clears setuid bits and capabilities, so they come after it.
        fchown(fd, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?;
        for (name, value) in &self.xattrs {
            tolerate(fsetxattr(fd, name.as_str(), value, XattrFlags::empty()))?;
        }
        fchmod(fd, Mode::from_raw_mode(self.mode))?;
        Ok(futimens(fd, &times(self.mtime))?)
    }

    /// For what cannot be opened: links, devices, pipes.
    pub(crate) fn set_at(&self, dir: &OwnedFd, name: &CStr, is_symlink: bool) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        for (xattr, value) in &self.xattrs {
            let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
            path.extend_from_slice(name.to_bytes());
            tolerate(lsetxattr(path, xattr.as_str(), value, XattrFlags::empty()))?;
        }
        if !is_symlink {
            chmodat(dir, name, Mode::from_raw_mode(self.mode), AtFlags::empty())?;
        }
        Ok(utimensat(dir, name, &times(self.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

pub(crate) fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Attributes that a layer may bring. `trusted.` would steer overlayfs itself, and `user.overlay.` an
/// overlayfs that is mounted without privileges.
fn is_kept(name: &str) -> bool {
    (name.starts_with("security.")
        || name.starts_with("user.")
        || name.starts_with("system.posix_acl_"))
        && !name.starts_with("user.overlay.")
        && !name.contains('\0')
        && name.len() <= 255
}

/// A file system without some kind of attribute is no reason to refuse an image.
fn tolerate(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        Err(err) => Err(err.into()),
    }
}

/// The attributes worth copying from an open file or directory.
pub(crate) fn read_xattrs(fd: BorrowedFd<'_>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut list = vec![0; 64 << 10];
    let n = match flistxattr(fd, &mut list[..]) {
        Ok(n) => n,
        Err(Errno::OPNOTSUPP) => 0,
        Err(err) => return Err(err.into()),
    };
    let mut xattrs = Vec::new();
    for name in list[..n].split(|byte| *byte == 0) {
        let Some(name) = std::str::from_utf8(name).ok().filter(|it| is_kept(it)) else { continue };
        let mut value = vec![0; 64 << 10];
        let n = fgetxattr(fd, name, &mut value[..])?;
        value.truncate(n);
        xattrs.push((name.to_owned(), value));
    }
    Ok(xattrs)
}

/// Whether a directory hides everything below it.
pub(crate) fn is_opaque(fd: &OwnedFd) -> io::Result<bool> {
    let mut value = [0; 2];
    match fgetxattr(fd, OPAQUE, &mut value[..]) {
        Ok(n) => Ok(value[..n] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(err) => Err(err.into()),
    }
}

pub(crate) fn set_opaque(fd: &OwnedFd) -> io::Result<()> {
    Ok(fsetxattr(fd, OPAQUE, b"y", XattrFlags::empty())?)
}
