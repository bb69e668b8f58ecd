//! `mount_setattr`: flags and propagation of a mount that is held by a descriptor.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::mount::MountAttrFlags;

use crate::check;

/// Whether later mounts show up on the other side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Propagation {
    /// Neither way.
    Private,
    /// From the peer group only.
    Slave,
    /// Both ways.
    Shared,
}

/// What to change about a mount.
#[derive(Clone, Copy, Debug)]
pub struct MountAttr {
    /// Flags to set.
    pub set: MountAttrFlags,
    /// Propagation, unless it stays as it is.
    pub propagation: Option<Propagation>,
    /// Also all mounts below.
    pub recursive: bool,
}

/// Changes the mount whose root `mount` is.
pub fn mount_setattr(mount: BorrowedFd<'_>, attr: MountAttr) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `mount_attr`: integers only, zero means "no change".
    let mut raw: libc::mount_attr = unsafe { std::mem::zeroed() };
    raw.attr_set = u64::from(attr.set.bits());
    raw.propagation = match attr.propagation {
        None => 0,
        Some(Propagation::Private) => libc::MS_PRIVATE,
        Some(Propagation::Slave) => libc::MS_SLAVE,
        Some(Propagation::Shared) => libc::MS_SHARED,
    };
    let mut flags = libc::AT_EMPTY_PATH;
    if attr.recursive {
        flags |= libc::AT_RECURSIVE;
    }
    let fd = mount.as_raw_fd();
    let size = size_of::<libc::mount_attr>();
    // SAFETY: `fd` is open for the call, the path is an empty terminated string, and `raw` is a live
    // `mount_attr` of `size` bytes that the kernel only reads.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, &raw mut raw, size)
    };
    check(result)?;
    Ok(())
}
