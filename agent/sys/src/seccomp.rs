//! `seccomp`: loading a filter of system calls.

use std::io;

use crate::check;

/// One instruction of classic BPF.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct BpfInstruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if a jump is taken.
    pub jt: u8,
    /// Instructions to skip if it is not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

#[repr(C)]
struct Program {
    len: libc::c_ushort,
    filter: *const BpfInstruction,
}

/// Adds a filter to the calling thread, for good. It needs `no_new_privs` or `CAP_SYS_ADMIN`.
pub fn seccomp_set_mode_filter(filter: &[BpfInstruction]) -> io::Result<()> {
    let len = libc::c_ushort::try_from(filter.len()).map_err(io::Error::other)?;
    let program = Program { len, filter: filter.as_ptr() };
    // SAFETY: `program` is laid out as `sock_fprog` (a short, then an aligned pointer) and lives for the
    // call; it points to `len` instructions, each laid out as `sock_filter`, which the kernel copies and
    // verifies before use.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    })?;
    Ok(())
}
