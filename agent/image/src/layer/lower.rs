//! Looks a path up in the layers beneath, as overlayfs would show it.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat},
    io::Errno,
};

use crate::layer::attributes::{Attributes, is_opaque, read_xattrs};

/// What lies at a path.
pub(crate) enum Found {
    Dir(Attributes),
    File(OwnedFd, Attributes),
    Symlink(Vec<u8>, Attributes),
    /// Devices and pipes: kind and number.
    Node(FileType, u64, Attributes),
}

/// Looks from the topmost layer down. Links on the way are not followed: a link hides what is below.
pub(crate) fn find(lowers: &[OwnedFd], path: &[u8]) -> io::Result<Option<Found>> {
    for lower in lowers {
        match find_in(lower, path)? {
            Look::Found(found) => return Ok(Some(found)),
            Look::Hidden => return Ok(None),
            Look::Missing => {}
        }
    }
    Ok(None)
}

/// A whiteout of overlayfs.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

enum Look {
    Found(Found),
    /// Not here, and whatever lies below is hidden.
    Hidden,
    /// Not here; perhaps below.
    Missing,
}

fn find_in(lower: &OwnedFd, path: &[u8]) -> io::Result<Look> {
    let mut dir = lower.try_clone()?;
    if path.is_empty() {
        return look_at(&dir, b".");
    }
    let mut components = path.split(|byte| *byte == b'/').peekable();
    // An opaque directory hides what lower layers have below it, at any depth.
    let mut hides = false;
    while let Some(component) = components.next() {
        hides |= is_opaque(&dir)?;
        let stat = match statat(&dir, component, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) if hides => return Ok(Look::Hidden),
            Err(Errno::NOENT) => return Ok(Look::Missing),
            Err(err) => return Err(err.into()),
        };
        if is_whiteout(&stat) {
            return Ok(Look::Hidden);
        }
        if components.peek().is_none() {
            return look_at(&dir, component);
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(Look::Hidden);
        }
        dir = open(&dir, component, OFlags::DIRECTORY)?;
    }
    Ok(Look::Missing)
}

fn look_at(dir: &OwnedFd, name: &[u8]) -> io::Result<Look> {
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let ty = FileType::from_raw_mode(stat.st_mode);
    let found = match ty {
        FileType::Directory => {
            let fd = open(dir, name, OFlags::DIRECTORY)?;
            Found::Dir(Attributes::of_stat(&fstat(&fd)?, read_xattrs(fd.as_fd())?))
        }
        FileType::RegularFile => {
            let fd = open(dir, name, OFlags::NONBLOCK)?;
            let attributes = Attributes::of_stat(&fstat(&fd)?, read_xattrs(fd.as_fd())?);
            Found::File(fd, attributes)
        }
        FileType::Symlink => {
            let target = readlinkat(dir, name, Vec::new())?.into_bytes();
            Found::Symlink(target, Attributes::of_stat(&stat, Vec::new()))
        }
        FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => {
            Found::Node(ty, stat.st_rdev, Attributes::of_stat(&stat, Vec::new()))
        }
    };
    Ok(Look::Found(found))
}

fn open(dir: &OwnedFd, name: &[u8], more: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    openat(dir, name, flags, Mode::empty())
}
