//! Reads off the machine what the Node object says about it.

use std::{fs, net::IpAddr, path::Path};

use agent_core::node::Machine;
use agent_image::ImageStore;

/// Images that the Node object lists at most.
const MAX_IMAGES: usize = 50;

/// Looks at the machine. What cannot be read is left empty.
pub fn read(state_dir: &Path, bridge: &str, images: &ImageStore) -> Machine {
    let uname = rustix::system::uname();
    let text = |it: &std::ffi::CStr| it.to_string_lossy().into_owned();
    let (disk_total, disk_available) = disk(state_dir);
    let (pids_used, pids_max) = pids();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Machine {
        hostname: text(uname.nodename()),
        addresses: addresses(bridge),
        milli_cpu: u64::try_from(cpus).unwrap_or(1) * 1000,
        memory_total: meminfo("MemTotal:").min(cgroup_memory_limit()),
        memory_available: meminfo("MemAvailable:"),
        disk_total,
        disk_available,
        pids_max,
        pids_used,
        architecture: architecture(uname.machine().to_str().unwrap_or_default()).to_owned(),
        kernel_version: text(uname.release()),
        os_image: os_image(),
        machine_id: first_line("/etc/machine-id"),
        system_uuid: first_line("/sys/class/dmi/id/product_uuid"),
        boot_id: first_line("/proc/sys/kernel/random/boot_id"),
        images: image_names(images),
    }
}

/// The least score for the OOM killer that this process may give: without `CAP_SYS_RESOURCE`, its
/// own. A node in a container of somebody else's has to live with that.
pub fn least_oom_score_adj() -> i32 {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    const LEAST: i32 = -1000;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|it| u64::from_str_radix(it.trim(), 16).ok());
    if effective.is_none_or(|it| it & CAP_SYS_RESOURCE != 0) {
        return LEAST;
    }
    first_line("/proc/self/oom_score_adj").parse().unwrap_or(0)
}

/// Processes and threads that one pod may have: a quarter of what the kernel has numbers and room
/// for, so that a pod that does nothing but fork leaves the machine usable.
pub fn pod_pids_limit() -> Option<u64> {
    let paths = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
    let room = paths.iter().filter_map(|path| first_line(path).parse::<u64>().ok()).min()?;
    Some((room / 4).max(1))
}

/// Kubernetes' word for the machine's architecture.
fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" | "armv6l" => "arm",
        "riscv64" => "riscv64",
        other => other,
    }
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

fn meminfo(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn cgroup_memory_limit() -> u64 {
    let paths = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = paths.iter().find_map(|path| first_line(path).parse::<u64>().ok());
    limit.filter(|limit| *limit > 0).unwrap_or(u64::MAX)
}

fn disk(dir: &Path) -> (u64, u64) {
    match rustix::fs::statvfs(dir) {
        Ok(it) => {
            (it.f_blocks.saturating_mul(it.f_frsize), it.f_bavail.saturating_mul(it.f_frsize))
        }
        Err(_) => (0, 0),
    }
}

fn pids() -> (u64, u64) {
    // `0.00 0.01 0.05 1/234 5678`: the fourth word is running/all.
    let load = first_line("/proc/loadavg");
    let all = load.split_whitespace().nth(3).and_then(|it| it.split_once('/')?.1.parse().ok());
    (all.unwrap_or(0), first_line("/proc/sys/kernel/pid_max").parse().unwrap_or(0))
}

fn os_image() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map(|it| it.trim_matches('"').to_owned()).unwrap_or_else(|| "Linux".to_owned())
}

/// IPv4 addresses, that of the default route first; none of the pod bridge's.
fn addresses(bridge: &str) -> Vec<IpAddr> {
    let route = default_route_interface();
    let mut found: Vec<(bool, IpAddr)> = Vec::new();
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let name = &interface.interface_name;
        let address = interface.address.as_ref().and_then(|it| it.as_sockaddr_in());
        let Some(address) = address.map(|it| IpAddr::V4(it.ip())) else { continue };
        let up = interface.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP);
        if !up || address.is_loopback() || name == bridge {
            continue;
        }
        found.push((Some(name) != route.as_ref(), address));
    }
    found.sort_by_key(|(other, _)| *other);
    // The API takes one address of a family as the node's own.
    found.into_iter().map(|(_, address)| address).take(1).collect()
}

/// Largest packet that the way out of the machine takes.
pub fn mtu() -> u32 {
    const ETHERNET: u32 = 1500;
    let name = default_route_interface();
    let mtu = name.and_then(|it| first_line(&format!("/sys/class/net/{it}/mtu")).parse().ok());
    mtu.unwrap_or(ETHERNET)
}

fn default_route_interface() -> Option<String> {
    let text = fs::read_to_string("/proc/net/route").ok()?;
    text.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace();
        let (name, destination) = (words.next()?, words.next()?);
        (destination == "00000000").then(|| name.to_owned())
    })
}

fn image_names(images: &ImageStore) -> Vec<(Vec<String>, u64)> {
    let mut names: Vec<_> = images
        .list()
        .into_iter()
        .map(|image| {
            let name = image.reference.to_string();
            let by_digest = agent_core::image::image_id(&name, &image.repo_digest.to_string());
            (vec![by_digest, name], image.size_bytes)
        })
        .collect();
    names.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    names.truncate(MAX_IMAGES);
    names
}
