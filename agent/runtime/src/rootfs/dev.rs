//! The device nodes that every program expects, made on a file system that nobody else can see yet.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{CWD, Dev, FileType, Mode, makedev, mkdirat, mknodat, symlinkat};

/// Name, major and minor number; all are character devices for everyone.
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Fills a fresh file system for `/dev`.
pub(super) fn populate(dev: impl AsFd + Copy) -> io::Result<()> {
    for (name, major, minor) in NODES {
        let mode = Mode::from_raw_mode(0o666);
        mknodat(dev, name, FileType::CharacterDevice, mode, makedev(major, minor))?;
    }
    for (name, target) in LINKS {
        symlinkat(target, dev, name)?;
    }
    for name in ["pts", "mqueue", "shm"] {
        mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    }
    Ok(())
}

/// Makes a node for every device of the host, for privileged containers.
pub(super) fn populate_from_host(dev: impl AsFd + Copy) -> io::Result<()> {
    for entry in std::fs::read_dir("/dev")? {
        let name = entry?.file_name();
        let stat = rustix::fs::statat(
            CWD,
            std::path::Path::new("/dev").join(&name),
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        )?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
            continue;
        }
        let device: Dev = stat.st_rdev;
        match mknodat(dev, &name, kind, Mode::from_raw_mode(stat.st_mode), device) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
