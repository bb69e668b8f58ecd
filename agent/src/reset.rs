//! Takes everything down that an agent made on this machine, and looks whether it is gone.

use std::{
    fs,
    io::{self, BufRead},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use agent_core::ids::SandboxId;
use agent_runtime::Runtime;
use cni::BridgeConfig;
use ipnet::Ipv4Net;
use netproxy::{Config, Guard, Proxy};
use rustix::mount::{UnmountFlags, unmount};

use crate::config::AgentConfig;

/// How long the keeper and the kernel have to let go of things.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);
/// Control group hierarchies.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The machine could not be cleaned.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    #[error("an agent serves {path}: stop it first")]
    Running { path: PathBuf },
    #[error("could not reach the keeper")]
    Keeper(#[source] agent_runtime::ConnectError),
    #[error("could not remove what runs")]
    Runtime(#[source] agent_runtime::CallError),
    #[error("could not take a sandbox off the network")]
    Detach(#[source] cni::DetachError),
    #[error("could not remove bridge {name}")]
    Bridge {
        name: String,
        #[source]
        err: cni::BridgeError,
    },
    #[error("could not remove the table that holds pods to their addresses")]
    Guard(#[source] netproxy::SyncError),
    #[error("could not remove the service table")]
    Services(#[source] netproxy::SyncError),
    #[error("could not remove {path}")]
    Remove {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("this is left:\n{}", .left.join("\n"))]
    Left { left: Vec<String> },
}

/// Removes pods, network, mounts, control groups, the keeper, and unless `keep_state` the state.
///
/// # Errors
/// Something could not be removed, or is still there.
pub async fn run(config: &AgentConfig, keep_state: bool) -> Result<(), ResetError> {
    let socket = config.socket();
    if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        return Err(ResetError::Running { path: socket });
    }
    if config.state_dir.exists() || config.run_dir.exists() {
        remove_pods(config).await?;
    }
    remove_network(config)?;
    unmount_below(&config.state_dir)?;
    unmount_below(&config.run_dir)?;
    wait_until(|| processes(config).is_empty()).await;
    // A process that ends has no command line any more a moment before it leaves its control group.
    wait_until(|| {
        remove_cgroups(config);
        cgroups(config).is_empty()
    })
    .await;
    remove_dir(&config.run_dir)?;
    if !keep_state {
        remove_dir(&config.state_dir)?;
    }
    let left = leftovers(config);
    if left.is_empty() { Ok(()) } else { Err(ResetError::Left { left }) }
}

async fn remove_pods(config: &AgentConfig) -> Result<(), ResetError> {
    let runtime = Runtime::connect(&config.runtime()).await.map_err(ResetError::Keeper)?;
    let inventory = runtime.list().await.map_err(ResetError::Runtime)?;
    for container in &inventory.containers {
        runtime.remove_container(&container.id).await.map_err(ResetError::Runtime)?;
    }
    for sandbox in &inventory.sandboxes {
        if let Ok(id) = sandbox.id.as_str().parse::<SandboxId>() {
            cni::detach(&id.to_string()).map_err(ResetError::Detach)?;
        }
        runtime.remove_sandbox(&sandbox.id).await.map_err(ResetError::Runtime)?;
    }
    runtime.retire_keeper().await.map_err(ResetError::Runtime)
}

fn remove_network(config: &AgentConfig) -> Result<(), ResetError> {
    let any = Ipv4Net::default();
    let name = config.bridge.clone();
    let bridge =
        BridgeConfig { name: name.clone(), subnet: any, gateway: Ipv4Addr::UNSPECIFIED, mtu: 0 };
    cni::remove_bridge(&bridge).map_err(|err| ResetError::Bridge { name, err })?;
    let proxy = Config {
        table: config.nft_table.clone(),
        pod_cidr: any,
        cluster_cidr: config.cluster_cidr,
    };
    match Guard::new(config.nft_table.clone()).clear() {
        // Then it never made one.
        Err(err) if err.is_unsupported() => {}
        other => other.map_err(ResetError::Guard)?,
    }
    Proxy::new(proxy).clear().map_err(ResetError::Services)
}

/// Mount points below a directory, the innermost first. The directory itself may be one too: a disk
/// of the operator's, which stays.
fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let Ok(file) = fs::File::open("/proc/self/mountinfo") else { return Vec::new() };
    let lines = io::BufReader::new(file).lines().map_while(Result::ok);
    let mut found: Vec<PathBuf> = lines
        .filter_map(|line| Some(PathBuf::from(line.split(' ').nth(4)?)))
        .filter(|path| path.starts_with(dir) && path != dir)
        .collect();
    found.reverse();
    found
}

fn unmount_below(dir: &Path) -> Result<(), ResetError> {
    for path in mounts_below(dir) {
        unmount(&path, UnmountFlags::DETACH)
            .map_err(|err| ResetError::Remove { path, err: err.into() })?;
    }
    Ok(())
}

/// Processes that run from this agent's directories.
fn processes(config: &AgentConfig) -> Vec<String> {
    let run_dir = config.run_dir.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<String> = line
            .split(|byte| *byte == 0)
            .map(|it| String::from_utf8_lossy(it).into_owned())
            .collect();
        let is_keeper = words.get(1).is_some_and(|it| it == "keeper");
        if is_keeper && pid != std::process::id() && words.iter().any(|it| it.starts_with(&run_dir))
        {
            found.push(format!("process {pid}: {}", words.join(" ")));
        }
    }
    found
}

async fn wait_until(done: impl Fn() -> bool) {
    let attempts = PATIENCE.as_millis() / PAUSE.as_millis();
    for _ in 0..attempts {
        if done() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The agent's control groups, in every hierarchy.
fn cgroups(config: &AgentConfig) -> Vec<PathBuf> {
    let root = Path::new(CGROUPS);
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|it| it.path());
    let all = std::iter::once(root.to_owned()).chain(hierarchies);
    all.map(|it| it.join(&config.cgroup_root)).filter(|it| it.is_dir()).collect()
}

fn remove_cgroups(config: &AgentConfig) {
    for group in cgroups(config) {
        remove_cgroup(&group);
    }
}

/// Innermost first. What cannot be removed is found again by [`leftovers`].
fn remove_cgroup(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    if let Err(err) = fs::remove_dir(dir) {
        tracing::debug!(path = %dir.display(), error = %err, "Could not remove a control group");
    }
}

fn remove_dir(path: &Path) -> Result<(), ResetError> {
    match fs::remove_dir_all(path) {
        // The mount point of a disk, with nothing left on it.
        Err(err) if err.kind() == io::ErrorKind::ResourceBusy && is_empty(path) => Ok(()),
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(ResetError::Remove { path: path.to_owned(), err })
        }
        _ => Ok(()),
    }
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut it| it.next().is_none())
}

fn leftovers(config: &AgentConfig) -> Vec<String> {
    let mut left = processes(config);
    for dir in [&config.state_dir, &config.run_dir] {
        left.extend(mounts_below(dir).iter().map(|it| format!("mount {}", it.display())));
    }
    left.extend(cgroups(config).iter().map(|it| format!("control group {}", it.display())));
    let bridge = Path::new("/sys/class/net").join(&config.bridge);
    if bridge.exists() {
        left.push(format!("link {}", config.bridge));
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_below_the_state_is_emptied_and_stays_mounted() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let state = temp.path().canonicalize().unwrap().join("state");
        let inner = state.join("volume");
        let mount = |at: &Path| {
            fs::create_dir_all(at).unwrap();
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("none", at, "tmpfs", flags, None::<&std::ffi::CStr>).unwrap();
        };
        mount(&state);
        mount(&inner);
        fs::create_dir_all(state.join("ledger/records")).unwrap();
        unmount_below(&state).unwrap();
        remove_dir(&state).unwrap();
        assert!(is_empty(&state));
        // Fails if it was unmounted above.
        unmount(&state, UnmountFlags::empty()).unwrap();
    }
}
