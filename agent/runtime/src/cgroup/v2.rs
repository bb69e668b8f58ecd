//! cgroup v2: one hierarchy, controllers enabled from the top down.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cgroups_rs::fs::MaxValue;
use cgroups_rs::fs::cgroup::Cgroup;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::hierarchies::{UNIFIED_MOUNTPOINT, V2};
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;

use super::{
    CgroupDriver, DeviceRule, Entry, is_gone, keyed_number, keyed_number_in, library_error,
    number_in, remove_tree, write,
};
use crate::types::{Resources, Stats};

/// The controllers that containers are limited by.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// The one hierarchy.
#[derive(Debug)]
pub(super) struct Unified {
    mount: PathBuf,
}

impl Unified {
    pub(super) fn new() -> Self {
        Self { mount: PathBuf::from(UNIFIED_MOUNTPOINT) }
    }

    fn dir(&self, path: &str) -> PathBuf {
        self.mount.join(path)
    }

    fn library(path: &str) -> Cgroup {
        Cgroup::load(Box::new(V2::new()), path)
    }
}

/// Lets the children of `dir` have controllers of their own. Writes only what is missing.
fn enable_controllers(dir: &Path) -> io::Result<()> {
    let available = fs::read_to_string(dir.join("cgroup.controllers"))?;
    let enabled = fs::read_to_string(dir.join("cgroup.subtree_control"))?;
    let has = |text: &str, name: &str| text.split_whitespace().any(|it| it == name);
    let missing: Vec<_> = CONTROLLERS
        .into_iter()
        .filter(|name| has(&available, name) && !has(&enabled, name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    write(&dir.join("cgroup.subtree_control"), &missing.join(" "))
}

/// The weight of v2 for the shares of v1: 2..262144 onto 1..10000.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

impl CgroupDriver for Unified {
    fn create(&self, path: &str) -> io::Result<()> {
        let mut dir = self.mount.clone();
        for part in path.split('/') {
            enable_controllers(&dir)?;
            dir.push(part);
            match fs::create_dir(&dir) {
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn limit(&self, path: &str, resources: &Resources) -> io::Result<()> {
        if *resources == Resources::default() {
            return Ok(());
        }
        let cgroup = Self::library(path);
        let limits = || -> cgroups_rs::fs::error::Result<()> {
            if let Some((memory, limit)) =
                cgroup.controller_of::<MemController>().zip(resources.memory_limit)
            {
                memory.set_limit(i64::try_from(limit).unwrap_or(i64::MAX))?;
            }
            if let Some(cpu) = cgroup.controller_of::<CpuController>() {
                if let Some(shares) = resources.cpu_shares {
                    cpu.set_shares(weight(shares))?;
                }
                if resources.cpu_quota.is_some() || resources.cpu_period.is_some() {
                    cpu.set_cfs_quota_and_period(resources.cpu_quota, resources.cpu_period)?;
                }
            }
            if let Some((pids, limit)) =
                cgroup.controller_of::<PidController>().zip(resources.pids_limit)
            {
                pids.set_pid_max(MaxValue::Value(i64::try_from(limit).unwrap_or(i64::MAX)))?;
            }
            Ok(())
        };
        limits().map_err(|err| library_error(&err))?;
        if resources.memory_limit.is_some() {
            // No swap beyond the limit. The file is missing where the kernel has no swap.
            match write(&self.dir(path).join("memory.swap.max"), "0") {
                Err(err) if is_gone(&err) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn kill_as_one(&self, path: &str) -> io::Result<()> {
        // The file is missing where the kernel is old, or does not account for memory.
        match write(&self.dir(path).join("memory.oom.group"), "1") {
            Err(err) if is_gone(&err) => Ok(()),
            other => other,
        }
    }

    fn allow_devices(&self, path: &str, rules: &[DeviceRule]) -> io::Result<()> {
        let dir = fs::File::open(self.dir(path))?;
        let rules: Vec<_> = rules.iter().filter_map(bpf_rule).collect();
        agent_sys::attach_cgroup_device_filter(std::os::fd::AsFd::as_fd(&dir), &rules)
    }

    fn entry(&self, path: &str) -> io::Result<Entry> {
        Ok(Entry::BornIn(fs::File::open(self.dir(path))?.into()))
    }

    fn join(&self, path: &str) -> io::Result<()> {
        write(&self.dir(path).join("cgroup.procs"), "0")
    }

    fn kill(&self, path: &str) -> io::Result<bool> {
        let dir = self.dir(path);
        match write(&dir.join("cgroup.kill"), "1") {
            Err(err) if is_gone(&err) => return kill_each(&dir),
            other => other?,
        }
        Ok(keyed_number_in(&dir.join("cgroup.events"), "populated").unwrap_or(0) == 0)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        remove_tree(&self.dir(path))
    }

    fn oom_kills(&self, path: &str) -> u64 {
        keyed_number_in(&self.dir(path).join("memory.events"), "oom_kill").unwrap_or(0)
    }

    fn stats(&self, path: &str) -> io::Result<Stats> {
        let dir = self.dir(path);
        let memory = fs::read_to_string(dir.join("memory.stat"))?;
        let usage = number_in(&dir.join("memory.current")).unwrap_or(0);
        let inactive = keyed_number(&memory, "inactive_file").unwrap_or(0);
        let cpu_us = keyed_number_in(&dir.join("cpu.stat"), "usage_usec").unwrap_or(0);
        Ok(Stats {
            cpu_usage_ns: cpu_us.saturating_mul(1000),
            memory_usage: usage,
            memory_working_set: usage.saturating_sub(inactive),
            memory_rss: keyed_number(&memory, "anon").unwrap_or(0),
            pids: number_in(&dir.join("pids.current")).unwrap_or(0),
            oom_kills: self.oom_kills(path),
        })
    }
}

/// For kernels before 5.14, which have no `cgroup.kill`.
fn kill_each(dir: &Path) -> io::Result<bool> {
    let pids = super::pids_in(&dir.join("cgroup.procs"))?;
    for pid in &pids {
        match nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(*pid),
            nix::sys::signal::Signal::SIGKILL,
        ) {
            // It ended by itself in the meantime.
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(pids.is_empty())
}

fn bpf_rule(rule: &DeviceRule) -> Option<agent_sys::DeviceRule> {
    let number = |it: Option<u64>| it.map(u32::try_from).transpose().ok();
    Some(agent_sys::DeviceRule {
        block: rule.kind == 'b',
        major: number(rule.major)?,
        minor: number(rule.minor)?,
        mknod: rule.access.contains('m'),
        read: rule.access.contains('r'),
        write: rule.access.contains('w'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_dies_as_one_where_the_kernel_can_do_it() {
        let mount = tempfile::tempdir().unwrap();
        let cgroups = Unified { mount: mount.path().into() };
        let dir = mount.path().join("pod/c");
        fs::create_dir_all(&dir).unwrap();
        cgroups.kill_as_one("pod/c").unwrap();
        assert!(fs::read_dir(&dir).unwrap().next().is_none(), "the kernel makes files, not we");
        fs::File::create(dir.join("memory.oom.group")).unwrap();
        cgroups.kill_as_one("pod/c").unwrap();
        assert_eq!(number_in(&dir.join("memory.oom.group")), Some(1));
    }

    #[test]
    fn shares_become_weights() {
        for (shares, expected) in
            [(0, 1), (2, 1), (1024, 39), (262_144, 10_000), (u64::MAX, 10_000)]
        {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }
}
