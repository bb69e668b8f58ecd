//! `bpf`: which device nodes the processes of a cgroup may use, on cgroup v2.
//!
//! The program is a list of rules; the first one that covers what is asked allows it, the end refuses.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::check;

/// Allows some use of some device nodes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeviceRule {
    /// Block device; else character device.
    pub block: bool,
    /// Major number, or any.
    pub major: Option<u32>,
    /// Minor number, or any.
    pub minor: Option<u32>,
    /// The node may be made.
    pub mknod: bool,
    /// It may be opened for reading.
    pub read: bool,
    /// It may be opened for writing.
    pub write: bool,
}

/// One instruction of extended BPF, as the kernel lays it out: code, registers, offset, operand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    operand: i32,
}

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;
const DEVICE_BLOCK: i32 = 1;
const DEVICE_CHARACTER: i32 = 2;

// Registers: 1 is the context; 2 the type, 3 the access, 4 and 5 the numbers, 6 scratch.
const fn load_word(to: u8, offset: i16) -> Instruction {
    Instruction { code: 0x61, registers: to | 1 << 4, offset, operand: 0 }
}
const fn and(register: u8, operand: i32) -> Instruction {
    Instruction { code: 0x54, registers: register, offset: 0, operand }
}
const fn shift_right(register: u8, operand: i32) -> Instruction {
    Instruction { code: 0x74, registers: register, offset: 0, operand }
}
const fn copy(to: u8, from: u8) -> Instruction {
    Instruction { code: 0xbc, registers: to | from << 4, offset: 0, operand: 0 }
}
const fn jump_if_not(register: u8, operand: i32, offset: i16) -> Instruction {
    Instruction { code: 0x55, registers: register, offset, operand }
}
const fn set_result(operand: i32) -> Instruction {
    Instruction { code: 0xb7, registers: 0, offset: 0, operand }
}
const EXIT: Instruction = Instruction { code: 0x95, registers: 0, offset: 0, operand: 0 };

fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    // struct bpf_cgroup_dev_ctx { access_type: (access << 16) | type, major, minor }
    let mut program = vec![
        load_word(2, 0),
        and(2, 0xffff),
        load_word(3, 0),
        shift_right(3, 16),
        load_word(4, 4),
        load_word(5, 8),
    ];
    for rule in rules {
        program.extend(rule_instructions(rule));
    }
    program.extend([set_result(0), EXIT]);
    program
}

fn rule_instructions(rule: &DeviceRule) -> Vec<Instruction> {
    let flag = |on: bool, bit: i32| if on { bit } else { 0 };
    let allowed = flag(rule.mknod, ACCESS_MKNOD)
        | flag(rule.read, ACCESS_READ)
        | flag(rule.write, ACCESS_WRITE);
    // Each test jumps to the next rule if it fails; the offsets are filled in below.
    let mut tests =
        vec![jump_if_not(2, if rule.block { DEVICE_BLOCK } else { DEVICE_CHARACTER }, 0)];
    tests.extend([copy(6, 3), and(6, 7 & !allowed), jump_if_not(6, 0, 0)]);
    if let Some(major) = rule.major {
        tests.push(jump_if_not(4, major.cast_signed(), 0));
    }
    if let Some(minor) = rule.minor {
        tests.push(jump_if_not(5, minor.cast_signed(), 0));
    }
    tests.extend([set_result(1), EXIT]);
    let length = tests.len();
    for (at, instruction) in tests.iter_mut().enumerate() {
        if instruction.code == jump_if_not(0, 0, 0).code {
            instruction.offset = i16::try_from(length - at - 1).unwrap_or(i16::MAX);
        }
    }
    tests
}

/// The head of `union bpf_attr` for loading a program; the kernel takes the rest as zero.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
}

/// The head of `union bpf_attr` for attaching a program.
#[repr(C)]
struct AttachAttr {
    target_fd: RawFd,
    attach_bpf_fd: RawFd,
    attach_type: u32,
    attach_flags: u32,
}

/// Allows the processes of the cgroup v2 directory what `rules` say, and nothing else.
pub fn attach_cgroup_device_filter(cgroup: BorrowedFd<'_>, rules: &[DeviceRule]) -> io::Result<()> {
    let program = program(rules);
    let attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(io::Error::other)?,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
    };
    // SAFETY: `attr` is laid out as the head of `bpf_attr` for BPF_PROG_LOAD and its true size is given;
    // it points to `insn_cnt` live instructions and to a terminated string, all only read.
    let loaded = check(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attr, size_of::<LoadAttr>())
    })?;
    let loaded = RawFd::try_from(loaded).map_err(io::Error::other)?;
    // SAFETY: BPF_PROG_LOAD succeeded and returned a new descriptor that nobody else owns.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded) };

    let attr = AttachAttr {
        target_fd: cgroup.as_raw_fd(),
        attach_bpf_fd: loaded.as_raw_fd(),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: `attr` is laid out as the head of `bpf_attr` for BPF_PROG_ATTACH and its true size is
    // given; both descriptors are open for the call.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attr, size_of::<AttachAttr>())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tests_jump_to_the_next_rule() {
        let rule = DeviceRule {
            block: false,
            major: Some(1),
            minor: Some(3),
            mknod: false,
            read: true,
            write: true,
        };
        let program = program(&[rule, rule]);
        let rule_length = (program.len() - 6 - 2) / 2;
        for (at, instruction) in program.iter().enumerate() {
            if instruction.code == 0x55 {
                let target = at + 1 + usize::try_from(instruction.offset).unwrap();
                assert!(target == 6 + rule_length || target == 6 + 2 * rule_length, "{at}");
            }
        }
    }
}
