//! `clone3`: a new process, in new namespaces, known by a descriptor from its first moment.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sched::CloneFlags;

use crate::check;

/// A process that was just made.
#[derive(Debug)]
pub struct Child {
    /// Its id, as the caller sees it.
    pub pid: i32,
    /// Stays the same process even after the id was given to another one.
    pub pidfd: OwnedFd,
}

/// Makes a process that runs `child` on a copy of this one's memory and exits with its result.
///
/// `namespaces` are the `CLONE_NEW*` flags for it; with `cgroup`, a directory of cgroup v2, it is born in
/// there. Fails if this process has more than one thread: locks held by others would stay locked for ever
/// in the copy.
pub fn clone3(
    namespaces: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> i32,
) -> io::Result<Child> {
    let allowed = CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWUTS;
    if !allowed.contains(namespaces) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // The link count of the directory is two more than the number of threads.
    if nix::sys::stat::stat("/proc/self/task")?.st_nlink != 3 {
        return Err(io::Error::other("process has more than one thread"));
    }

    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero bytes are a valid `clone_args`: integers only, zero means "not used".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(namespaces.bits().cast_unsigned());
    args.flags |= u64::from(libc::CLONE_PIDFD.cast_unsigned());
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    if let Some(cgroup) = cgroup {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP does not fit the type that libc gives it
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }

    // SAFETY: `args` is a live, correctly sized `clone_args`. `stack` is zero and neither CLONE_VM nor
    // CLONE_THREAD is set, so that the child runs on its own copy of this stack, as after `fork`. The
    // kernel writes `pidfd` before it returns, and `pidfd` outlives the call. No other thread exists
    // (checked above), so no lock of the allocator or of the standard library is held by someone who is
    // missing in the child.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>())
    })?;
    if pid == 0 {
        // A panic must never unwind into the caller's frames: the child is not the caller.
        let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(101);
        // SAFETY: `_exit` has no preconditions; it runs no destructor and no exit handler, which belong
        // to the parent.
        unsafe { libc::_exit(code) }
    }
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: with CLONE_PIDFD and success the kernel stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid, pidfd })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_refused() {
        // The test harness itself has at least two threads.
        let err = clone3(CloneFlags::empty(), None, || 0).unwrap_err();
        assert_eq!(err.to_string(), "process has more than one thread");
    }

    #[test]
    fn sharing_memory_is_refused() {
        let err = clone3(CloneFlags::CLONE_VM, None, || 0).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::InvalidInput);
    }
}
