//! Which capabilities a container's processes have.
//!
//! The default set is the one containers have had for ten years. Bounding, permitted and effective sets
//! are the same; inheritable and ambient are empty, so that a program run by another user has none.

#[cfg(test)]
use std::collections::BTreeSet;
use std::io;
use std::sync::LazyLock;

use oci_spec::runtime::Capability;
use rustix::thread::{self, CapabilitySet, CapabilitySets};

use crate::types::Capabilities;

const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A name that is no capability.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("could not find capability {0:?}")]
pub(crate) struct UnknownCapability(String);

fn number(name: &str) -> Result<u32, UnknownCapability> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let at = NAMES.iter().position(|it| *it == short);
    at.and_then(|it| u32::try_from(it).ok()).ok_or_else(|| UnknownCapability(name.to_owned()))
}

/// Bits of the set that a container gets.
pub(crate) fn wanted(changes: &Capabilities, privileged: bool) -> Result<u64, UnknownCapability> {
    let is_all = |names: &[String]| names.iter().any(|it| it.eq_ignore_ascii_case("all"));
    let every = (1_u64 << NAMES.len()) - 1;
    if privileged {
        return Ok(every);
    }
    let mut set = if is_all(&changes.add) {
        every
    } else if is_all(&changes.drop) {
        0
    } else {
        DEFAULT.iter().try_fold(0, |set, name| Ok(set | 1 << number(name)?))?
    };
    for name in changes.drop.iter().filter(|it| !it.eq_ignore_ascii_case("all")) {
        set &= !(1 << number(name)?);
    }
    for name in changes.add.iter().filter(|it| !it.eq_ignore_ascii_case("all")) {
        set |= 1 << number(name)?;
    }
    Ok(set)
}

/// The bits as the specification names them.
pub(crate) fn to_spec(bits: u64) -> Vec<Capability> {
    let names = NAMES.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0);
    let names = names.map(|(_, name)| serde_json::Value::from(format!("CAP_{name}")));
    names.filter_map(|it| serde_json::from_value(it).ok()).collect()
}

/// The named capabilities as bits.
#[cfg(test)]
pub(crate) fn from_spec<'a>(
    names: impl IntoIterator<Item = &'a Capability>,
) -> Result<u64, UnknownCapability> {
    names.into_iter().try_fold(0, |set, name| Ok(set | 1 << number(&name.to_string())?))
}

/// How many capabilities the kernel knows. A child of a process that has asked need not ask again.
static COUNT: LazyLock<u32> = LazyLock::new(|| {
    let known = |it: &u32| {
        let bit = CapabilitySet::from_bits_retain(1 << it);
        thread::capability_is_in_bounding_set(bit).is_ok()
    };
    (0..64).find(|it| !known(it)).unwrap_or(64)
});

/// Asks the kernel now what every container's start needs to know.
pub(crate) fn learn() {
    LazyLock::force(&COUNT);
}

/// Takes everything out of the bounding set but `bits`. Needs `CAP_SETPCAP`, so it comes before `limit`.
pub(crate) fn limit_bounding_set(bits: u64) -> io::Result<()> {
    for number in 0..*COUNT {
        if bits & (1 << number) == 0 {
            let bit = CapabilitySet::from_bits_retain(1 << number);
            thread::remove_capability_from_bounding_set(bit)?;
        }
    }
    Ok(())
}

/// Leaves this process the capabilities of `bits` that it has, and no others.
pub(crate) fn limit(bits: u64) -> io::Result<()> {
    let permitted = thread::capabilities(None)?.permitted & CapabilitySet::from_bits_retain(bits);
    thread::clear_ambient_capability_set()?;
    let inheritable = CapabilitySet::empty();
    thread::set_capabilities(
        None,
        CapabilitySets { effective: permitted, permitted, inheritable },
    )?;
    Ok(())
}

/// Names for people, in a stable order.
#[cfg(test)]
pub(crate) fn names(bits: u64) -> BTreeSet<&'static str> {
    NAMES.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0).map(|(_, it)| *it).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(add: &[&str], drop: &[&str], expected: &[&str]) {
        let owned = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect();
        let changes = Capabilities { add: owned(add), drop: owned(drop) };
        let set = names(wanted(&changes, false).unwrap());
        assert_eq!(set, expected.iter().copied().collect());
    }

    #[test]
    fn adds_and_drops() {
        check(&[], &["ALL"], &[]);
        check(&["NET_BIND_SERVICE"], &["all"], &["NET_BIND_SERVICE"]);
        check(&["CAP_sys_time"], &["ALL"], &["SYS_TIME"]);
        check(&["ALL"], &["ALL"], &NAMES);
        check(&[], &[], &DEFAULT);
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let changes = Capabilities { add: vec!["FLY".to_owned()], drop: vec![] };
        assert_eq!(wanted(&changes, false), Err(UnknownCapability("FLY".to_owned())));
    }

    #[test]
    fn the_specification_knows_every_name() {
        let every = (1 << NAMES.len()) - 1;
        assert_eq!(from_spec(&to_spec(every)).unwrap(), every);
    }
}
