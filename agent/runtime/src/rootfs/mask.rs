//! Parts of `/proc` and `/sys` that containers do not see, or cannot write.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use agent_sys::{MountAttr, mount_setattr};
use rustix::fs::{FileType, OFlags, major, minor};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, open_tree,
};

use super::{Root, attach_mount, file_type};

/// Puts an empty directory, or a null device, over each path that exists.
pub(crate) fn mask_paths(root: &Root, paths: &[String]) -> io::Result<()> {
    let null = verified_null(root)?;
    for path in paths {
        let target = match root.open(Path::new(path), OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            other => other?,
        };
        let cover = if file_type(&target)?.is_dir() { empty_dir()? } else { clone_tree(&null)? };
        attach_mount(cover, target)?;
    }
    Ok(())
}

/// Makes each path that exists read-only.
pub(crate) fn protect_paths(root: &Root, paths: &[String]) -> io::Result<()> {
    for path in paths {
        let target = match root.open(Path::new(path), OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            other => other?,
        };
        let tree = clone_tree(&target)?;
        let set = MountAttrFlags::MOUNT_ATTR_RDONLY;
        mount_setattr(tree.as_fd(), MountAttr { set, propagation: None, recursive: true })?;
        attach_mount(tree, target)?;
    }
    Ok(())
}

/// The null device, and nothing that was put in its place.
fn verified_null(root: &Root) -> io::Result<OwnedFd> {
    let null = root.open(Path::new("/dev/null"), OFlags::PATH | OFlags::NOFOLLOW)?;
    let stat = rustix::fs::fstat(&null)?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3);
    if is_null { Ok(null) } else { Err(io::Error::other("/dev/null is not the null device")) }
}

fn clone_tree(of: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(of, "", flags)?)
}

fn empty_dir() -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "nr_blocks", "1")?;
    fsconfig_set_string(context.as_fd(), "nr_inodes", "2")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}
