//! Signals: to a process known by descriptor, and none of ours for the program that follows.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{null, null_mut};

use crate::check;

/// Sends `signal` to the process of `pidfd`; 0 only asks whether it could be sent.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let info = null::<libc::siginfo_t>();
    // SAFETY: `pidfd` is open for the call; a null `siginfo_t` asks for what `kill` would send.
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0)
    })?;
    Ok(())
}

/// Gives every signal its default action and blocks none, as a program expects at its start.
pub fn reset_signals() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        match set_action(signal, libc::SIG_DFL) {
            // Signals that cannot be changed, and those libc keeps for itself.
            Err(err) if err.raw_os_error() == Some(libc::EINVAL) => {}
            other => other?,
        }
    }
    block_none()
}

/// Makes writing to a pipe that nobody reads an error instead of the end.
pub fn ignore_pipe_signal() -> io::Result<()> {
    set_action(libc::SIGPIPE, libc::SIG_IGN)
}

/// What [`reset_signals`] does, for a child of a process that did it and has called nothing but
/// [`ignore_pipe_signal`] since.
pub fn reset_pipe_signal() -> io::Result<()> {
    set_action(libc::SIGPIPE, libc::SIG_DFL)?;
    block_none()
}

/// Sets one of the actions that are no function of ours.
fn set_action(signal: i32, action: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `sigaction`: SIG_DFL, no flags, an empty mask.
    let mut wanted: libc::sigaction = unsafe { std::mem::zeroed() };
    wanted.sa_sigaction = action;
    // SAFETY: `wanted` is a live `sigaction` that installs no handler (the two callers above pass SIG_DFL
    // or SIG_IGN); the old one is not asked for.
    check(i64::from(unsafe { libc::sigaction(signal, &raw const wanted, null_mut()) }))?;
    Ok(())
}

fn block_none() -> io::Result<()> {
    // SAFETY: zeroed bytes are a valid `sigset_t`, which `sigemptyset` then initialises properly.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `none` is a live `sigset_t`.
    check(i64::from(unsafe { libc::sigemptyset(&raw mut none) }))?;
    // SAFETY: `none` is initialised; the old mask is not asked for.
    check(i64::from(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, null_mut()) }))?;
    Ok(())
}
