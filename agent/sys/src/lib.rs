//! The only crate that talks to the kernel by hand.
//!
//! Small safe functions named after what the kernel calls them, for what neither nix nor rustix offers.
//! Owned descriptors in and out, `io::Result`, no policy, no logging, no async.

#![allow(unsafe_code, reason = "the one crate that talks to the kernel")]

mod clone;
mod device_filter;
mod fd;
mod keyring;
mod link;
mod memory;
mod mount;
mod seccomp;
mod signal;

pub use clone::{Child, clone3};
pub use device_filter::{DeviceRule, attach_cgroup_device_filter};
pub use fd::{close_all_but, inherited_fd};
pub use keyring::join_new_session_keyring;
pub use link::set_link_up;
pub use memory::limit_heaps;
pub use mount::{MountAttr, Propagation, mount_setattr};
pub use seccomp::{BpfInstruction, seccomp_set_mode_filter};
pub use signal::{ignore_pipe_signal, pidfd_send_signal, reset_pipe_signal, reset_signals};

use std::io;

/// The return value of a raw system call as a result.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
