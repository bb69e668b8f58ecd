//! Runs containers: namespaces, cgroups, root file systems, security, logs, and the keeper that holds it all.
//!
//! Two halves in one crate. The keeper is a small single-threaded process, parent of every container; the
//! agent talks to it through `Runtime` and may come and go. Decisions are made by neither: both do what a
//! specification says. This crate knows OCI and kernel words and must never learn what a pod is.

mod capability;
mod cgroup;
mod client;
mod clock;
mod container;
mod error;
#[cfg(test)]
mod fuzz;
mod ids;
mod keeper;
mod log;
mod protocol;
mod rootfs;
mod sandbox;
mod seccomp;
mod spec;
mod types;
mod user;

use std::ffi::OsString;
use std::process::ExitCode;

pub use client::{ExecProcess, Runtime};
pub use error::{CallError, ConnectError, Refusal, RefusalKind};
pub use ids::{CgroupPath, ContainerId, InvalidName, SandboxId};
pub use types::{
    Capabilities, ContainerSpec, ContainerState, Device, ExecSpec, ExitStatus, Inventory, Mount,
    MountKind, Phase, Propagation, Resources, RuntimeConfig, RuntimeEvent, SandboxSpec,
    SandboxState, Seccomp, Stats, User,
};

/// Tells this process, and with the next question the keeper, that it is at least this late: no time
/// that they write down lies before it.
pub fn raise_time_floor(floor: jiff::Timestamp) {
    clock::raise_floor(floor);
}

/// Runs this process as the keeper if the arguments say so. Must be the first thing in `main`.
///
/// `args` are all arguments, the program's name first.
pub fn dispatch(args: &[OsString]) -> Option<ExitCode> {
    (args.get(1)? == "keeper").then(|| keeper::run(args))
}
