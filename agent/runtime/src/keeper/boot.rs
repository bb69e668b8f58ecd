//! How a keeper comes to be: sealed, alone, out of everybody's reach.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agent_sys::{MountAttr, Propagation, mount_setattr};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::fs::{FlockOperation, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use rustix::process::DumpableBehavior;

/// What a copy in memory is sealed against.
const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// Goes on from the program as seen through a mount that nobody can write through, so that nothing that
/// gets hold of `/proc/<pid>/exe` of a container's first moments can change the program on disk.
///
/// The mount is in no namespace, so that nobody can mount it anew. It costs no memory, and against writing
/// to the file by its own name the kernel guards it as every program that runs. Where there can be no such
/// mount, it is a sealed copy in memory. Returns if this process runs from either already.
pub(super) fn seal(args: &[OsString]) -> io::Result<()> {
    let program = File::open("/proc/self/exe")?;
    if is_sealed(&program)? {
        return Ok(());
    }
    let copy = match read_only_view(Path::new("/proc/self/exe")) {
        Ok(view) => view,
        Err(_) => copy_in_memory(program)?,
    };
    let c_string = |text: &[u8]| CString::new(text).map_err(io::Error::other);
    let args = args.iter().map(|it| c_string(it.as_bytes())).collect::<io::Result<Vec<_>>>()?;
    let env = Vec::<CString>::new();
    match nix::unistd::fexecve(copy.as_fd(), &args, &env)? {}
}

/// Whether nobody can write to the file by way of the one that this process runs from.
fn is_sealed(program: &File) -> io::Result<bool> {
    // Files that are not in memory know no seals.
    if rustix::fs::fcntl_get_seals(program).is_ok_and(|it| it.contains(SEALS)) {
        return Ok(true);
    }
    let flags = rustix::fs::fstatvfs(program)?.f_flag;
    if !flags.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Ok(false);
    }
    // A file system that is mounted read-only somewhere can be made writable there.
    let asked = rustix::fs::StatxFlags::MNT_ID;
    let status = rustix::fs::statx(program, "", rustix::fs::AtFlags::EMPTY_PATH, asked)?;
    let id = status.stx_mnt_id.to_string();
    let mounted = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(status.stx_mask & asked.bits() != 0
        && !mounted.lines().any(|line| line.split(' ').next() == Some(&id)))
}

/// A file through a mount of its own, read-only and in no namespace.
fn read_only_view(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let view = rustix::mount::open_tree(rustix::fs::CWD, path, flags)?;
    let set = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    let propagation = Some(Propagation::Private);
    mount_setattr(view.as_fd(), MountAttr { set, propagation, recursive: false })?;
    Ok(view)
}

/// The program in memory, for ever as it is.
fn copy_in_memory(mut program: File) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(rustix::fs::memfd_create("outbye-keeper", flags)?);
    io::copy(&mut program, &mut copy)?;
    rustix::fs::fcntl_add_seals(&copy, SEALS)?;
    Ok(copy.into())
}

/// Makes sure that this is the only keeper of its directory for as long as the result lives.
pub(super) fn lock(run_dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(0o600);
    let lock = rustix::fs::open(run_dir.join("keeper.lock"), flags, mode)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(lock)
}

/// Makes this process hard to kill by accident and impossible to look into. Returns the limits of open
/// files that it had before.
pub(super) fn protect() -> io::Result<(u64, u64)> {
    // Every child begins with these, and need not look at all of them again.
    agent_sys::reset_signals()?;
    agent_sys::ignore_pipe_signal()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    if let Err(err) = write_oom_score_adj("-999") {
        // Without CAP_SYS_RESOURCE the score cannot be lowered; go on with what we have.
        if err.kind() != io::ErrorKind::PermissionDenied {
            return Err(err);
        }
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    std::env::set_current_dir("/")?;
    Ok((soft, hard))
}

fn write_oom_score_adj(score: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open("/proc/self/oom_score_adj")?;
    io::Write::write_all(&mut file, score.as_bytes())
}

/// Says to whoever started this process that it can be talked to, and lets go of that one's streams.
pub(super) fn announce(log: &Path) -> io::Result<()> {
    rustix::io::write(rustix::stdio::stdout(), b"ready\n")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let log = File::options().create(true).append(true).open(log)?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&log)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_view_nor_copy_can_be_written() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("REQUIRE_PRIVILEGED").is_none(), "mounting needs root");
            return;
        }
        // A program that runs could not be written to in any case.
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::open(file.path()).unwrap();
        assert!(!is_sealed(&open()).unwrap());
        let view = read_only_view(file.path()).unwrap();
        let copy = copy_in_memory(open()).unwrap();
        for (sealed, refusal) in [(view, nix::libc::EROFS), (copy, nix::libc::EPERM)] {
            // As a container would come by it: by a link of procfs.
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&sealed));
            assert!(is_sealed(&File::open(&path).unwrap()).unwrap());
            let err = File::options()
                .write(true)
                .open(&path)
                .and_then(|mut it| io::Write::write_all(&mut it, b"x"));
            assert_eq!(err.unwrap_err().raw_os_error(), Some(refusal));
        }
    }
}
