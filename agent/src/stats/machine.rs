//! The machine as a whole: what all of its processes use together.
//!
//! In a container of somebody else's, "the machine" is what that container may have.

use std::fs;

const CGROUP: &str = "/sys/fs/cgroup";

/// Counters of the machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct MachineStats {
    /// CPU time since it was started, in nanoseconds.
    pub(crate) cpu_usage_ns: u64,
    /// Memory in use, in bytes.
    pub(crate) memory_usage: u64,
    /// The same without page cache that can be dropped at once.
    pub(crate) memory_working_set: u64,
    /// Anonymous memory, in bytes.
    pub(crate) memory_rss: u64,
    /// Memory that is left, in bytes.
    pub(crate) memory_available: u64,
}

/// Reads the counters; `None` where the kernel shows none.
pub(super) fn read() -> Option<MachineStats> {
    let cpu_usage_ns = cpu_ns()?;
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let (usage, working_set, rss, total) = limited().or_else(|| whole(&text))?;
    Some(MachineStats {
        cpu_usage_ns,
        memory_usage: usage,
        memory_working_set: working_set,
        memory_rss: rss,
        memory_available: total.saturating_sub(working_set),
    })
}

fn cpu_ns() -> Option<u64> {
    let number = |path: String| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    if let Ok(text) = fs::read_to_string(format!("{CGROUP}/cpu.stat"))
        && let Some(micros) = keyed(&text, "usage_usec")
    {
        return Some(micros.saturating_mul(1000));
    }
    let v1 = ["cpuacct", "cpu,cpuacct"];
    let counted = v1.into_iter().find_map(|it| number(format!("{CGROUP}/{it}/cpuacct.usage")));
    counted.or_else(|| of_proc_stat(&fs::read_to_string("/proc/stat").ok()?))
}

/// Times of all processors in hundredths of a second (`USER_HZ`, see proc(5)): all but idle, iowait
/// and the guests, which are counted as user already.
fn of_proc_stat(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|it| it.parse().ok()).collect();
    let busy = ticks.iter().take(8).enumerate().filter(|(i, _)| !matches!(i, 3 | 4));
    Some(busy.map(|(_, it)| it).sum::<u64>().saturating_mul(10_000_000))
}

/// Usage, working set, anonymous memory and total of a limited cgroup that is the root of what can
/// be seen.
fn limited() -> Option<(u64, u64, u64, u64)> {
    let number = |path: &str| {
        fs::read_to_string(format!("{CGROUP}/{path}")).ok()?.trim().parse::<u64>().ok()
    };
    let text = |path: &str| fs::read_to_string(format!("{CGROUP}/{path}")).ok();
    let ram = keyed(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")? * 1024;
    let v2 = || {
        let (limit, usage) = (number("memory.max")?, number("memory.current")?);
        let stat = text("memory.stat")?;
        Some((limit, usage, keyed(&stat, "inactive_file")?, keyed(&stat, "anon")?))
    };
    let v1 = || {
        let limit = number("memory/memory.limit_in_bytes")?;
        let usage = number("memory/memory.usage_in_bytes")?;
        let stat = text("memory/memory.stat")?;
        Some((limit, usage, keyed(&stat, "total_inactive_file")?, keyed(&stat, "total_rss")?))
    };
    let (limit, usage, inactive, rss) = v2().or_else(v1)?;
    (limit < ram).then(|| (usage, usage.saturating_sub(inactive), rss, limit))
}

/// The same of a machine without limits, from `/proc/meminfo`.
fn whole(meminfo: &str) -> Option<(u64, u64, u64, u64)> {
    let bytes = |key: &str| keyed(meminfo, key).map(|kib| kib.saturating_mul(1024));
    let total = bytes("MemTotal:")?;
    let usage = total.saturating_sub(bytes("MemFree:")?);
    let working_set = usage.saturating_sub(bytes("Inactive(file):").unwrap_or(0));
    Some((usage, working_set, bytes("AnonPages:").unwrap_or(0), total))
}

/// The first number after `key` at the beginning of a line.
fn keyed(text: &str, key: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key).filter(|rest| rest.starts_with([' ', '\t'])))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let meminfo =
            "MemTotal:  100 kB\nMemFree:  40 kB\nInactive(file):  10 kB\nAnonPages: 7 kB\n";
        assert_eq!(whole(meminfo), Some((60 << 10, 50 << 10, 7 << 10, 100 << 10)));
        assert_eq!(whole("MemFree: 1 kB"), None);
        let stat = "cpu  100 1 20 9000 500 3 4 2 77 0\ncpu0 1 1 1\n";
        assert_eq!(of_proc_stat(stat), Some(1_300_000_000));
        assert_eq!(keyed("usage_usec_more 3\nusage_usec 4\n", "usage_usec"), Some(4));
    }

    #[test]
    fn this_machine_uses_something() {
        let before = read().unwrap();
        assert!(before.cpu_usage_ns > 0 && before.memory_working_set > 0);
        assert!(before.memory_usage >= before.memory_working_set);
    }
}
