//! Writes an initramfs: cpio "newc", as the kernel reads it.
//!
//! Source: <https://docs.kernel.org/driver-api/early-userspace/buffer-format.html>

use std::{fs, path::Path};

use anyhow::Context;

use crate::sh;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const SYMLINK: u32 = 0o120_777;

/// Commands that the guest's scripts use.
const APPLETS: [&str; 29] = [
    "sh",
    "mount",
    "umount",
    "mkdir",
    "insmod",
    "sleep",
    "ip",
    "cat",
    "echo",
    "ls",
    "stty",
    "setsid",
    "poweroff",
    "nc",
    "grep",
    "date",
    "ps",
    "kill",
    "sync",
    "dmesg",
    "rm",
    "env",
    "tr",
    "head",
    "tail",
    "wc",
    "readlink",
    "cp",
    "switch_root",
];

#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    n_entries: u32,
}

impl Archive {
    /// busybox with its commands, and the mount points.
    pub(crate) fn base() -> anyhow::Result<Self> {
        let mut archive = Self::default();
        for dir in [
            "bin",
            "dev",
            "etc",
            "etc/ssl",
            "etc/ssl/certs",
            "lib",
            "mod",
            "mnt",
            "proc",
            "root",
            "run",
            "sys",
            "tmp",
            "var",
            "var/lib",
        ] {
            archive.entry(dir, DIRECTORY, &[]);
        }
        let busybox = sh::which("busybox").context("busybox is not installed")?;
        archive.file("bin/busybox", &busybox)?;
        for applet in APPLETS {
            archive.entry(&format!("bin/{applet}"), SYMLINK, b"busybox");
        }
        Ok(archive)
    }

    pub(crate) fn file(&mut self, name: &str, source: &Path) -> anyhow::Result<()> {
        let content =
            fs::read(source).with_context(|| format!("could not read {}", source.display()))?;
        self.entry(name, PROGRAM, &content);
        Ok(())
    }

    pub(crate) fn script(&mut self, name: &str, text: &str) {
        self.entry(name, PROGRAM, text.as_bytes());
    }

    pub(crate) fn finish(mut self, path: &Path) -> anyhow::Result<()> {
        self.entry("TRAILER!!!", 0, &[]);
        write(path, &self.bytes)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.n_entries += 1;
        let links = 1;
        let fields = [
            self.n_entries,
            mode,
            0,
            0,
            links,
            0,
            u32::try_from(content.len()).unwrap_or(u32::MAX),
            0,
            0,
            0,
            0,
            u32::try_from(name.len() + 1).unwrap_or(u32::MAX),
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a scratch file of a test")]
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(path, bytes).with_context(|| format!("could not write {}", path.display()))
}
