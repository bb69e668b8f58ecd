//! Where the agent keeps things and how it is told to behave.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use agent_core::ids::{ContainerId, ContainerName, PodRef, PodUid};
use agent_runtime::RuntimeConfig;
use ipnet::Ipv4Net;

/// Settings of one agent.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Durable: ledger, images, logs, volumes.
    pub state_dir: PathBuf,
    /// Gone after a boot: sockets, namespaces.
    pub run_dir: PathBuf,
    /// Empty: the name that the node joined with, or the machine's.
    pub node_name: String,
    /// The machine's address; found by itself when not given.
    pub node_ip: Option<IpAddr>,
    /// Registries that are asked without TLS.
    pub plain_http_registries: Vec<String>,
    /// Name of the bridge that pods hang on.
    pub bridge: String,
    /// Addresses of all pods of all nodes.
    pub cluster_cidr: Ipv4Net,
    /// Addresses of all Services.
    pub service_cidr: Ipv4Net,
    /// Addresses of this node's pods while the hub has not said.
    pub pod_cidr: Option<Ipv4Net>,
    /// Name of the nftables tables: of the service proxy (`ip`), and of what holds pods to their addresses (`bridge`).
    pub nft_table: String,
    /// Name of the agent's control group below the root of each hierarchy.
    pub cgroup_root: String,
    /// Bytes a second that the log of one container takes for long; what comes faster waits in the
    /// container. The runtime's usual rate when not given.
    pub container_log_rate: Option<u64>,
    /// Follow a hub whose storage was replaced.
    pub accept_new_epoch: bool,
}

impl AgentConfig {
    pub fn runtime(&self) -> RuntimeConfig {
        RuntimeConfig {
            state_dir: self.state_dir.join("runtime"),
            run_dir: self.run_dir.join("runtime"),
            cgroup_root: self.cgroup_root.clone(),
        }
    }

    pub fn ledger_dir(&self) -> PathBuf {
        self.state_dir.join("ledger")
    }

    pub fn images_dir(&self) -> PathBuf {
        self.state_dir.join("images")
    }

    /// Directory of all pods' volumes and system files.
    pub fn pods_dir(&self) -> PathBuf {
        self.state_dir.join("pods")
    }

    pub fn pod_dir(&self, uid: &PodUid) -> PathBuf {
        self.pods_dir().join(uid.to_string())
    }

    pub fn volumes_dir(&self, uid: &PodUid) -> PathBuf {
        self.pod_dir(uid).join("volumes")
    }

    /// Where a container leaves its last words.
    pub fn termination_log(&self, id: &ContainerId) -> PathBuf {
        let dir = self.pod_dir(&id.pod).join("termination");
        dir.join(format!("{}.{}", id.name, id.attempt))
    }

    pub fn logs_dir(&self) -> PathBuf {
        self.state_dir.join("logs")
    }

    pub fn pod_logs_dir(&self, uid: &PodUid, pod: &PodRef) -> PathBuf {
        self.logs_dir().join(format!("{}_{}_{uid}", pod.namespace, pod.name))
    }

    /// Log of one attempt at a container.
    pub fn log_path(&self, pod: &PodRef, id: &ContainerId) -> PathBuf {
        container_log(&self.pod_logs_dir(&id.pod, pod), &id.name, id.attempt.0)
    }

    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("agent.sock")
    }
}

fn container_log(dir: &Path, name: &ContainerName, attempt: u32) -> PathBuf {
    dir.join(name.as_str()).join(format!("{attempt}.log"))
}
