//! A container's root file system: the overlay, and what is mounted below it.
//!
//! Whoever made the image or shares a volume may have put links anywhere, and may be changing them right
//! now. So nothing below a root is ever named by path: it is opened inside the root, and mounted from and
//! onto descriptors. Only `Root` knows how to open.

mod dev;
mod mask;
mod mounts;

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

pub(crate) use mask::{mask_paths, protect_paths};
pub(crate) use mounts::{Prepared, attach, prepare};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// What `mount(2)` takes of options, with the zero at their end.
const MAX_OPTIONS: usize = 4096;

/// A directory that nothing below it leads out of.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

impl Root {
    /// Makes `dir` a root.
    pub(crate) fn new(dir: OwnedFd) -> Self {
        Self(dir)
    }

    /// The root of this process.
    pub(crate) fn of_process() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open("/", flags, Mode::empty())?))
    }

    /// Opens what is there; links lead no further than the root, and magic links nowhere.
    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.open_with(path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    fn open_with(
        &self,
        path: &Path,
        flags: OFlags,
        resolve: ResolveFlags,
    ) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        // EAGAIN means that something was renamed while the kernel looked: look again, not for ever.
        for _ in 0..128 {
            match rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// A directory that must not be reached through any link; made if it is missing.
    pub(crate) fn ensure_plain_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        match self.open_with(relative, flags, resolve) {
            Err(Errno::NOENT) => {
                self.ensure_dir(path)?;
                Ok(self.open_with(relative, flags, resolve)?)
            }
            other => Ok(other?),
        }
    }

    /// A directory; it and its parents are made if they are missing.
    pub(crate) fn ensure_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        self.ensure_dir_with(path, Mode::from_raw_mode(0o755))
    }

    /// As `ensure_dir`; what is missing is made with this mode.
    pub(crate) fn ensure_dir_with(&self, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
        let mut done = PathBuf::from(".");
        let mut todo: Vec<_> = reversed_names(path);
        let mut links = 0;
        let mut dir = self.open(&done, OFlags::PATH | OFlags::DIRECTORY)?;
        while let Some(name) = todo.pop() {
            let next = done.join(&name);
            match self.open(&next, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(it) => (dir, done) = (it, next),
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(&dir, &name, mode) {
                        Ok(()) => todo.push(name),
                        // A link that leads to nothing yet: make what it leads to.
                        Err(Errno::EXIST) if links < MAX_LINKS => {
                            links += 1;
                            let target = rustix::fs::readlinkat(&dir, &name, Vec::new())?;
                            let target = PathBuf::from(bytes_to_os(target.to_bytes()));
                            let full =
                                if target.is_absolute() { target } else { done.join(target) };
                            todo.extend(reversed_names(&full));
                            done = PathBuf::from(".");
                            dir = self.open(&done, OFlags::PATH | OFlags::DIRECTORY)?;
                        }
                        Err(errno) => return Err(errno.into()),
                    }
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(dir)
    }

    /// Something that a file can be mounted on; it is made if it is missing.
    pub(crate) fn ensure_file(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            match self.open(&path, OFlags::PATH) {
                Err(Errno::NOENT) => {}
                other => return Ok(other?),
            }
            let name = path.file_name().ok_or(Errno::ISDIR)?;
            let parent = path.parent().unwrap_or_else(|| Path::new("/"));
            let dir = self.ensure_dir(parent)?;
            let flags =
                OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
            match rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o644)) {
                Ok(_) => {}
                // A link that leads to nothing yet, as images that were a machine have them: make
                // what it leads to. Something else was made meanwhile, and is found now.
                Err(Errno::EXIST) => match rustix::fs::readlinkat(&dir, name, Vec::new()) {
                    Ok(target) => path = parent.join(bytes_to_os(target.to_bytes())),
                    Err(Errno::INVAL) => {}
                    Err(errno) => return Err(errno.into()),
                },
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::LOOP.into())
    }

    /// Text of a regular file of at most a megabyte; empty if there is none.
    pub(crate) fn read_text(&self, path: &Path) -> io::Result<String> {
        let file = match self.open(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
            other => other?,
        };
        if file_type(&file)? != FileType::RegularFile {
            return Err(Errno::INVAL.into());
        }
        let mut bytes = Vec::new();
        let mut limited = io::Read::take(std::fs::File::from(file), 1024 * 1024);
        io::Read::read_to_end(&mut limited, &mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The names of a path from last to first, `..` taken back.
fn reversed_names(path: &Path) -> Vec<std::ffi::OsString> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name.to_owned()),
            Component::ParentDir => {
                names.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    names.reverse();
    names
}

fn bytes_to_os(bytes: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

/// What kind of thing a descriptor is.
pub(crate) fn file_type(fd: impl AsFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// Mounts what a descriptor of a detached mount holds onto another descriptor.
fn attach_mount(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

/// Mounts the layers, lowest first, with a writable one on top, at `target` of this mount namespace.
pub(crate) fn mount_overlay(
    layers: &[PathBuf],
    upper: &Path,
    work: &Path,
    target: &Path,
) -> io::Result<Root> {
    match mount_overlay_by_descriptor(layers, upper, work, target) {
        // Kernels before 6.5 take any option and refuse the whole at the end; those before 6.8 do not
        // know this one.
        Err(Errno::INVAL) => mount_overlay_by_options(layers, upper, work, target),
        result => Ok(result?),
    }
}

/// One layer an option: any number of layers, names of any form.
fn mount_overlay_by_descriptor(
    layers: &[PathBuf],
    upper: &Path,
    work: &Path,
    target: &Path,
) -> Result<Root, Errno> {
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in layers.iter().rev() {
        fsconfig_set_string(overlay.as_fd(), "lowerdir+", layer)?;
    }
    fsconfig_set_string(overlay.as_fd(), "upperdir", upper)?;
    fsconfig_set_string(overlay.as_fd(), "workdir", work)?;
    fsconfig_create(overlay.as_fd())?;
    let mount = fsmount(overlay.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let target = open_dir(target)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&mount, "", &target, "", flags)?;
    Ok(Root(mount))
}

/// All options in one page, as `mount(2)` takes them. Directories are named by descriptor: that is
/// short enough for every image, and needs no escaping.
fn mount_overlay_by_options(
    layers: &[PathBuf],
    upper: &Path,
    work: &Path,
    target: &Path,
) -> io::Result<Root> {
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let layers =
        layers.iter().rev().map(|it| open_dir(it)).collect::<Result<Vec<OwnedFd>, Errno>>()?;
    let (upper, work) = (open_dir(upper)?, open_dir(work)?);
    let lower: Vec<String> = layers.iter().map(name).collect();
    let options =
        format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), name(&upper), name(&work));
    if options.len() >= MAX_OPTIONS {
        // The kernel would cut them off, and mount what is left.
        let text = format!("{} layers are too many for this kernel", layers.len());
        return Err(io::Error::other(text));
    }
    let options = CString::new(options).map_err(io::Error::from)?;
    rustix::mount::mount(
        "overlay",
        target,
        "overlay",
        rustix::mount::MountFlags::empty(),
        Some(options.as_c_str()),
    )?;
    Ok(Root(open_dir(target)?))
}

fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::empty())
}

/// Gives a privileged container every device node of the host.
pub(crate) fn add_host_devices(root: &Root) -> io::Result<()> {
    let dev = root.open(Path::new("/dev"), OFlags::RDONLY | OFlags::DIRECTORY)?;
    dev::populate_from_host(&dev)
}

/// Makes `root` the root of this process and lets go of the old one.
pub(crate) fn pivot(root: &Root) -> io::Result<()> {
    rustix::process::fchdir(&root.0)?;
    // The old root ends up on top of the new one, at the same place, where it is let go of.
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let fd = fs::File::open(dir.path()).unwrap();
        (dir, Root::new(fd.into()))
    }

    #[test]
    fn links_never_lead_out_of_the_root() {
        let (dir, root) = root();
        symlink("/", dir.path().join("abs")).unwrap();
        symlink("../../../../..", dir.path().join("up")).unwrap();
        root.ensure_dir(Path::new("/abs/one")).unwrap();
        root.ensure_dir(Path::new("/up/two/../three")).unwrap();
        root.ensure_file(Path::new("/up/file")).unwrap();
        for name in ["one", "three", "file"] {
            assert!(dir.path().join(name).exists(), "{name}");
        }
        assert!(!dir.path().join("two").exists());
    }

    #[test]
    fn what_a_dangling_link_leads_to_is_made() {
        let (dir, root) = root();
        fs::create_dir(dir.path().join("var")).unwrap();
        symlink("/run", dir.path().join("var/run")).unwrap();
        root.ensure_dir(Path::new("/var/run/secrets")).unwrap();
        assert!(dir.path().join("run/secrets").is_dir());
    }

    #[test]
    fn a_file_that_a_dangling_link_leads_to_is_made_inside() {
        let (dir, root) = root();
        fs::create_dir(dir.path().join("etc")).unwrap();
        symlink("../run/resolve/stub", dir.path().join("etc/resolv.conf")).unwrap();
        symlink("../../../../up", dir.path().join("etc/hosts")).unwrap();
        root.ensure_file(Path::new("/etc/resolv.conf")).unwrap();
        root.ensure_file(Path::new("/etc/hosts")).unwrap();
        assert!(dir.path().join("run/resolve/stub").is_file());
        assert!(dir.path().join("up").is_file());
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let (dir, root) = root();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert!(root.ensure_dir(Path::new("/a/x")).is_err());
        assert!(root.ensure_file(Path::new("/a")).is_err());
    }

    #[test]
    fn plain_directories_are_no_links() {
        let (dir, root) = root();
        symlink("/etc", dir.path().join("proc")).unwrap();
        assert!(root.ensure_plain_dir(Path::new("/proc")).is_err());
        assert!(root.ensure_plain_dir(Path::new("/sys")).is_ok());
    }

    #[test]
    fn only_regular_files_are_read() {
        let (dir, root) = root();
        fs::create_dir(dir.path().join("etc")).unwrap();
        assert_eq!(root.read_text(Path::new("/etc/passwd")).unwrap(), "");
        symlink("/proc/self/environ", dir.path().join("etc/passwd")).unwrap();
        assert_eq!(root.read_text(Path::new("/etc/passwd")).unwrap(), "");
        assert!(root.read_text(Path::new("/etc")).is_err());
    }

    /// Old kernels take the second way; both must show the same files.
    #[test]
    fn both_ways_to_mount_layers_agree() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("REQUIRE_PRIVILEGED").is_none(), "mounting needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        // A comma and a colon: options of mount(2) are cut at them.
        for name in ["a,b", "c:d", "up1", "up2", "work1", "work2", "at1", "at2"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        for (name, content) in [("a,b/low", "a"), ("a,b/both", "a"), ("c:d/both", "c")] {
            let mut file = fs::File::create(dir.path().join(name)).unwrap();
            io::Write::write_all(&mut file, content.as_bytes()).unwrap();
        }
        let layers = [dir.path().join("a,b"), dir.path().join("c:d")];
        let at = |name: &str| dir.path().join(name);
        // A thread of its own takes its mounts with it.
        std::thread::scope(|scope| {
            let mounting = || {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                let flags = rustix::mount::MountPropagationFlags::PRIVATE
                    | rustix::mount::MountPropagationFlags::REC;
                rustix::mount::mount_change("/", flags).unwrap();
                mount_overlay_by_descriptor(&layers, &at("up1"), &at("work1"), &at("at1")).unwrap();
                mount_overlay_by_options(&layers, &at("up2"), &at("work2"), &at("at2")).unwrap();
                for target in ["at1", "at2"] {
                    let read = |name: &str| fs::read_to_string(at(target).join(name)).unwrap();
                    assert_eq!((read("low").as_str(), read("both").as_str()), ("a", "c"));
                }
            };
            scope.spawn(mounting).join().unwrap();
        });
    }
}
