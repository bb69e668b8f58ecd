//! Kernel keyrings.

use std::io;
use std::ptr::null;

use crate::check;

/// Leaves the session keyring that was inherited for a new, empty one.
pub fn join_new_session_keyring() -> io::Result<()> {
    let name = null::<libc::c_char>();
    // SAFETY: KEYCTL_JOIN_SESSION_KEYRING takes a name or null, and null asks for an anonymous keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name) })?;
    Ok(())
}
