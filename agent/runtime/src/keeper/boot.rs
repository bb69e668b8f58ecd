//! How a keeper comes to be: sealed, alone, out of everybody's reach.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::fs::{FlockOperation, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::process::DumpableBehavior;

/// Goes on from a sealed copy of the program in memory, so that nothing that gets hold of
/// `/proc/<pid>/exe` of a container's first moments can change the program on disk.
///
/// Returns if this process is that copy already.
pub(super) fn seal(args: &[OsString]) -> io::Result<()> {
    let mut program = File::open("/proc/self/exe")?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    // Files that are not in memory know no seals.
    if rustix::fs::fcntl_get_seals(&program).is_ok_and(|it| it.contains(seals)) {
        return Ok(());
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(rustix::fs::memfd_create("outbye-keeper", flags)?);
    io::copy(&mut program, &mut copy)?;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    let c_string = |text: &[u8]| CString::new(text).map_err(io::Error::other);
    let args = args.iter().map(|it| c_string(it.as_bytes())).collect::<io::Result<Vec<_>>>()?;
    let env = Vec::<CString>::new();
    match nix::unistd::fexecve(copy.as_fd(), &args, &env)? {}
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
