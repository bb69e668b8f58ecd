//! Whether a node takes a pod that was bound to it: the kubelet's last word, for pods that came past the
//! scheduler. A pod that is refused ends as Failed, with the kubelet's reasons and words.
//!
//! Asked once, when the node first meets the pod; what was taken stays taken.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::{
    ids::PodUid,
    node::{Allocatable, MAX_PODS},
    record::Rejection,
    resources,
};

/// A port of the machine that a pod has for itself.
#[derive(Clone, Debug, Eq, PartialEq)]
struct HostPort {
    /// Empty for every address.
    ip: String,
    protocol: String,
    port: i32,
}

impl HostPort {
    fn conflicts(&self, other: &Self) -> bool {
        let same_ip = self.ip.is_empty() || other.ip.is_empty() || self.ip == other.ip;
        same_ip && self.protocol == other.protocol && self.port == other.port
    }
}

/// What one pod takes of a node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Claims {
    ports: Vec<HostPort>,
    milli_cpu: u64,
    memory: u64,
}

impl Claims {
    pub fn of(spec: &PodSpec) -> Self {
        let is_sidecar = |it: &&Container| it.restart_policy.as_deref() == Some("Always");
        let sidecars = spec.init_containers.iter().flatten().filter(is_sidecar);
        let ports = sidecars.chain(&spec.containers).flat_map(|it| it.ports.iter().flatten());
        let ports = ports.filter_map(|it| {
            let port = it.host_port.filter(|port| *port > 0)?;
            let ip = it.host_ip.clone().unwrap_or_default();
            let ip = if matches!(&*ip, "0.0.0.0" | "::") { String::new() } else { ip };
            let protocol = it.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some(HostPort { ip, protocol, port })
        });
        let (milli_cpu, memory) = resources::pod_requests(spec);
        Self { ports: ports.collect(), milli_cpu, memory }
    }
}

/// Pods that the node has taken, and what they take.
#[derive(Debug, Default)]
pub struct Admitted {
    pods: BTreeMap<PodUid, Claims>,
}

impl Admitted {
    /// Forgets pods that take nothing any more.
    pub fn retain(&mut self, is_active: impl Fn(&PodUid) -> bool) {
        self.pods.retain(|uid, _| is_active(uid));
    }

    /// Counts a pod that was taken before.
    pub fn add(&mut self, uid: PodUid, claims: Claims) {
        self.pods.insert(uid, claims);
    }

    /// Takes a pod, if there is room for it.
    ///
    /// # Errors
    /// What it lacks.
    pub fn admit(
        &mut self,
        uid: PodUid,
        claims: Claims,
        room: &Allocatable,
    ) -> Result<(), Rejection> {
        let others = || self.pods.iter().filter(|(it, _)| **it != uid).map(|(_, claims)| claims);
        let unsigned = |it: i64| u64::try_from(it).unwrap_or(0);
        let n_pods = u64::try_from(others().count()).unwrap_or(u64::MAX);
        let sum = |of: fn(&Claims) -> u64| others().map(of).fold(0, u64::saturating_add);
        for (resource, requested, used, capacity) in [
            ("pods", 1, n_pods, u64::from(MAX_PODS)),
            ("cpu", claims.milli_cpu, sum(|it| it.milli_cpu), unsigned(room.milli_cpu)),
            ("memory", claims.memory, sum(|it| it.memory), unsigned(room.memory)),
        ] {
            if requested > 0 && used.saturating_add(requested) > capacity {
                let message = format!(
                    "Node didn't have enough resource: {resource}, requested: {requested}, used: \
                     {used}, capacity: {capacity}"
                );
                return Err(Rejection { reason: format!("OutOf{resource}"), message });
            }
        }
        let taken = others()
            .flat_map(|it| &it.ports)
            .any(|taken| claims.ports.iter().any(|wanted| wanted.conflicts(taken)));
        if taken {
            let message = "Predicate NodePorts failed: node(s) didn't have free ports for the \
                           requested pod ports";
            let reason = "NodePorts".to_owned();
            return Err(Rejection { reason, message: message.to_owned() });
        }
        self.add(uid, claims);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn uid(n: usize) -> PodUid {
        format!("5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c{n:04x}").parse().unwrap()
    }

    fn with_port(port: Value) -> Value {
        json!({"containers": [{"name": "c", "ports": [port]}]})
    }

    fn asking(cpu: &str, memory: &str) -> Value {
        let requests = json!({"cpu": cpu, "memory": memory});
        json!({"containers": [{"name": "c", "resources": {"requests": requests}}]})
    }

    /// Takes pods in turn; the reason for each that is refused.
    fn check(pods: &[Value], expected: &[Option<&str>]) {
        let room = Allocatable { milli_cpu: 2000, memory: 1 << 30 };
        let mut admitted = Admitted::default();
        let reasons: Vec<Option<String>> = pods
            .iter()
            .enumerate()
            .map(|(n, pod)| {
                let claims = Claims::of(&serde_json::from_value(pod.clone()).unwrap());
                admitted.admit(uid(n), claims, &room).err().map(|it| it.reason)
            })
            .collect();
        let reasons: Vec<_> = reasons.iter().map(Option::as_deref).collect();
        assert_eq!(reasons, expected);
    }

    #[test]
    fn a_port_of_the_machine_is_had_once() {
        let tcp = |ip: &str, port: i32| {
            with_port(json!({"containerPort": 80, "hostPort": port, "hostIP": ip}))
        };
        check(&[tcp("", 80), tcp("", 80)], &[None, Some("NodePorts")]);
        check(&[tcp("", 80), tcp("", 81)], &[None, None]);
        check(&[tcp("10.0.0.1", 80), tcp("10.0.0.2", 80)], &[None, None]);
        check(&[tcp("10.0.0.1", 80), tcp("0.0.0.0", 80)], &[None, Some("NodePorts")]);
        let udp = with_port(json!({"containerPort": 80, "hostPort": 80, "protocol": "UDP"}));
        check(&[tcp("", 80), udp.clone(), udp], &[None, None, Some("NodePorts")]);
        let inside = with_port(json!({"containerPort": 80}));
        check(&[inside.clone(), inside], &[None, None]);
    }

    #[test]
    fn what_was_refused_takes_nothing() {
        let (all, half) = (asking("2", "1Mi"), asking("1", "1Mi"));
        check(
            &[half.clone(), all, half.clone(), half],
            &[None, Some("OutOfcpu"), None, Some("OutOfcpu")],
        );
        check(&[asking("0", "1Gi"), asking("0", "1")], &[None, Some("OutOfmemory")]);
        // A pod that asks for nothing is always taken.
        check(&[asking("2", "1Gi"), json!({"containers": [{"name": "c"}]})], &[None, None]);
    }

    #[test]
    fn what_ended_gives_room() {
        let room = Allocatable { milli_cpu: 1000, memory: 1 << 30 };
        let claims = || Claims::of(&serde_json::from_value(asking("1", "1Mi")).unwrap());
        let mut admitted = Admitted::default();
        admitted.admit(uid(0), claims(), &room).unwrap();
        // The same pod again does not stand in its own way.
        admitted.admit(uid(0), claims(), &room).unwrap();
        let refused = admitted.admit(uid(1), claims(), &room).unwrap_err();
        assert_eq!(
            refused.message,
            "Node didn't have enough resource: cpu, requested: 1000, used: 1000, capacity: 1000"
        );
        admitted.retain(|it| *it != uid(0));
        admitted.admit(uid(1), claims(), &room).unwrap();
        for n in 2..=999 {
            admitted.add(uid(n), Claims::default());
        }
        admitted.add(uid(1000), Claims::default());
        assert_eq!(
            admitted.admit(uid(1001), Claims::default(), &room).unwrap_err().reason,
            "OutOfpods"
        );
    }
}
