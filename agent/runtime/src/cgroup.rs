//! Control groups: limits, membership, counting and killing.
//!
//! One driver per version of the interface, chosen once by what is mounted. Paths are relative to the
//! root of every hierarchy. The library makes cgroups and sets limits; how processes get in, events,
//! killing and removing are done here, where it is wrong or slow.

mod v1;
mod v2;

use std::fmt::Debug;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::types::{Resources, Stats};

/// How a new process gets into its cgroup.
#[derive(Debug)]
pub(crate) enum Entry {
    /// It is born there (v2).
    BornIn(OwnedFd),
    /// It writes `0` to each of these files itself (v1).
    Files(Vec<OwnedFd>),
}

/// What a cgroup's processes may do with device nodes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct DeviceRule {
    /// `c` or `b`.
    pub(crate) kind: char,
    /// Major number, or any.
    pub(crate) major: Option<u64>,
    /// Minor number, or any.
    pub(crate) minor: Option<u64>,
    /// Some of `r`, `w`, `m`.
    pub(crate) access: String,
}

/// What the two versions have in common.
pub(crate) trait CgroupDriver: Debug {
    /// Makes the cgroup and what is above it; making it twice is fine.
    fn create(&self, path: &str) -> io::Result<()>;

    /// Sets limits; what is `None` is left as it is.
    fn limit(&self, path: &str, resources: &Resources) -> io::Result<()>;

    /// Has the kernel kill all of its processes, and not one of them, when it kills for want of memory.
    /// Where the kernel cannot (v1, and v2 before Linux 4.19), nothing changes.
    fn kill_as_one(&self, path: &str) -> io::Result<()>;

    /// Allows these devices and no others.
    fn allow_devices(&self, path: &str, rules: &[DeviceRule]) -> io::Result<()>;

    /// Prepares a new process's way in.
    fn entry(&self, path: &str) -> io::Result<Entry>;

    /// Moves this process in.
    fn join(&self, path: &str) -> io::Result<()>;

    /// Sends SIGKILL to every process in it; whether there was none left.
    fn kill(&self, path: &str) -> io::Result<bool>;

    /// Removes it and all below it; one that is not there is fine.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Times the kernel killed one of its processes for want of memory.
    fn oom_kills(&self, path: &str) -> u64;

    /// What it uses.
    fn stats(&self, path: &str) -> io::Result<Stats>;
}

/// The driver for this machine.
pub(crate) fn driver() -> io::Result<Box<dyn CgroupDriver>> {
    if cgroups_rs::fs::hierarchies::is_cgroup2_unified_mode() {
        Ok(Box::new(v2::Unified::new()))
    } else {
        Ok(Box::new(v1::Hierarchies::find()?))
    }
}

/// What containers may use if they are not privileged: nodes can be made, and the standard ones used.
pub(crate) fn default_device_rules() -> Vec<DeviceRule> {
    let any = |kind| DeviceRule { kind, major: None, minor: None, access: "m".to_owned() };
    let all = |major, minor| DeviceRule {
        kind: 'c',
        major: Some(major),
        minor,
        access: "rwm".to_owned(),
    };
    vec![
        any('c'),
        any('b'),
        all(1, Some(3)), // null
        all(1, Some(5)), // zero
        all(1, Some(7)), // full
        all(1, Some(8)), // random
        all(1, Some(9)), // urandom
        all(5, Some(0)), // tty
        all(5, Some(2)), // ptmx
        all(136, None),  // pts
    ]
}

fn library_error(err: &cgroups_rs::fs::error::Error) -> io::Error {
    let cause = std::error::Error::source(err).and_then(|it| it.downcast_ref::<io::Error>());
    match cause.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(err.to_string()),
    }
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    let mut open = fs::OpenOptions::new().write(true).open(file)?;
    io::Write::write_all(&mut open, text.as_bytes())
}

fn pids_in(file: &Path) -> io::Result<Vec<i32>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(err) if is_gone(&err) => Ok(Vec::new()),
        Err(err) => Err(err),
    }
}

fn number_in(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number after `key` in a file of `key number` lines.
fn keyed_number_in(file: &Path, key: &str) -> Option<u64> {
    keyed_number(&fs::read_to_string(file).ok()?, key)
}

fn keyed_number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn is_gone(err: &io::Error) -> bool {
    err.kind() == io::ErrorKind::NotFound || err.raw_os_error() == Some(nix::libc::ENODEV)
}

/// Removes a cgroup directory, deepest first.
fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(err) if is_gone(&err) => return Ok(()),
        Err(err) => return Err(err),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Err(err) if is_gone(&err) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_match_whole_words() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(keyed_number(text, "oom_kill"), Some(3));
        assert_eq!(keyed_number(text, "oom"), None);
    }
}
