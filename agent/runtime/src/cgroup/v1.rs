//! cgroup v1: one hierarchy per controller, of which some may be missing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cgroups_rs::fs::cgroup::Cgroup;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::hierarchies::V1;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{Controllers, MaxValue};

use super::{
    CgroupDriver, DeviceRule, Entry, is_gone, keyed_number, keyed_number_in, library_error,
    number_in, pids_in, remove_tree, write,
};
use crate::types::{Resources, Stats};

/// The hierarchies that containers are put in. The others do not limit anything that is asked for.
const CONTROLLERS: [(Controllers, &str); 5] = [
    (Controllers::Cpu, "cpu"),
    (Controllers::CpuAcct, "cpuacct"),
    (Controllers::Mem, "memory"),
    (Controllers::Pids, "pids"),
    (Controllers::Devices, "devices"),
];

/// The hierarchies by which a service manager knows whose process is whose.
const TRACKING: [&str; 2] = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"];

/// The hierarchies that are mounted.
#[derive(Debug)]
pub(super) struct Hierarchies {
    mounted: Vec<(&'static str, PathBuf)>,
}

impl Hierarchies {
    pub(super) fn find() -> io::Result<Self> {
        let v1 = V1::new();
        let mounted: Vec<_> = CONTROLLERS
            .into_iter()
            .filter_map(|(controller, name)| Some((name, v1.get_mount_point(controller)?.0)))
            .collect();
        if mounted.is_empty() {
            return Err(io::Error::other("no cgroup hierarchy is mounted"));
        }
        Ok(Self { mounted })
    }

    fn dir(&self, controller: &str, path: &str) -> Option<PathBuf> {
        let (_, mount) = self.mounted.iter().find(|(name, _)| *name == controller)?;
        Some(mount.join(path))
    }

    /// Directories of the cgroup, one per hierarchy: controllers may share one.
    fn dirs(&self, path: &str) -> Vec<PathBuf> {
        let mut dirs: Vec<_> = self.mounted.iter().map(|(_, mount)| mount.join(path)).collect();
        dirs.sort();
        dirs.dedup();
        dirs
    }

    fn library(&self, path: &str) -> Cgroup {
        let names = self.mounted.iter().map(|(name, _)| (*name).to_owned()).collect();
        Cgroup::load_with_specified_controllers(Box::new(V1::new()), path, names)
    }
}

impl CgroupDriver for Hierarchies {
    fn create(&self, path: &str) -> io::Result<()> {
        self.library(path).create().map_err(|err| library_error(&err))
    }

    fn limit(&self, path: &str, resources: &Resources) -> io::Result<()> {
        if *resources == Resources::default() {
            return Ok(());
        }
        let cgroup = self.library(path);
        limit_memory(&cgroup, self.dir("memory", path).as_deref(), resources)?;
        limit_cpu(&cgroup, resources).map_err(|err| library_error(&err))?;
        if let Some((pids, limit)) =
            cgroup.controller_of::<PidController>().zip(resources.pids_limit)
        {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            pids.set_pid_max(MaxValue::Value(limit)).map_err(|err| library_error(&err))?;
        }
        Ok(())
    }

    fn kill_as_one(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn allow_devices(&self, path: &str, rules: &[DeviceRule]) -> io::Result<()> {
        let Some(dir) = self.dir("devices", path) else {
            return Err(io::Error::other("the devices controller is not mounted"));
        };
        write(&dir.join("devices.deny"), "a")?;
        let allow = dir.join("devices.allow");
        for rule in rules {
            let number = |it: Option<u64>| it.map_or_else(|| "*".to_owned(), |it| it.to_string());
            let (major, minor) = (number(rule.major), number(rule.minor));
            write(&allow, &format!("{} {major}:{minor} {}", rule.kind, rule.access))?;
        }
        Ok(())
    }

    fn entry(&self, path: &str) -> io::Result<Entry> {
        // A process that moves itself, alone, spares the kernel its lock over all processes: `tasks`
        // and `0`, not `cgroup.procs` and a number.
        let open = |dir: PathBuf| {
            fs::OpenOptions::new().write(true).open(dir.join("tasks")).map(Into::into)
        };
        self.dirs(path).into_iter().map(open).collect::<io::Result<_>>().map(Entry::Files)
    }

    fn join(&self, path: &str) -> io::Result<()> {
        for dir in self.dirs(path) {
            write(&dir.join("cgroup.procs"), "0")?;
        }
        for root in TRACKING.map(Path::new) {
            if root.join("cgroup.procs").exists() {
                let dir = root.join(path);
                fs::create_dir_all(&dir)?;
                write(&dir.join("cgroup.procs"), "0")?;
            }
        }
        Ok(())
    }

    fn kill(&self, path: &str) -> io::Result<bool> {
        let Some(dir) = self.dir("pids", path).or_else(|| self.dir("memory", path)) else {
            return Ok(true);
        };
        kill_tree(&dir)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.dirs(path).iter().try_for_each(|dir| remove_tree(dir))
    }

    fn oom_kills(&self, path: &str) -> u64 {
        self.dir("memory", path)
            .and_then(|dir| keyed_number_in(&dir.join("memory.oom_control"), "oom_kill"))
            .unwrap_or(0)
    }

    fn stats(&self, path: &str) -> io::Result<Stats> {
        let mut stats = Stats { oom_kills: self.oom_kills(path), ..Stats::default() };
        if let Some(dir) = self.dir("memory", path) {
            stats.memory_usage = number_in(&dir.join("memory.usage_in_bytes")).unwrap_or(0);
            let text = fs::read_to_string(dir.join("memory.stat"))?;
            let inactive = keyed_number(&text, "total_inactive_file").unwrap_or(0);
            stats.memory_working_set = stats.memory_usage.saturating_sub(inactive);
            stats.memory_rss = keyed_number(&text, "total_rss").unwrap_or(0);
        }
        if let Some(dir) = self.dir("cpuacct", path) {
            stats.cpu_usage_ns = number_in(&dir.join("cpuacct.usage")).unwrap_or(0);
        }
        if let Some(dir) = self.dir("pids", path) {
            stats.pids = number_in(&dir.join("pids.current")).unwrap_or(0);
        }
        Ok(stats)
    }
}

/// Kills what is in a cgroup and below it; whether there was nothing left.
fn kill_tree(dir: &Path) -> io::Result<bool> {
    let pids = pids_in(&dir.join("cgroup.procs"))?;
    for pid in &pids {
        let pid = nix::unistd::Pid::from_raw(*pid);
        match nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL) {
            // It ended by itself in the meantime.
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let mut empty = pids.is_empty();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            empty &= kill_tree(&entry.path())?;
        }
    }
    Ok(empty)
}

fn limit_memory(cgroup: &Cgroup, dir: Option<&Path>, resources: &Resources) -> io::Result<()> {
    let Some(((memory, limit), dir)) =
        cgroup.controller_of::<MemController>().zip(resources.memory_limit).zip(dir)
    else {
        return Ok(());
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    memory.set_limit(limit).map_err(|err| library_error(&err))?;
    // No swap beyond the limit. The file is missing where the kernel does not count swap.
    match write(&dir.join("memory.memsw.limit_in_bytes"), &limit.to_string()) {
        Err(err) if is_gone(&err) => Ok(()),
        other => other,
    }
}

fn limit_cpu(cgroup: &Cgroup, resources: &Resources) -> cgroups_rs::fs::error::Result<()> {
    let Some(cpu) = cgroup.controller_of::<CpuController>() else {
        return Ok(());
    };
    if let Some(shares) = resources.cpu_shares {
        cpu.set_shares(shares)?;
    }
    // The period first: a quota that fits the new period may not fit the old one.
    if let Some(period) = resources.cpu_period {
        cpu.set_cfs_period(period)?;
    }
    if let Some(quota) = resources.cpu_quota {
        cpu.set_cfs_quota(quota)?;
    }
    Ok(())
}
