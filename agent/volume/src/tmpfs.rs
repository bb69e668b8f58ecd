//! File systems in memory, mounted on a directory's descriptor.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, fstat, fstatfs, openat, statat},
    io::Errno,
    mount::{MountFlags, mount},
};

const TMPFS_MAGIC: u64 = 0x0102_1994;

pub(crate) struct Tmpfs {
    /// Bytes; the kernel's default (half of the memory) where unset.
    pub(crate) size: Option<u64>,
    pub(crate) mode: u32,
    pub(crate) gid: Option<u32>,
    /// Never swapped out, and nothing in it can be executed.
    pub(crate) secret: bool,
}

/// Opens a directory itself, not what a link of that name points to.
pub(crate) fn open_dir(dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(CWD, dir, flags, Mode::empty())?)
}

/// Mounts a tmpfs on `dir` unless one is there.
pub(crate) fn ensure(dir: &Path, spec: &Tmpfs) -> io::Result<()> {
    let fd = open_dir(dir)?;
    if is_tmpfs_mount(&fd)? {
        return Ok(());
    }
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    let mut options = vec![format!("mode={:o}", spec.mode)];
    options.extend(spec.gid.map(|gid| format!("gid={gid}")));
    if spec.secret {
        flags |= MountFlags::NOEXEC;
        options.push("noswap".to_owned());
    }
    if let Some(size) = spec.size {
        // Zero means "no limit" to the kernel, and the opposite to whoever asked.
        options.push(format!("size={}", size.max(1)));
    }
    let target = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let attempt = |options: &[String]| {
        let data = CString::new(options.join(","))?;
        io::Result::Ok(mount("tmpfs", target.as_str(), "tmpfs", flags, Some(data.as_c_str())))
    };
    match attempt(&options)? {
        // `noswap` is younger (6.3) than the kernels that we run on.
        Err(Errno::INVAL) if spec.secret => {
            options.retain(|option| option != "noswap");
            attempt(&options)??;
        }
        result => result?,
    }
    Ok(())
}

fn is_tmpfs_mount(fd: &OwnedFd) -> io::Result<bool> {
    // Every tmpfs has a device number of its own, so that it differs from its parent's at the root.
    let is_mount_root = fstat(fd)?.st_dev != statat(fd, "..", AtFlags::SYMLINK_NOFOLLOW)?.st_dev;
    Ok(is_mount_root && u64::try_from(fstatfs(fd)?.f_type) == Ok(TMPFS_MAGIC))
}
