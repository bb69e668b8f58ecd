//! Descriptors that came from before, and descriptors that must not go on.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use crate::check;

static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes over a descriptor that this process inherited from whoever executed it.
///
/// Each can be taken once; one that is not open, or was taken before, is an error. Standard input, output
/// and error cannot be taken: the standard library owns them.
pub fn inherited_fd(fd: RawFd) -> io::Result<OwnedFd> {
    let mut taken = TAKEN.lock().map_err(|_| io::Error::other("poisoned"))?;
    if fd <= 2 || taken.contains(&fd) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: F_GETFD reads a flag of a descriptor number and touches no memory of ours.
    check(i64::from(unsafe { libc::fcntl(fd, libc::F_GETFD) }))?;
    taken.push(fd);
    // SAFETY: the descriptor is open (checked), and no one in this program owns it: programs call this
    // before they open anything with that number, and the list above hands each number out once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes every descriptor above standard error but `keep`, for a process that is about to execute
/// another program.
///
/// Descriptors that Rust values still hold are closed as well, so those values must neither be used nor
/// dropped afterwards: the caller executes or exits without unwinding.
pub fn close_all_but(keep: BorrowedFd<'_>) -> io::Result<()> {
    let keep = u32::try_from(keep.as_raw_fd()).map_err(io::Error::other)?;
    let below = (3, keep.saturating_sub(1));
    let above = (keep.saturating_add(1).max(3), u32::MAX);
    for (first, last) in [below, above] {
        if first <= last {
            // SAFETY: closing descriptors touches no memory. That values which own descriptors are left
            // dangling is the documented contract of this function, and it is called only between clone
            // and exec.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
    }
    Ok(())
}
