//! Everything about a pod that decides where it may go. Pods with equal needs are interchangeable.

use std::sync::Arc;

use serde_json::Value;

use crate::affinity::NodeAffinity;
use crate::resources::Request;
use crate::toleration::Toleration;
use crate::value::{at, list_at, str_at};

/// A port of the node that a pod takes.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct HostPort {
    pub protocol: String,
    pub port: i64,
    /// "0.0.0.0" for all addresses.
    pub address: String,
}

const ANY_ADDRESS: &str = "0.0.0.0";

impl HostPort {
    pub(crate) fn conflicts_with(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address
                || self.address == ANY_ADDRESS
                || other.address == ANY_ADDRESS)
    }
}

/// Which nodes a pod may go to and likes, whatever is on them.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Choice {
    pub affinity: NodeAffinity,
    pub tolerations: Vec<Toleration>,
}

/// What a pod asks of a node.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Needs {
    pub request: Request,
    pub choice: Arc<Choice>,
    pub host_ports: Vec<HostPort>,
}

impl Needs {
    pub(crate) fn of(pod_spec: &Value) -> Self {
        let choice = Choice {
            affinity: NodeAffinity::of(pod_spec),
            tolerations: Toleration::all_of(pod_spec),
        };
        Self {
            request: Request::of(pod_spec),
            choice: Arc::new(choice),
            host_ports: host_ports(pod_spec),
        }
    }
}

fn host_ports(spec: &Value) -> Vec<HostPort> {
    let is_sidecar = |it: &&Value| str_at(it, &["restartPolicy"]) == "Always";
    let sidecars = list_at(spec, &["initContainers"]).iter().filter(is_sidecar);
    let containers = list_at(spec, &["containers"]).iter().chain(sidecars);
    let or = |text: &str, default: &str| if text.is_empty() { default } else { text }.to_owned();
    let mut ports: Vec<HostPort> = containers
        .flat_map(|container| list_at(container, &["ports"]))
        .filter_map(|port| {
            let number = at(port, &["hostPort"]).as_i64().filter(|number| *number > 0)?;
            Some(HostPort {
                protocol: or(str_at(port, &["protocol"]), "TCP"),
                port: number,
                address: or(str_at(port, &["hostIP"]), ANY_ADDRESS),
            })
        })
        .collect();
    ports.sort();
    ports
}
