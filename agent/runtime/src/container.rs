//! A container's first process, from `clone3` to `execve`, and commands that join it later.
//!
//! The keeper clones; the child walks one of two lists of steps, top to bottom, each checked. What fails
//! travels back over a channel, because after the pivot there is no other way out. The channel closes
//! when the command is executed, so the parent sees `Executing`, then the end: anything else is a failure.
//!
//! The child is a copy of a single-threaded process: it may allocate, but it must not log, must not
//! return, and must not drop what it shares with its parent on the way out.

mod privilege;
mod setup;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};

use crate::cgroup::Entry;
use crate::protocol;
use crate::rootfs::{Prepared, Root};
use crate::seccomp::Profile;
use crate::spec::Bundle;
use crate::types::User;
use crate::user::Identity;

/// A step on the way to `execve`, in order.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Step {
    /// A session of its own, default signals, no umask.
    Session,
    /// Resource limits and the score for the OOM killer: needs the host's `/proc` and all capabilities.
    Limits,
    /// Into its cgroup, then a cgroup namespace with that as its root.
    Cgroup,
    /// Into the sandbox's namespaces.
    Namespaces,
    /// Into all namespaces of a running container.
    Join,
    /// Sources of mounts are opened while they still propagate from the host.
    Sources,
    /// From here on nothing that is mounted shows up on the host.
    Propagation,
    /// The image's layers, a writable one on top.
    Overlay,
    /// Everything below the root.
    Mounts,
    /// Devices beyond the standard ones.
    Devices,
    /// Parts of `/proc` and `/sys` are hidden or made read-only.
    Masks,
    /// The root is made read-only, if asked for: after the mounts, which may need directories made.
    ReadOnlyRoot,
    /// The host's root is let go of.
    Pivot,
    /// Names become numbers, by the image's own files.
    User,
    /// Standard input, output and error.
    Stdio,
    /// Keys of the host stay with the host.
    Keyring,
    /// Every other descriptor is closed: before the working directory, which could name one.
    Descriptors,
    /// Opened inside the root, and looked at again from where we ended up.
    WorkingDirectory,
    /// Before the filter: without `CAP_SYS_ADMIN` the kernel insists on this order.
    NoNewPrivileges,
    /// The filter, if new privileges are allowed: loading it needs the capabilities that go next.
    EarlySeccomp,
    /// Needs `CAP_SETPCAP`, so before the other sets.
    BoundingSet,
    /// Groups, group, user: in this order, each needs what the next takes away.
    Ids,
    /// The rest of the capabilities.
    Capabilities,
    /// The filter, if no new privileges are allowed: last, so that it need not allow what we do here.
    LateSeccomp,
    /// The command.
    Execute,
}

impl Step {
    /// What the step is for, in an operator's words; the last one's reason says it all.
    fn purpose(self) -> Option<&'static str> {
        Some(match self {
            Self::Session => "begin a session",
            Self::Limits => "set resource limits",
            Self::Cgroup => "enter the cgroup",
            Self::Namespaces => "enter the sandbox's namespaces",
            Self::Join => "enter the container's namespaces",
            Self::Sources => "open a mount",
            Self::Propagation => "separate mounts from the host's",
            Self::Overlay => "mount the image's layers",
            Self::Mounts => "mount",
            Self::Devices => "make devices",
            Self::Masks => "hide parts of /proc and /sys",
            Self::ReadOnlyRoot => "make the root read-only",
            Self::Pivot => "change the root",
            Self::User => "find the user",
            Self::Stdio => "open standard input and output",
            Self::Keyring => "begin a keyring",
            Self::Descriptors => "close descriptors",
            Self::WorkingDirectory => "enter the working directory",
            Self::NoNewPrivileges => "forbid new privileges",
            Self::EarlySeccomp | Self::LateSeccomp => "load the system call filter",
            Self::BoundingSet | Self::Capabilities => "drop capabilities",
            Self::Ids => "become the user",
            Self::Execute => return None,
        })
    }
}

type StepFn = fn(&mut Start<'_>) -> io::Result<()>;

/// A new container.
const CREATE: &[(Step, StepFn)] = &[
    (Step::Session, setup::session),
    (Step::Limits, setup::limits),
    (Step::Cgroup, setup::cgroup),
    (Step::Namespaces, setup::namespaces),
    (Step::Sources, setup::sources),
    (Step::Propagation, setup::propagation),
    (Step::Overlay, setup::overlay),
    (Step::Mounts, setup::mounts),
    (Step::Devices, setup::devices),
    (Step::Masks, setup::masks),
    (Step::ReadOnlyRoot, setup::read_only_root),
    (Step::Pivot, setup::pivot),
    (Step::User, privilege::user),
    (Step::Stdio, privilege::stdio),
    (Step::Keyring, privilege::keyring),
    (Step::Descriptors, privilege::descriptors),
    (Step::WorkingDirectory, privilege::working_directory),
    (Step::NoNewPrivileges, privilege::no_new_privileges),
    (Step::EarlySeccomp, privilege::early_seccomp),
    (Step::BoundingSet, privilege::bounding_set),
    (Step::Ids, privilege::ids),
    (Step::Capabilities, privilege::capabilities),
    (Step::LateSeccomp, privilege::late_seccomp),
    (Step::Execute, privilege::execute),
];

/// A command in a running container.
const EXEC: &[(Step, StepFn)] = &[
    (Step::Session, setup::session),
    (Step::Limits, setup::limits),
    (Step::Cgroup, setup::join_cgroup),
    (Step::Join, setup::join),
    (Step::User, privilege::user),
    (Step::Stdio, privilege::stdio),
    (Step::Keyring, privilege::keyring),
    (Step::Descriptors, privilege::descriptors),
    (Step::WorkingDirectory, privilege::working_directory),
    (Step::NoNewPrivileges, privilege::no_new_privileges),
    (Step::EarlySeccomp, privilege::early_seccomp),
    (Step::BoundingSet, privilege::bounding_set),
    (Step::Ids, privilege::ids),
    (Step::Capabilities, privilege::capabilities),
    (Step::LateSeccomp, privilege::late_seccomp),
    (Step::Execute, privilege::execute),
];

/// What a child says to its parent.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Report {
    /// The other side of its terminal comes with this message.
    Terminal,
    /// All steps but the last are done; if nothing follows, the command runs.
    Executing,
    /// A step failed.
    Failed(Failure),
}

/// The step that failed, and why.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) errno: Option<i32>,
    pub(crate) reason: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step.purpose() {
            Some(purpose) => write!(f, "could not {purpose}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

/// Where standard input, output and error come from.
#[derive(Debug)]
pub(crate) enum Stdio {
    /// `None` is `/dev/null` of the container.
    Streams([Option<OwnedFd>; 3]),
    /// A terminal is made inside the container, and its other side reported.
    Terminal,
}

/// Directories on the host.
#[derive(Clone, Debug)]
pub(crate) struct Dirs {
    pub(crate) rootfs: PathBuf,
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
}

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: PathBuf,
    pub(crate) user: User,
}

/// Everything a child needs, and what it finds out on the way.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) bundle: &'a Bundle,
    pub(crate) command: Command,
    pub(crate) dirs: &'a Dirs,
    pub(crate) entry: Entry,
    /// Namespaces to go into, by descriptor.
    pub(crate) namespaces: Vec<BorrowedFd<'a>>,
    /// The running container to join.
    pub(crate) target: Option<BorrowedFd<'a>>,
    pub(crate) stdio: Stdio,
    pub(crate) profile: Option<&'a Profile>,
    /// Limits of open files that this process had before it raised its own.
    pub(crate) nofile: (u64, u64),
    pub(crate) found: Found,
}

/// What steps leave for later ones.
#[derive(Debug, Default)]
pub(crate) struct Found {
    channel: Option<OwnedFd>,
    prepared: Vec<Prepared>,
    root: Option<Root>,
    identity: Option<Identity>,
}

/// A child on its way to `execve`.
#[derive(Debug)]
pub(crate) struct Starting {
    pub(crate) child: agent_sys::Child,
    /// Reports come from here.
    pub(crate) channel: OwnedFd,
}

/// Starts a container's first process.
pub(crate) fn create(start: Start<'_>, own_pid_namespace: bool) -> io::Result<Starting> {
    let mut namespaces = CloneFlags::CLONE_NEWNS;
    if own_pid_namespace {
        namespaces |= CloneFlags::CLONE_NEWPID;
    }
    spawn(start, namespaces, CREATE)
}

/// Starts a command in a running container; the caller has set the process namespace for its children.
pub(crate) fn exec(start: Start<'_>) -> io::Result<Starting> {
    spawn(start, CloneFlags::empty(), EXEC)
}

fn spawn(
    mut start: Start<'_>,
    namespaces: CloneFlags,
    steps: &[(Step, StepFn)],
) -> io::Result<Starting> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let flags = SocketFlags::CLOEXEC;
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let born_in = match &start.entry {
        Entry::BornIn(dir) => Some(dir.try_clone()?),
        Entry::Files(_) => None,
    };
    start.found.channel = Some(far);
    // The child owns a copy of `start` that it never drops; the parent drops its own here.
    let child = agent_sys::clone3(namespaces, born_in.as_ref().map(AsFd::as_fd), || {
        walk(&mut start, steps)
    })?;
    Ok(Starting { child, channel: near })
}

/// Walks the steps. Comes back only to exit.
fn walk(start: &mut Start<'_>, steps: &[(Step, StepFn)]) -> i32 {
    for (step, run) in steps {
        if let Err(err) = run(start) {
            let errno = err.raw_os_error();
            let reason = match (step, start.command.args.first()) {
                (Step::Execute, Some(name)) => cannot_execute(name, &err),
                _ => err.to_string(),
            };
            let failure = Failure { step: *step, errno, reason };
            // If nobody listens any more there is nobody left to tell.
            let _ = report(start, &Report::Failed(failure), &[]);
            break;
        }
    }
    127
}

/// Why a command does not run, as other runtimes say it.
fn cannot_execute(name: &str, err: &io::Error) -> String {
    let why = match err.raw_os_error() {
        Some(nix::libc::ENOENT) if name.contains('/') => "no such file or directory".to_owned(),
        Some(nix::libc::ENOENT) => "executable file not found in $PATH".to_owned(),
        Some(nix::libc::EACCES) => "permission denied".to_owned(),
        Some(nix::libc::ENOEXEC) => {
            "exec format error: is it made for another kind of processor, or a script without #!?"
                .to_owned()
        }
        _ => err.to_string(),
    };
    format!("exec: {name:?}: {why}")
}

fn report(start: &Start<'_>, report: &Report, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let channel = start.found.channel.as_ref().ok_or(io::ErrorKind::NotConnected)?;
    let packet = serde_json::to_vec(report)?;
    protocol::send(channel, &packet, fds).map(|_| ())
}
