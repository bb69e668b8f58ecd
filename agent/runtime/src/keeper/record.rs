//! What the keeper writes down, so that another keeper, or the next boot, knows.
//!
//! Below `run_dir`, which a boot empties, lies what runs. Below `state_dir` lie writable layers and how
//! containers ended; an exit is on disk before anybody is told.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::container::Dirs;
use crate::ids::{ContainerId, SandboxId};
use crate::types::{ContainerSpec, ExitStatus, SandboxSpec};

/// A process that cannot be mistaken for another one with the same number.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct ProcessRecord {
    pub(super) pid: i32,
    /// In clock ticks since boot.
    pub(super) start_time: u64,
    pub(super) boot_id: String,
}

/// A container that runs.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct RunRecord {
    pub(super) version: u32,
    pub(super) spec: ContainerSpec,
    pub(super) process: ProcessRecord,
    pub(super) started_at: Timestamp,
}

/// A sandbox that exists.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SandboxRecord {
    pub(super) version: u32,
    pub(super) spec: SandboxSpec,
    pub(super) boot_id: String,
    pub(super) init: Option<ProcessRecord>,
    pub(super) created_at: Timestamp,
}

/// A container that has, or had, a writable layer.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct CreateRecord {
    pub(super) version: u32,
    pub(super) id: ContainerId,
    pub(super) sandbox: SandboxId,
}

/// How a container ended.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct ExitRecord {
    pub(super) version: u32,
    pub(super) id: ContainerId,
    pub(super) sandbox: SandboxId,
    pub(super) exit: ExitStatus,
}

/// The version of every record above.
pub(super) const VERSION: u32 = 1;

/// Names of the files.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) state_dir: PathBuf,
    pub(super) run_dir: PathBuf,
}

impl Layout {
    pub(super) fn make_dirs(&self) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        for dir in [self.containers(), self.trash(), self.running(), self.sandboxes()] {
            builder.create(dir)?;
        }
        for kind in ["net", "uts", "ipc", "pid"] {
            builder.create(self.namespaces(kind))?;
        }
        Ok(())
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.run_dir.join("keeper.sock")
    }

    pub(super) fn containers(&self) -> PathBuf {
        self.state_dir.join("containers")
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.state_dir.join("trash")
    }

    pub(super) fn running(&self) -> PathBuf {
        self.run_dir.join("containers")
    }

    pub(super) fn sandboxes(&self) -> PathBuf {
        self.run_dir.join("sandboxes")
    }

    pub(super) fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(id.as_str())
    }

    pub(super) fn dirs(&self, id: &ContainerId) -> Dirs {
        let dir = self.container(id);
        Dirs { rootfs: dir.join("rootfs"), upper: dir.join("upper"), work: dir.join("work") }
    }

    pub(super) fn create_record(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("container.json")
    }

    pub(super) fn exit_record(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("exit.json")
    }

    pub(super) fn run_record(&self, id: &ContainerId) -> PathBuf {
        self.running().join(format!("{id}.json"))
    }

    pub(super) fn sandbox_record(&self, id: &SandboxId) -> PathBuf {
        self.sandboxes().join(format!("{id}.json"))
    }

    /// The pipe that carries a container's output; it has a name so that another keeper can open it.
    pub(super) fn fifo(&self, id: &ContainerId, stream: &str) -> PathBuf {
        self.running().join(format!("{id}.{stream}"))
    }

    /// Where namespaces of a kind are mounted.
    pub(super) fn namespaces(&self, kind: &str) -> PathBuf {
        self.run_dir.join(format!("{kind}ns"))
    }

    /// Where a namespace of a sandbox is mounted.
    pub(super) fn namespace(&self, kind: &str, id: &SandboxId) -> PathBuf {
        self.namespaces(kind).join(id.as_str())
    }
}

/// Writes a record whole or not at all; with `durable`, not even a power cut takes it back.
pub(super) fn write(path: &Path, record: &impl Serialize, durable: bool) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&beside, path)?;
    if let Some(dir) = path.parent().filter(|_| durable) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// Reads a record; what is missing or cannot be understood is none.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Names in a directory that end in `suffix`, without it.
pub(super) fn names_in(dir: &Path, suffix: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|it| it.file_name().into_string().ok());
    names.filter_map(|it| it.strip_suffix(suffix).map(str::to_owned)).collect()
}

/// Removes a file, which may be gone already.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Changes with every boot.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// When a process was started, in clock ticks since boot.
pub(super) fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the 22nd field is the 20th after it.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}
