//! Steps up to the pivot: limits, cgroup, namespaces, mounts.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use agent_sys::{MountAttr, Propagation, mount_setattr};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;
use rustix::process::{Resource, Rlimit};
use rustix::thread::{
    ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};

use super::Start;
use crate::cgroup::Entry;
use crate::rootfs;

/// What a step finds missing that an earlier step should have left.
pub(super) fn missing() -> io::Error {
    io::Error::other("an earlier step left nothing")
}

pub(super) fn session(_: &mut Start<'_>) -> io::Result<()> {
    agent_sys::reset_pipe_signal()?;
    rustix::process::setsid()?;
    rustix::process::umask(Mode::empty());
    Ok(())
}

pub(super) fn limits(start: &mut Start<'_>) -> io::Result<()> {
    let process = start.bundle.spec.process().as_ref().ok_or_else(missing)?;
    let (soft, hard) = start.nofile;
    rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit { current: Some(soft), maximum: Some(hard) },
    )?;
    for limit in process.rlimits().iter().flatten() {
        let resource = resource(&limit.typ().to_string()).ok_or(io::ErrorKind::InvalidInput)?;
        let finite = |value: u64| (value != u64::MAX).then_some(value);
        let limit = Rlimit { current: finite(limit.soft()), maximum: finite(limit.hard()) };
        rustix::process::setrlimit(resource, limit)?;
    }
    let score = process.oom_score_adj().unwrap_or(0).to_string();
    write_existing(Path::new("/proc/self/oom_score_adj"), &score)
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        _ => return None,
    })
}

fn write_existing(path: &Path, text: &str) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes())?;
    Ok(())
}

pub(super) fn join_cgroup(start: &mut Start<'_>) -> io::Result<()> {
    if let Entry::Files(files) = &start.entry {
        for file in files {
            rustix::io::write(file, b"0")?;
        }
    }
    Ok(())
}

pub(super) fn cgroup(start: &mut Start<'_>) -> io::Result<()> {
    join_cgroup(start)?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)?;
    Ok(())
}

pub(super) fn namespaces(start: &mut Start<'_>) -> io::Result<()> {
    for namespace in &start.namespaces {
        move_into_link_name_space(*namespace, None)?;
    }
    Ok(())
}

pub(super) fn join(start: &mut Start<'_>) -> io::Result<()> {
    let target = start.target.ok_or_else(missing)?;
    let namespaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::NETWORK;
    move_into_thread_name_spaces(target, namespaces)?;
    Ok(())
}

pub(super) fn sources(start: &mut Start<'_>) -> io::Result<()> {
    for (at, mount) in start.bundle.spec.mounts().iter().flatten().enumerate() {
        let sub_path = start.bundle.sub_paths.get(&at).map(AsRef::as_ref);
        let prepared = rootfs::prepare(mount, sub_path).map_err(|err| {
            let source = mount.source().as_deref().unwrap_or_else(|| Path::new("")).display();
            with_name(err, &format!("source {source}"))
        })?;
        start.found.prepared.push(prepared);
    }
    Ok(())
}

pub(super) fn propagation(_: &mut Start<'_>) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty())?;
    let set = MountAttrFlags::empty();
    let attr = MountAttr { set, propagation: Some(Propagation::Slave), recursive: true };
    mount_setattr(root.as_fd(), attr)
}

pub(super) fn overlay(start: &mut Start<'_>) -> io::Result<()> {
    let dirs = start.dirs;
    let layers = &start.bundle.layers;
    let root = rootfs::mount_overlay(layers, &dirs.upper, &dirs.work, &dirs.rootfs)?;
    let set = MountAttrFlags::empty();
    let attr = MountAttr { set, propagation: Some(Propagation::Private), recursive: false };
    mount_setattr(root.as_fd(), attr)?;
    start.found.root = Some(root);
    Ok(())
}

pub(super) fn mounts(start: &mut Start<'_>) -> io::Result<()> {
    let root = start.found.root.as_ref().ok_or_else(missing)?;
    let mounts = start.bundle.spec.mounts().iter().flatten();
    for (mount, prepared) in mounts.zip(&start.found.prepared) {
        rootfs::attach(root, mount, prepared)
            .map_err(|err| with_name(err, &format!("{}", mount.destination().display())))?;
    }
    Ok(())
}

/// Names what an error is about, and keeps its number.
fn with_name(err: io::Error, name: &str) -> io::Error {
    io::Error::new(err.kind(), format!("{name}: {err}"))
}

pub(super) fn devices(start: &mut Start<'_>) -> io::Result<()> {
    if start.bundle.privileged {
        let root = start.found.root.as_ref().ok_or_else(missing)?;
        rootfs::add_host_devices(root)?;
    }
    Ok(())
}

pub(super) fn masks(start: &mut Start<'_>) -> io::Result<()> {
    let root = start.found.root.as_ref().ok_or_else(missing)?;
    let linux = start.bundle.spec.linux().as_ref().ok_or_else(missing)?;
    rootfs::protect_paths(root, linux.readonly_paths().as_deref().unwrap_or_default())?;
    rootfs::mask_paths(root, linux.masked_paths().as_deref().unwrap_or_default())
}

pub(super) fn read_only_root(start: &mut Start<'_>) -> io::Result<()> {
    let root = start.found.root.as_ref().ok_or_else(missing)?;
    if start.bundle.spec.root().as_ref().and_then(|it| it.readonly()) != Some(true) {
        return Ok(());
    }
    let set = MountAttrFlags::MOUNT_ATTR_RDONLY;
    mount_setattr(root.as_fd(), MountAttr { set, propagation: None, recursive: false })
}

pub(super) fn pivot(start: &mut Start<'_>) -> io::Result<()> {
    rootfs::pivot(start.found.root.as_ref().ok_or_else(missing)?)
}
