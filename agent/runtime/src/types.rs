//! What the runtime is asked for and what it answers.
//!
//! These types are the contract with the agent and the body of the messages to the keeper. They speak
//! OCI and kernel words; nothing here knows what a pod is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{CgroupPath, ContainerId, SandboxId};

/// Where the runtime keeps its things.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Durable: writable layers and exit records.
    pub state_dir: PathBuf,
    /// Gone after a boot: keeper socket, namespaces, records of what runs.
    pub run_dir: PathBuf,
    /// Name of the runtime's own cgroup below the root of each hierarchy, such as `outbye`.
    pub cgroup_root: String,
}

/// Limits of a sandbox or a container. What is `None` is not limited.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Resources {
    /// Weight in the words of cgroup v1, 2 to 262144; converted for v2.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU in each period.
    pub cpu_quota: Option<i64>,
    /// Length of the period in microseconds.
    pub cpu_period: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<u64>,
    /// Number of processes and threads.
    pub pids_limit: Option<u64>,
}

/// The namespaces and the cgroup that a group of containers shares.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SandboxSpec {
    /// Name; asking twice for the same sandbox is the same as asking once.
    pub id: SandboxId,
    /// Host name inside, ignored with `host_network`.
    pub hostname: String,
    /// Uses the network (and the host name) of the host.
    pub host_network: bool,
    /// Sees the processes of the host.
    pub host_pid: bool,
    /// Uses System V IPC and message queues of the host.
    pub host_ipc: bool,
    /// All containers share one process namespace, whose pid 1 is an init of ours.
    pub share_process_namespace: bool,
    /// The sandbox's cgroup, parent of its containers' cgroups.
    pub cgroup: CgroupPath,
    /// Limits of all containers together.
    pub resources: Resources,
    /// Namespaced kernel parameters, `net.ipv4.ip_unprivileged_port_start` -> `0`.
    pub sysctls: BTreeMap<String, String>,
}

/// What a container is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ContainerSpec {
    /// Name; also the name of its cgroup below the sandbox's.
    pub id: ContainerId,
    /// The sandbox it lives in; must exist.
    pub sandbox: SandboxId,
    /// Unpacked image layers, lowest first.
    pub layers: Vec<PathBuf>,
    /// Command and arguments. The first is looked up in `PATH` of `env`.
    pub args: Vec<String>,
    /// `NAME=value`, later entries win.
    pub env: Vec<String>,
    /// Working directory inside; made if it is missing. Empty means `/`.
    pub cwd: PathBuf,
    /// Who runs it.
    pub user: User,
    /// Mounts in order, after `/proc`, `/dev`, `/sys` and their kind.
    pub mounts: Vec<Mount>,
    /// Limits.
    pub resources: Resources,
    /// Changes to the default capability set.
    pub capabilities: Capabilities,
    /// All capabilities, all devices, nothing masked, no seccomp filter.
    pub privileged: bool,
    /// The root file system cannot be written.
    pub read_only_rootfs: bool,
    /// Set-user-id programs gain nothing.
    pub no_new_privs: bool,
    /// System call filter.
    pub seccomp: Seccomp,
    /// Leaves `/proc` and `/sys` as they are: nothing masked, nothing read-only.
    pub unmasked_proc: bool,
    /// A terminal as standard input, output and error.
    pub tty: bool,
    /// Standard input stays open for `attach`; else it is `/dev/null`.
    pub stdin: bool,
    /// Log file; its directory must exist. Rotated files are `<log_path>.1` and so on.
    pub log_path: PathBuf,
    /// -1000 to 1000.
    pub oom_score_adj: i32,
    /// Device nodes beyond the standard ones, by path on the host.
    pub devices: Vec<Device>,
    /// Bytes a second that the log takes; what comes faster waits in the container. The usual rate,
    /// [`ContainerSpec::DEFAULT_LOG_RATE`], if `None`.
    #[serde(default)]
    pub log_rate: Option<u64>,
    /// A running container of the same sandbox whose process namespace it joins: it sees and may trace
    /// its processes, and ends with it.
    #[serde(default)]
    pub process_namespace_of: Option<ContainerId>,
    /// `RLIMIT_NOFILE` and its kind: name without prefix in lower case (`nofile`) -> soft, hard.
    pub rlimits: BTreeMap<String, (u64, u64)>,
}

impl ContainerSpec {
    /// Bytes a second that a container's log takes for long; four times as much at once.
    pub const DEFAULT_LOG_RATE: u64 = 4 << 20;

    /// A container with nothing but a name, a root and a command: default security, no limits.
    pub fn new(
        id: ContainerId,
        sandbox: SandboxId,
        layers: Vec<PathBuf>,
        args: Vec<String>,
        log_path: PathBuf,
    ) -> Self {
        Self {
            id,
            sandbox,
            layers,
            args,
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            user: User::default(),
            mounts: Vec::new(),
            resources: Resources::default(),
            capabilities: Capabilities::default(),
            privileged: false,
            read_only_rootfs: false,
            no_new_privs: false,
            seccomp: Seccomp::Default,
            unmasked_proc: false,
            tty: false,
            stdin: false,
            log_path,
            oom_score_adj: 0,
            devices: Vec::new(),
            log_rate: None,
            process_namespace_of: None,
            rlimits: BTreeMap::new(),
        }
    }
}

/// Who runs a process. Names are looked up in the image's own `/etc/passwd` and `/etc/group`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct User {
    /// `user`, `user:group`, numbers or names, as an image says it; empty means root.
    pub image: String,
    /// Overrides the user.
    pub uid: Option<u32>,
    /// Overrides the primary group.
    pub gid: Option<u32>,
    /// Groups beyond those that the image's `/etc/group` gives the user.
    pub supplementary_groups: Vec<u32>,
}

/// Changes to the default capability set. Names with or without `CAP_`, `ALL` for every one.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Capabilities {
    /// Added after `drop`, unless `add` holds `ALL`.
    pub add: Vec<String>,
    /// Taken away.
    pub drop: Vec<String>,
}

/// The system call filter of a container.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Seccomp {
    /// Only what ordinary programs need.
    #[default]
    Default,
    /// No filter.
    Unconfined,
}

/// One mount of a container.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Mount {
    /// Path on the host; empty for a tmpfs.
    pub source: PathBuf,
    /// Absolute path inside; made if it is missing, resolved inside the root.
    pub target: PathBuf,
    /// Cannot be written through this mount.
    pub read_only: bool,
    /// What is mounted.
    pub kind: MountKind,
    /// Path below `source`, resolved without ever leaving it; made as a directory if it is missing.
    pub sub_path: Option<PathBuf>,
    /// Whether later mounts show up on the other side.
    pub propagation: Propagation,
}

/// What is mounted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum MountKind {
    /// A file or directory of the host.
    Bind,
    /// Fresh memory, of at most so many bytes.
    Tmpfs {
        /// Bytes; half of the memory if `None`.
        size: Option<u64>,
    },
}

/// Whether later mounts show up on the other side.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Propagation {
    /// Neither way.
    #[default]
    Private,
    /// What the host mounts later shows up inside.
    HostToContainer,
    /// And the other way round.
    Bidirectional,
}

/// A device node of the host that shows up in a container.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Device {
    /// Path on the host.
    pub source: PathBuf,
    /// Path inside.
    pub target: PathBuf,
    /// Some of `r`, `w`, `m`.
    pub access: String,
}

/// A command to run in a running container.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ExecSpec {
    /// Command and arguments.
    pub args: Vec<String>,
    /// Added to the container's own environment.
    pub env: Vec<String>,
    /// Working directory; the container's own if `None`.
    pub cwd: Option<PathBuf>,
    /// Who runs it; the container's own user if `None`.
    pub user: Option<User>,
    /// A terminal as standard input, output and error.
    pub tty: bool,
    /// Standard input comes from the caller; else it is `/dev/null`.
    pub stdin: bool,
}

/// How a process ended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ExitStatus {
    /// Exit code; 128 + signal if a signal ended it; 255 if `unknown`.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed one of its processes for want of memory.
    pub oom_killed: bool,
    /// Nobody was there to see how it ended: the keeper had died, or the machine.
    pub unknown: bool,
    /// When it was started, if it was.
    pub started_at: Option<Timestamp>,
    /// When it ended, or was found to have ended.
    pub finished_at: Timestamp,
}

/// Where a container is in its life. It only moves down this list.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Phase {
    /// Being set up; left by `execve` of its command or by a failure.
    Created,
    /// Its command runs; left when that ends.
    Running {
        /// Process id as the host sees it.
        pid: i32,
        /// When its command was started.
        started_at: Timestamp,
    },
    /// Its command ended. The writable layer and the log are still there.
    Exited(ExitStatus),
}

/// A container as the keeper sees it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ContainerState {
    /// Its name.
    pub id: ContainerId,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// Where it is in its life.
    pub phase: Phase,
}

/// A sandbox as the keeper sees it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SandboxState {
    /// Its name.
    pub id: SandboxId,
    /// Path of its network namespace for `setns`; `None` on the host's network.
    pub netns: Option<PathBuf>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Everything the keeper holds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Inventory {
    /// Sandboxes by name.
    pub sandboxes: Vec<SandboxState>,
    /// Containers by name, ended ones that were not removed among them.
    pub containers: Vec<ContainerState>,
}

/// What a container uses at this moment.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Stats {
    /// CPU time since its start, in nanoseconds.
    pub cpu_usage_ns: u64,
    /// Memory charged to it, in bytes.
    pub memory_usage: u64,
    /// The same without page cache that can be dropped at once.
    pub memory_working_set: u64,
    /// Anonymous memory, in bytes.
    pub memory_rss: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Times the kernel killed one of its processes for want of memory.
    pub oom_kills: u64,
}

/// Something happened that nobody asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RuntimeEvent {
    /// A container's command ended.
    Exited {
        /// Which one.
        id: ContainerId,
        /// How.
        exit: ExitStatus,
    },
    /// The keeper had died and another one took over: list again.
    KeeperRestarted,
}
