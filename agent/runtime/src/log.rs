//! Container output into log files, line by line, in the format of the container runtime interface.
//!
//! `2026-11-20T08:00:00.123456789Z stdout F text`. A line longer than 16 KiB is cut, its parts but the
//! last marked `P`. A file of 10 MiB is rotated; four old ones are kept. Memory is bounded by the length
//! of one line per stream, whatever the container does. Losing the disk loses lines, never the container.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};

/// Longest piece of a line, as elsewhere.
const MAX_LINE: usize = 16 * 1024;
/// Size at which a file is rotated.
const MAX_FILE: u64 = 10 * 1024 * 1024;
/// Files that exist at most, the current one included.
const MAX_FILES: u32 = 5;

/// Where a line came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The time in front of lines that were read together.
#[derive(Debug)]
pub(crate) struct Stamp(String);

impl Stamp {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self(format!("{now:.9} "))
    }
}

/// Cuts one stream into log lines.
#[derive(Debug)]
pub(crate) struct Lines {
    stream: Stream,
    /// The beginning of a line whose end has not come yet; shorter than `MAX_LINE`.
    rest: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, rest: Vec::new() }
    }

    /// Where the lines come from.
    pub(crate) fn stream(&self) -> Stream {
        self.stream
    }

    /// Appends what `bytes` completes to `out`.
    pub(crate) fn push(&mut self, mut bytes: &[u8], stamp: &Stamp, out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let room = MAX_LINE - self.rest.len();
            let head = bytes.get(..room.min(bytes.len())).unwrap_or(bytes);
            match head.iter().position(|it| *it == b'\n') {
                Some(end) => {
                    self.emit(b" F ", head.get(..end).unwrap_or_default(), stamp, out);
                    bytes = bytes.get(end + 1..).unwrap_or_default();
                }
                None if head.len() == room => {
                    self.emit(b" P ", head, stamp, out);
                    bytes = bytes.get(head.len()..).unwrap_or_default();
                }
                None => {
                    self.rest.extend_from_slice(head);
                    return;
                }
            }
        }
    }

    /// Appends what is left when the stream has ended.
    pub(crate) fn finish(&mut self, stamp: &Stamp, out: &mut Vec<u8>) {
        if !self.rest.is_empty() {
            self.emit(b" F ", &[], stamp, out);
        }
    }

    fn emit(&mut self, tag: &[u8], end: &[u8], stamp: &Stamp, out: &mut Vec<u8>) {
        out.extend_from_slice(stamp.0.as_bytes());
        out.extend_from_slice(self.stream.name().as_bytes());
        out.extend_from_slice(tag);
        out.append(&mut self.rest);
        out.extend_from_slice(end);
        out.push(b'\n');
    }
}

/// The log file of one container, with its rotated predecessors beside it.
#[derive(Debug)]
pub(crate) struct LogFile {
    /// Held open, so that nobody can swap the directory for another one.
    dir: OwnedFd,
    name: String,
    file: OwnedFd,
    size: u64,
}

fn open_in(dir: impl AsFd, name: &str) -> io::Result<(OwnedFd, u64)> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o640))?;
    let stat = rustix::fs::fstat(&file)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(io::Error::other("log path is not a regular file"));
    }
    Ok((file, u64::try_from(stat.st_size).unwrap_or(0)))
}

impl LogFile {
    /// Opens or makes the file; its directory must exist, and a link in the file's place is refused.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let name = path.file_name().and_then(|it| it.to_str()).ok_or_else(invalid)?.to_owned();
        let parent = path.parent().ok_or_else(invalid)?;
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let dir = rustix::fs::open(parent, flags, Mode::empty())?;
        let (file, size) = open_in(&dir, &name)?;
        Ok(Self { dir, name, file, size })
    }

    /// Appends whole lines.
    pub(crate) fn append(&mut self, mut lines: &[u8]) -> io::Result<()> {
        if self.size >= MAX_FILE {
            self.rotate()?;
        }
        let before = self.size;
        while !lines.is_empty() {
            match rustix::io::retry_on_intr(|| rustix::io::write(&self.file, lines)) {
                Ok(written) => {
                    self.size += written as u64;
                    lines = lines.get(written..).unwrap_or_default();
                }
                Err(errno) => {
                    // No half of a line must stay for the next one to be glued to.
                    if rustix::fs::ftruncate(&self.file, before).is_ok() {
                        self.size = before;
                    }
                    return Err(errno.into());
                }
            }
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        // The new file first: without room for it, the old ones stay as they are.
        let next = format!("{}.next", self.name);
        let (file, size) = open_in(&self.dir, &next)?;
        if let Err(err) = self.shift(&next) {
            // Where nobody would look for it, it only takes room.
            let _ = rustix::fs::unlinkat(&self.dir, &next, rustix::fs::AtFlags::empty());
            return Err(err);
        }
        (self.file, self.size) = (file, size);
        Ok(())
    }

    /// Makes every file one older, and `next` the current one.
    fn shift(&self, next: &str) -> io::Result<()> {
        let name = |age: u32| match age {
            0 => self.name.clone(),
            age => format!("{}.{age}", self.name),
        };
        for age in (0..MAX_FILES - 1).rev() {
            // Some may be missing: too few so far, or removed by somebody.
            match rustix::fs::renameat(&self.dir, name(age), &self.dir, name(age + 1)) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(rustix::fs::renameat(&self.dir, next, &self.dir, &self.name)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&[u8]], expected: &str) {
        let now: Timestamp = "2026-11-20T08:00:00.12Z".parse().unwrap();
        let stamp = Stamp::new(now);
        let (mut lines, mut out) = (Lines::new(Stream::Stdout), Vec::new());
        for piece in pieces {
            lines.push(piece, &stamp, &mut out);
        }
        lines.finish(&stamp, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn lines_are_stamped_and_joined() {
        const T: &str = "2026-11-20T08:00:00.120000000Z stdout";
        check(&[b"a\nb\n"], &format!("{T} F a\n{T} F b\n"));
        check(&[b"a", b"b", b"\n"], &format!("{T} F ab\n"));
        check(&[b"\n"], &format!("{T} F \n"));
        check(&[b"no end"], &format!("{T} F no end\n"));
        let long = vec![b'x'; MAX_LINE + 1];
        let x = "x".repeat(MAX_LINE);
        check(&[&long, b"\n"], &format!("{T} P {x}\n{T} F x\n"));
    }

    #[test]
    fn a_full_file_is_rotated_and_the_oldest_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = LogFile::open(&path).unwrap();
        for round in 0..7 {
            log.append(format!("{round}\n").as_bytes()).unwrap();
            log.size = MAX_FILE;
        }
        drop(log);
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("0.log"), "6\n");
        assert_eq!(read("0.log.4"), "2\n");
        assert!(!dir.path().join("0.log.5").exists());
    }

    #[test]
    fn a_log_goes_on_when_there_is_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = LogFile::open(&path).unwrap();
        log.append(b"old\n").unwrap();
        // Stands where the new file is to be made.
        std::fs::create_dir(dir.path().join("0.log.next")).unwrap();
        for _ in 0..MAX_FILES {
            log.size = MAX_FILE;
            log.append(b"lost\n").unwrap_err();
        }
        std::fs::remove_dir(dir.path().join("0.log.next")).unwrap();
        log.append(b"new\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(std::fs::read_to_string(dir.path().join("0.log.1")).unwrap(), "old\n");
        // Removed by somebody: the next rotation makes it again.
        std::fs::remove_file(&path).unwrap();
        log.size = MAX_FILE;
        log.append(b"again\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "again\n");
    }

    #[test]
    fn a_link_in_place_of_the_log_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/shadow", dir.path().join("0.log")).unwrap();
        assert!(LogFile::open(&dir.path().join("0.log")).is_err());
    }
}
