//! The default filter of system calls.
//!
//! An allow-list in the tradition of the container engines: what is not on it fails with `EPERM`. Two
//! things are told apart from "forbidden": `clone3`, whose flags a filter cannot see, and calls younger
//! than this list fail with `ENOSYS`, so that C libraries fall back to what they did before.

//!
//! A filter is one program: the number of the call is looked up by halving, in what is a few dozen ranges
//! of numbers, so that it is short to load and short to walk.

mod program;
mod table;

use std::collections::BTreeMap;
use std::io;

use agent_sys::BpfInstruction;
use nix::libc;

use program::Check;

/// A compiled profile.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    filter: Vec<BpfInstruction>,
}

/// Flags of `clone` and `unshare` that make namespaces.
const NEW_NAMESPACES: u32 = 0x7e02_0080;
/// Address families that reach what no container needs: AF_ALG and AF_VSOCK.
const FORBIDDEN_FAMILIES: &[u32] = &[38, 40];
/// What programs made for other systems ask to be taken for.
const PERSONALITIES: &[u32] = &[0, 8, 0x20000, 0x20008, 0xffff_ffff];

/// Compiles the default profile for a container with these capabilities.
pub(crate) fn compile(capabilities: u64) -> io::Result<Profile> {
    let filter = program::assemble(&rules(capabilities), table::YOUNGEST)?;
    Ok(Profile { filter })
}

/// What becomes of each call that is not simply forbidden.
fn rules(capabilities: u64) -> BTreeMap<u32, Check> {
    let mut rules: BTreeMap<i64, Check> =
        table::ALWAYS.iter().map(|call| (*call, Check::Allow)).collect();
    for (capability, calls) in table::WITH_CAPABILITY {
        if capabilities & (1 << capability) != 0 {
            rules.extend(calls.iter().map(|call| (*call, Check::Allow)));
        }
    }
    if capabilities & (1 << table::CAP_SYS_ADMIN) == 0 {
        rules.insert(libc::SYS_clone, Check::AllowWithout(NEW_NAMESPACES));
    }
    rules.insert(libc::SYS_socket, Check::AllowExcept(FORBIDDEN_FAMILIES));
    rules.insert(libc::SYS_personality, Check::AllowOnly(PERSONALITIES));
    rules.insert(libc::SYS_clone3, Check::NotImplemented);
    let rules = rules.into_iter();
    rules.filter_map(|(call, check)| Some((u32::try_from(call).ok()?, check))).collect()
}

/// Loads a profile into this process, for good.
pub(crate) fn load(profile: &Profile) -> io::Result<()> {
    agent_sys::seccomp_set_mode_filter(&profile.filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_profile_is_short_for_every_capability_set() {
        for capabilities in [0, 1 << table::CAP_SYS_ADMIN, u64::MAX] {
            let length = compile(capabilities).unwrap().filter.len();
            assert!(length < 300, "{length} instructions");
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
