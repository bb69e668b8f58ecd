//! The mounts of a container, in two steps: sources are opened while the host's mounts can be seen and
//! still propagate, targets when the root stands.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use agent_sys::{MountAttr, Propagation, mount_setattr};
use oci_spec::runtime::Mount;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};

use super::{Root, attach_mount, dev, file_type};

/// A mount whose source is open.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// A detached copy of a part of the host's tree.
    Bind { tree: OwnedFd, is_dir: bool },
    /// A file system that the kernel makes when it is mounted.
    Kernel,
    /// Does not exist on this machine.
    Skipped,
}

const PROC_MAGIC: i64 = 0x9fa0;

/// Opens the source of a mount.
pub(crate) fn prepare(mount: &Mount, sub_path: Option<&Path>) -> io::Result<Prepared> {
    let kind = mount.typ().as_deref().unwrap_or("bind");
    match kind {
        "bind" => {}
        "cgroup" if !cgroups_rs::fs::hierarchies::is_cgroup2_unified_mode() => {
            return Ok(Prepared::Skipped);
        }
        _ => return Ok(Prepared::Kernel),
    }
    let source = mount.source().as_deref().ok_or(io::ErrorKind::InvalidInput)?;
    let mut source = rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if let Some(sub_path) = sub_path {
        // Who may write to the volume may write to a directory that is made in it.
        let mode = Mode::from_raw_mode(rustix::fs::fstat(&source)?.st_mode & 0o7777);
        let volume = Root::new(source);
        source = match volume.open(sub_path, OFlags::PATH) {
            Err(rustix::io::Errno::NOENT) => volume.ensure_dir_with(sub_path, mode)?,
            other => other?,
        };
    }
    let kind = file_type(&source)?;
    if kind.is_symlink() {
        // A link below a sub-path cannot be followed safely, and is nothing to mount.
        return Err(io::Error::from_raw_os_error(nix::libc::ELOOP));
    }
    let is_dir = kind.is_dir();
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    Ok(Prepared::Bind { tree: open_tree(&source, "", flags)?, is_dir })
}

/// Mounts what was prepared below the root.
pub(crate) fn attach(root: &Root, mount: &Mount, prepared: &Prepared) -> io::Result<()> {
    let target = mount.destination();
    match prepared {
        Prepared::Skipped => Ok(()),
        Prepared::Bind { tree, is_dir } => {
            set_bind_options(tree, mount)?;
            let target = if *is_dir { root.ensure_dir(target)? } else { root.ensure_file(target)? };
            if rustix::fs::fstatfs(&target)?.f_type == PROC_MAGIC {
                return Err(io::Error::other("nothing may be mounted inside /proc"));
            }
            attach_mount(tree, target)
        }
        Prepared::Kernel => {
            let made = make(mount)?;
            if target == Path::new("/dev") {
                dev::populate(&made)?;
            }
            let target = if is_own(target) {
                root.ensure_plain_dir(target)?
            } else {
                root.ensure_dir(target)?
            };
            attach_mount(made, target)
        }
    }
}

/// The places that the runtime itself mounts on, where an image may not redirect it.
fn is_own(target: &Path) -> bool {
    ["/proc", "/dev", "/sys"].iter().any(|it| target == Path::new(it))
}

fn set_bind_options(tree: &OwnedFd, mount: &Mount) -> io::Result<()> {
    let options = mount.options().as_deref().unwrap_or_default();
    let has = |name: &str| options.iter().any(|it| it == name);
    let propagation = if has("rshared") {
        Propagation::Shared
    } else if has("rslave") {
        Propagation::Slave
    } else {
        Propagation::Private
    };
    let set = MountAttrFlags::empty();
    let attr = MountAttr { set, propagation: Some(propagation), recursive: true };
    mount_setattr(tree.as_fd(), attr)?;
    let set = attributes(options);
    if !set.is_empty() {
        mount_setattr(tree.as_fd(), MountAttr { set, propagation: None, recursive: false })?;
    }
    Ok(())
}

fn attribute(option: &str) -> Option<MountAttrFlags> {
    Some(match option {
        "ro" => MountAttrFlags::MOUNT_ATTR_RDONLY,
        "nosuid" => MountAttrFlags::MOUNT_ATTR_NOSUID,
        "nodev" => MountAttrFlags::MOUNT_ATTR_NODEV,
        "noexec" => MountAttrFlags::MOUNT_ATTR_NOEXEC,
        "noatime" => MountAttrFlags::MOUNT_ATTR_NOATIME,
        "strictatime" => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
        "nosymfollow" => MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW,
        "rw" | "relatime" | "bind" | "rbind" | "private" | "rprivate" | "rslave" | "rshared" => {
            MountAttrFlags::empty()
        }
        _ => return None,
    })
}

fn attributes(options: &[String]) -> MountAttrFlags {
    options.iter().filter_map(|it| attribute(it)).fold(MountAttrFlags::empty(), |a, b| a | b)
}

/// A new instance of a file system that the kernel itself fills.
fn make(mount: &Mount) -> io::Result<OwnedFd> {
    let options = mount.options().as_deref().unwrap_or_default();
    let kind = match mount.typ().as_deref() {
        Some("cgroup") => "cgroup2",
        Some(kind) => kind,
        None => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", kind)?;
    for option in options.iter().filter(|it| attribute(it).is_none()) {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(context.as_fd(), key, value)?,
            None => fsconfig_set_flag(context.as_fd(), option.as_str())?,
        }
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes(options))?)
}
