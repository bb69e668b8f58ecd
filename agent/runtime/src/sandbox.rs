//! A sandbox's namespaces: a short-lived process makes them, the keeper takes hold of them.
//!
//! No process stays behind, but where all containers share their processes: there an init of ours is
//! pid 1, in an empty root, with no capability and nothing to do but reap.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::process::Pid;

use crate::cgroup::Entry;
use crate::rootfs::{self, Root};
use crate::types::SandboxSpec;
use crate::{capability, protocol};

/// Says that all went well; anything else is a reason.
pub(crate) const READY: &[u8] = b"\0";

/// The process that made the namespaces, and a channel on which it says that it is done. It stays
/// until it is killed.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) child: agent_sys::Child,
    pub(crate) channel: OwnedFd,
}

/// In a network of its own nothing is anybody else's: as other runtimes have it, low ports and `ping` need no
/// capability there.
const FOR_EVERYBODY: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// The namespaces that a sandbox has for itself, by their name below `/proc/<pid>/ns`.
pub(crate) fn own_namespaces(spec: &SandboxSpec) -> BTreeMap<&'static str, CloneFlags> {
    let all = [
        ("net", CloneFlags::CLONE_NEWNET, !spec.host_network),
        ("uts", CloneFlags::CLONE_NEWUTS, !spec.host_network),
        ("ipc", CloneFlags::CLONE_NEWIPC, !spec.host_ipc),
        ("pid", CloneFlags::CLONE_NEWPID, has_init(spec)),
    ];
    all.into_iter().filter(|(_, _, own)| *own).map(|(name, flag, _)| (name, flag)).collect()
}

/// Whether an init of ours is pid 1 of all containers.
pub(crate) fn has_init(spec: &SandboxSpec) -> bool {
    spec.share_process_namespace && !spec.host_pid
}

/// Makes the namespaces.
pub(crate) fn make(spec: &SandboxSpec, entry: Entry) -> io::Result<Made> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let flags = SocketFlags::CLOEXEC;
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let mut namespaces = own_namespaces(spec).into_values().fold(CloneFlags::empty(), |a, b| a | b);
    if has_init(spec) {
        namespaces |= CloneFlags::CLONE_NEWNS;
    }
    let born_in = match &entry {
        Entry::BornIn(dir) if has_init(spec) => Some(dir.as_fd()),
        Entry::BornIn(_) | Entry::Files(_) => None,
    };
    let keeper = rustix::process::getpid();
    let child = agent_sys::clone3(namespaces, born_in, || match prepare(spec, &entry) {
        Ok(()) => hold(spec, keeper, far.as_fd()),
        Err(err) => {
            // If nobody listens any more there is nobody left to tell.
            let _ = protocol::send(&far, err.to_string().as_bytes(), &[]);
            1
        }
    })?;
    Ok(Made { child, channel: near })
}

fn prepare(spec: &SandboxSpec, entry: &Entry) -> io::Result<()> {
    agent_sys::reset_pipe_signal()?;
    if !spec.host_network {
        nix::unistd::sethostname(&spec.hostname)?;
        agent_sys::set_link_up("lo")?;
        for (name, value) in FOR_EVERYBODY {
            match set_sysctl(spec, name, value) {
                // Not in this kernel.
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    for (name, value) in &spec.sysctls {
        set_sysctl(spec, name, value)?;
    }
    match entry {
        Entry::Files(files) if has_init(spec) => {
            files.iter().try_for_each(|it| rustix::io::write(it, b"0").map(|_| ()))?;
        }
        Entry::Files(_) | Entry::BornIn(_) => {}
    }
    Ok(())
}

/// Whether a kernel parameter is the sandbox's and not the host's.
fn is_own_sysctl(spec: &SandboxSpec, name: &str) -> bool {
    let is_ipc = name.starts_with("kernel.shm")
        || name.starts_with("kernel.msg")
        || name.starts_with("fs.mqueue.")
        || name == "kernel.sem";
    (name.starts_with("net.") && !spec.host_network) || (is_ipc && !spec.host_ipc)
}

/// Sets a kernel parameter, if it belongs to the sandbox's own namespaces.
fn set_sysctl(spec: &SandboxSpec, name: &str, value: &str) -> io::Result<()> {
    if !is_own_sysctl(spec, name) || name.contains('/') || name.contains("..") {
        return Err(io::Error::other(format!("parameter {name:?} does not belong to a sandbox")));
    }
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, value.as_bytes())?;
    Ok(())
}

/// Says that all is made, and stays: for ever as an init, else until the other side, which then has hold
/// of the namespaces, ends it.
fn hold(spec: &SandboxSpec, keeper: Pid, channel: BorrowedFd<'_>) -> i32 {
    let ready = if has_init(spec) { leave_the_host() } else { die_with(keeper) };
    if let Err(err) = ready {
        // If nobody listens any more there is nobody left to tell.
        let _ = protocol::send(channel, err.to_string().as_bytes(), &[]);
        return 1;
    }
    if protocol::send(channel, READY, &[]).is_err() {
        return 1;
    }
    reap_for_ever(channel)
}

fn die_with(keeper: Pid) -> io::Result<()> {
    let signal = rustix::process::Signal::KILL;
    rustix::process::set_parent_process_death_signal(Some(signal))?;
    // A keeper that ended before that sends no signal any more.
    match rustix::process::getppid() {
        Some(parent) if parent == keeper => Ok(()),
        _ => Err(io::Error::other("the keeper ended meanwhile")),
    }
}

/// An empty root, no capabilities: whoever shares the process namespace finds nothing to take here.
fn leave_the_host() -> io::Result<()> {
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::DOWNSTREAM
            | rustix::mount::MountPropagationFlags::REC,
    )?;
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let empty = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    rustix::mount::move_mount(
        &empty,
        "",
        rustix::fs::CWD,
        Path::new("/proc"),
        rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?;
    rootfs::pivot(&Root::new(empty))?;
    // The keeper's log would be within reach of who may look into this process.
    rustix::stdio::dup2_stderr(rustix::stdio::stdin())?;
    rustix::process::setsid()?;
    rustix::thread::set_no_new_privs(true)?;
    capability::limit_bounding_set(0)?;
    capability::limit(0)
}

fn reap_for_ever(channel: BorrowedFd<'_>) -> i32 {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    if sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None).is_err()
        || agent_sys::close_all_but(channel).is_err()
    {
        return 1;
    }
    loop {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
        if mask.wait().is_err() {
            return 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{CgroupPath, SandboxId};
    use crate::types::Resources;

    #[test]
    fn parameters_of_the_host_stay_as_they_are() {
        let mut spec = SandboxSpec {
            id: SandboxId::new("s").unwrap(),
            hostname: "s".to_owned(),
            host_network: false,
            host_pid: false,
            host_ipc: false,
            share_process_namespace: false,
            cgroup: CgroupPath::new("s").unwrap(),
            resources: Resources::default(),
            sysctls: BTreeMap::new(),
        };
        for (name, own) in [
            ("net.ipv4.ip_forward", true),
            ("kernel.shmmax", true),
            ("fs.mqueue.msg_max", true),
            ("kernel.core_pattern", false),
            ("vm.overcommit_memory", false),
        ] {
            assert_eq!(is_own_sysctl(&spec, name), own, "{name}");
        }
        (spec.host_network, spec.host_ipc) = (true, true);
        assert!(!is_own_sysctl(&spec, "net.ipv4.ip_forward"));
        assert!(!is_own_sysctl(&spec, "kernel.shmmax"));
    }
}
