//! Starts one container of `/bin/true` for each line of standard input, and says how long it took.
//!
//! `container_start <rootfs>`: each start is what a pod needs that nobody has asked for before: a sandbox with its
//! namespaces, a veth pair on a bridge with an address, an overlay over `rootfs`, limits of memory, processor and
//! processes, the default seccomp profile. One line of JSON for each: microseconds from the request to `execve`, and to
//! the end with everything removed again but the link, which the kernel removes by itself. Whoever measures starts another runtime in between, on the same machine.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "this program measures time and prints it"
)]

use std::{
    collections::BTreeMap,
    error::Error,
    ffi::OsString,
    io::BufRead,
    net::Ipv4Addr,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use agent_runtime::{
    CgroupPath, ContainerId, ContainerSpec, Resources, Runtime, RuntimeConfig, RuntimeEvent,
    SandboxId, SandboxSpec,
};
use cni::{Attach, BridgeConfig};
use serde_json::json;

/// Out of the range for documentation: nobody's network.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const BRIDGE: &str = "obbench0";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = agent_runtime::dispatch(&args) {
        return code;
    }
    match measure(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            println!("{err}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn measure(args: &[OsString]) -> Result<(), Box<dyn Error>> {
    let rootfs = PathBuf::from(args.get(1).ok_or("usage: container_start <rootfs>")?);
    let dir = tempfile::tempdir()?;
    let config = RuntimeConfig {
        state_dir: dir.path().join("state"),
        run_dir: dir.path().join("run"),
        cgroup_root: format!("outbye-bench-{}", std::process::id()),
    };
    let bridge = BridgeConfig {
        name: BRIDGE.to_owned(),
        subnet: ipnet::Ipv4Net::new(GATEWAY, 24)?.trunc(),
        gateway: GATEWAY,
        mtu: 1500,
    };
    cni::ensure_bridge(&bridge)?;
    let runtime = Runtime::connect(&config).await?;
    for (n, line) in std::io::stdin().lock().lines().enumerate() {
        line?;
        println!("{}", start(&runtime, &bridge, &rootfs, dir.path(), n).await?);
    }
    runtime.retire_keeper().await?;
    cni::remove_bridge(&bridge)?;
    remove_cgroups(&config.cgroup_root);
    Ok(())
}

async fn start(
    runtime: &Runtime,
    bridge: &BridgeConfig,
    rootfs: &Path,
    dir: &Path,
    n: usize,
) -> Result<String, Box<dyn Error>> {
    let mut events = runtime.events();
    let begin = Instant::now();
    let id = format!("s{n}");
    let sandbox = SandboxSpec {
        id: SandboxId::new(&id)?,
        hostname: id.clone(),
        host_network: false,
        host_pid: false,
        host_ipc: false,
        share_process_namespace: false,
        cgroup: CgroupPath::new(format!("burstable/pod{id}"))?,
        resources: Resources::default(),
        sysctls: BTreeMap::new(),
    };
    runtime.ensure_sandbox(&sandbox).await?;
    let made = begin.elapsed();
    let netns = runtime.netns(&sandbox.id).await?;
    cni::attach(
        bridge,
        &Attach { id: &id, netns: netns.as_fd(), ifname: "eth0", address: ADDRESS },
    )?;
    drop(netns);
    let attached = begin.elapsed();
    let container = ContainerId::new(format!("c{n}"))?;
    let log = dir.join("log");
    let layers = vec![rootfs.to_owned()];
    let command = vec!["/bin/true".to_owned()];
    let mut spec = ContainerSpec::new(container.clone(), sandbox.id.clone(), layers, command, log);
    spec.resources.memory_limit = Some(64 << 20);
    spec.resources.cpu_shares = Some(1024);
    spec.resources.pids_limit = Some(100);
    runtime.ensure_container(&spec).await?;
    let running = begin.elapsed();
    while !matches!(events.recv().await?, RuntimeEvent::Exited { id, .. } if id == container) {}
    // As the agent does it: the link goes with its namespace, when the kernel gets to it.
    runtime.remove_sandbox(&sandbox.id).await?;
    Ok(json!({
        "sandbox_us": made.as_micros(),
        "network_us": (attached - made).as_micros(),
        "container_us": (running - attached).as_micros(),
        "execve_us": running.as_micros(),
        "whole_us": begin.elapsed().as_micros(),
    })
    .to_string())
}

/// The keeper leaves the tree's root to whoever named it. What is not there need not be removed.
fn remove_cgroups(root: &str) {
    let base = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(base).into_iter().flatten().filter_map(Result::ok);
    for dir in std::iter::once(base.to_owned()).chain(hierarchies.map(|it| it.path())) {
        remove_tree(&dir.join(root));
    }
}

/// A cgroup is empty of files that could be removed; only its directories go.
fn remove_tree(dir: &Path) {
    for child in std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        if child.file_type().is_ok_and(|it| it.is_dir()) {
            remove_tree(&child.path());
        }
    }
    let _ = std::fs::remove_dir(dir);
}
