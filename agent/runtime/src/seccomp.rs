//! The default filter of system calls.
//!
//! An allow-list in the tradition of the container engines: what is not on it fails with `EPERM`. Two
//! things are told apart from "forbidden": `clone3`, whose flags a filter cannot see, and calls younger
//! than this list fail with `ENOSYS`, so that C libraries fall back to what they did before.

mod table;

use std::collections::BTreeMap;
use std::io;

use agent_sys::BpfInstruction;
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// A compiled profile: filters in the order in which they are loaded.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    filters: Vec<Vec<BpfInstruction>>,
}

/// Flags of `clone` and `unshare` that make namespaces.
const NEW_NAMESPACES: u64 = 0x7e02_0080;

/// Compiles the default profile for a container with these capabilities.
pub(crate) fn compile(capabilities: u64) -> Result<Profile, seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        table::ALWAYS.iter().map(|call| (*call, vec![])).collect();
    for (capability, calls) in table::WITH_CAPABILITY {
        if capabilities & (1 << capability) != 0 {
            rules.extend(calls.iter().map(|call| (*call, vec![])));
        }
    }
    if capabilities & (1 << table::CAP_SYS_ADMIN) == 0 {
        let plain = masked(0, NEW_NAMESPACES, 0)?;
        rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![plain])?]);
    }
    // Address families: AF_ALG (38) and AF_VSOCK (40) reach what no container needs.
    let families = [less(0, 38)?, equal(0, 39)?, greater(0, 40)?];
    let families = families.into_iter().map(|it| SeccompRule::new(vec![it]));
    rules.insert(libc::SYS_socket, families.collect::<Result<_, _>>()?);
    let personas = [0, 8, 0x20000, 0x20008, 0xffff_ffff];
    let personas = personas.into_iter().map(|it| SeccompRule::new(vec![equal(0, it)?]));
    rules.insert(libc::SYS_personality, personas.collect::<Result<_, _>>()?);

    let eperm = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let target = std::env::consts::ARCH.try_into()?;
    let allow_list: BpfProgram =
        SeccompFilter::new(rules, eperm, SeccompAction::Allow, target)?.try_into()?;
    let allow_list = allow_list
        .iter()
        .map(|it| BpfInstruction { code: it.code, jt: it.jt, jf: it.jf, k: it.k })
        .collect();
    // Of filters that answer with the same kind of verdict the one loaded last has the word.
    Ok(Profile { filters: vec![allow_list, not_implemented(table::YOUNGEST)] })
}

/// Loads a profile into this process, for good.
pub(crate) fn load(profile: &Profile) -> io::Result<()> {
    profile.filters.iter().try_for_each(|it| agent_sys::seccomp_set_mode_filter(it))
}

fn masked(
    argument: u8,
    mask: u64,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    let length = SeccompCmpArgLen::Qword;
    SeccompCondition::new(argument, length, SeccompCmpOp::MaskedEq(mask), value)
}

fn equal(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn less(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Lt, value)
}

fn greater(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Gt, value)
}

/// Answers `ENOSYS` to `clone3` and to what is younger than `youngest`, and lets the rest pass.
fn not_implemented(youngest: i64) -> Vec<BpfInstruction> {
    let number = |call: i64| u32::try_from(call).unwrap_or(u32::MAX);
    let enosys = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    let (load, jump_if_equal, jump_if_greater, answer) = (0x20, 0x15, 0x25, 0x06);
    let x32 = 0x4000_0000;
    vec![
        BpfInstruction { code: load, jt: 0, jf: 0, k: 0 },
        BpfInstruction { code: jump_if_equal, jt: 2, jf: 0, k: number(libc::SYS_clone3) },
        // Numbers of the x32 interface are left to the allow-list, which refuses them.
        BpfInstruction { code: 0x35, jt: 2, jf: 0, k: x32 },
        BpfInstruction { code: jump_if_greater, jt: 0, jf: 1, k: number(youngest) },
        BpfInstruction { code: answer, jt: 0, jf: 0, k: enosys },
        BpfInstruction { code: answer, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_profile_compiles_for_every_capability_set() {
        for capabilities in [0, 1 << table::CAP_SYS_ADMIN, u64::MAX] {
            let profile = compile(capabilities).unwrap();
            assert!(profile.filters[0].len() < 4096);
        }
    }

    #[test]
    fn dangerous_calls_are_on_no_list_for_everyone() {
        for call in [
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_keyctl,
            libc::SYS_bpf,
            libc::SYS_userfaultfd,
            libc::SYS_io_uring_setup,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_kexec_load,
            libc::SYS_init_module,
            libc::SYS_open_by_handle_at,
            libc::SYS_perf_event_open,
            libc::SYS_ptrace,
            libc::SYS_reboot,
            libc::SYS_pivot_root,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_clone,
        ] {
            assert!(!table::ALWAYS.contains(&call), "{call}");
        }
    }
}
