//! The Node object: what a machine has and how it is.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::event::seconds;

/// Pods that one node takes.
pub(crate) const MAX_PODS: u32 = 1000;
/// Memory below which the node is under pressure.
const MIN_MEMORY: u64 = 100 << 20;
/// Part of the disk, in percent, below which the node is under pressure.
const MIN_DISK_PERCENT: u64 = 10;
/// Process ids, in percent of the limit, below which the node is under pressure.
const MIN_PIDS_PERCENT: u64 = 5;
/// Memory that pods cannot have: the node's own.
const RESERVED_MEMORY: u64 = 64 << 20;
/// Version that clients see as the node's.
pub const KUBELET_VERSION: &str = concat!("v1.37.0+outbye-", env!("CARGO_PKG_VERSION"));

/// What was read off the machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Machine {
    pub hostname: String,
    pub addresses: Vec<IpAddr>,
    pub milli_cpu: u64,
    pub memory_total: u64,
    pub memory_available: u64,
    pub disk_total: u64,
    pub disk_available: u64,
    pub pids_max: u64,
    pub pids_used: u64,
    pub architecture: String,
    pub kernel_version: String,
    pub os_image: String,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    /// Names and size of images.
    pub images: Vec<(Vec<String>, u64)>,
}

/// What pods may use of the machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Allocatable {
    pub milli_cpu: i64,
    pub memory: i64,
}

impl Machine {
    pub fn allocatable(&self) -> Allocatable {
        let memory = self.memory_total.saturating_sub(RESERVED_MEMORY);
        Allocatable {
            milli_cpu: i64::try_from(self.milli_cpu).unwrap_or(i64::MAX),
            memory: i64::try_from(memory).unwrap_or(i64::MAX),
        }
    }

    fn pressures(&self) -> [Pressure; 3] {
        let below = |part: u64, whole: u64, percent: u64| whole > 0 && part < whole / 100 * percent;
        let pids_left = self.pids_max.saturating_sub(self.pids_used);
        [
            Pressure {
                kind: "MemoryPressure",
                pressed: self.memory_total > 0 && self.memory_available < MIN_MEMORY,
                bad: ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
                good: ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            },
            Pressure {
                kind: "DiskPressure",
                pressed: below(self.disk_available, self.disk_total, MIN_DISK_PERCENT),
                bad: ("KubeletHasDiskPressure", "kubelet has disk pressure"),
                good: ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            },
            Pressure {
                kind: "PIDPressure",
                pressed: below(pids_left, self.pids_max, MIN_PIDS_PERCENT),
                bad: ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
                good: ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            },
        ]
    }
}

/// One thing that a node can be short of, with reason and message for both cases.
struct Pressure {
    kind: &'static str,
    pressed: bool,
    bad: (&'static str, &'static str),
    good: (&'static str, &'static str),
}

/// The Node object with labels and status. `previous` is the one before: a condition that did not
/// change keeps its transition time.
pub fn node_object(
    name: &str,
    machine: &Machine,
    ready: Result<(), &str>,
    previous: Option<&Value>,
    now: Timestamp,
) -> Value {
    let allocatable = machine.allocatable();
    let resources = |memory: u64, milli_cpu: u64| {
        let cpu = match milli_cpu % 1000 {
            0 => (milli_cpu / 1000).to_string(),
            _ => format!("{milli_cpu}m"),
        };
        json!({
            "cpu": cpu,
            "memory": format!("{}Ki", memory / 1024),
            "ephemeral-storage": format!("{}Ki", machine.disk_total / 1024),
            "pods": MAX_PODS.to_string(),
        })
    };
    let mut addresses: Vec<Value> = machine
        .addresses
        .iter()
        .map(|ip| json!({"type": "InternalIP", "address": ip.to_string()}))
        .collect();
    addresses.push(json!({"type": "Hostname", "address": machine.hostname}));
    let images: Vec<Value> = machine
        .images
        .iter()
        .map(|(names, size)| json!({"names": names, "sizeBytes": size}))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": machine.architecture,
                "beta.kubernetes.io/os": "linux",
                "beta.kubernetes.io/arch": machine.architecture,
            },
        },
        "status": {
            "addresses": addresses,
            "capacity": resources(machine.memory_total, machine.milli_cpu),
            "allocatable":
                resources(u64::try_from(allocatable.memory).unwrap_or(0), machine.milli_cpu),
            "conditions": conditions(machine, ready, previous, now),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
            "images": images,
            "nodeInfo": {
                "architecture": machine.architecture,
                "bootID": machine.boot_id,
                "containerRuntimeVersion": concat!("outbye://", env!("CARGO_PKG_VERSION")),
                "kernelVersion": machine.kernel_version,
                "kubeProxyVersion": KUBELET_VERSION,
                "kubeletVersion": KUBELET_VERSION,
                "machineID": machine.machine_id,
                "operatingSystem": "linux",
                "osImage": machine.os_image,
                "systemUUID": machine.system_uuid,
            },
        },
    })
}

fn conditions(
    machine: &Machine,
    ready: Result<(), &str>,
    previous: Option<&Value>,
    now: Timestamp,
) -> Vec<Value> {
    let mut conditions = Vec::new();
    let mut push = |kind: &str, is_true: bool, reason: &str, message: &str| {
        let status = if is_true { "True" } else { "False" };
        let known = previous
            .and_then(|it| it.pointer("/status/conditions")?.as_array())
            .and_then(|it| it.iter().find(|it| it["type"] == kind && it["status"] == status));
        let at = known.map_or_else(|| json!(seconds(now)), |it| it["lastTransitionTime"].clone());
        conditions.push(json!({
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": at,
            "lastHeartbeatTime": seconds(now),
        }));
    };
    for Pressure { kind, pressed, bad, good } in machine.pressures() {
        let (reason, message) = if pressed { bad } else { good };
        push(kind, pressed, reason, message);
    }
    match ready {
        Ok(()) => push("Ready", true, "KubeletReady", "kubelet is posting ready status"),
        Err(why) => push("Ready", false, "KubeletNotReady", why),
    }
    conditions
}

/// Whether two Node objects differ in more than their heartbeat times.
pub fn differs(a: &Value, b: &Value) -> bool {
    let without = |node: &Value| {
        let mut node = node.clone();
        if let Some(list) = node.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
            for condition in list.iter_mut().filter_map(Value::as_object_mut) {
                condition.remove("lastHeartbeatTime");
            }
        }
        node
    };
    without(a) != without(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(memory_available: u64) -> Machine {
        Machine {
            milli_cpu: 2000,
            memory_total: 1 << 30,
            memory_available,
            disk_total: 1 << 40,
            disk_available: 1 << 39,
            pids_max: 32768,
            ..Machine::default()
        }
    }

    #[test]
    fn conditions_keep_their_transition_time() {
        let at = |secs| Timestamp::from_second(secs).unwrap();
        let first = node_object("n", &machine(1 << 29), Ok(()), None, at(10));
        let same = node_object("n", &machine(1 << 29), Ok(()), Some(&first), at(20));
        assert!(!differs(&first, &same));
        let low = node_object("n", &machine(1 << 20), Err("no"), Some(&same), at(30));
        assert!(differs(&same, &low));
        let condition = |node: &Value, at: usize| {
            let it = &node["status"]["conditions"][at];
            format!(
                "{} {} {} {}",
                it["type"], it["status"], it["message"], it["lastTransitionTime"]
            )
            .replace('"', "")
        };
        assert_eq!(
            condition(&low, 0),
            "MemoryPressure True kubelet has insufficient memory available 1970-01-01T00:00:30Z"
        );
        assert_eq!(
            condition(&low, 1),
            "DiskPressure False kubelet has no disk pressure 1970-01-01T00:00:10Z"
        );
        assert_eq!(
            condition(&same, 2),
            "PIDPressure False kubelet has sufficient PID available 1970-01-01T00:00:10Z"
        );
    }
}
