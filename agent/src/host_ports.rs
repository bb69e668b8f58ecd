//! Ports of the machine that lead to pods of this node: `hostPort` of containers that have a network of
//! their own. The service proxy makes them, beside the ports of Services.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use agent_core::ids::PodUid;
use agent_sync::ObjectKey;
use netproxy::model::{Endpoint, Frontend, Protocol, ServiceTable};
use serde::Deserialize;

use crate::desired::{Body, DesiredObjects};

/// One port, and where it leads.
pub(crate) type HostPort = (Frontend, Endpoint);

/// Remembers what pods ask for, so that a Pod is read once.
#[derive(Debug, Default)]
pub(crate) struct HostPorts {
    known: BTreeMap<ObjectKey, (Arc<Body>, Wanted)>,
}

/// What one pod asks for.
#[derive(Clone, Debug, Default)]
struct Wanted {
    uid: Option<PodUid>,
    /// Where clients send to, and the port of the container.
    ports: Vec<(Frontend, u16)>,
}

impl HostPorts {
    /// The ports of all pods that have an address.
    pub(crate) fn of(
        &mut self,
        view: &DesiredObjects,
        address: impl Fn(&PodUid) -> Option<Ipv4Addr>,
    ) -> Vec<HostPort> {
        let mut known = BTreeMap::new();
        let mut found = Vec::new();
        for (key, object) in view.of_kind("Pod") {
            let wanted = match self.known.remove(key) {
                Some((body, wanted)) if Arc::ptr_eq(&body, &object.body) => wanted,
                _ => Wanted::of(&object.body),
            };
            let address =
                wanted.uid.as_ref().filter(|_| !wanted.ports.is_empty()).and_then(&address);
            let ports = wanted.ports.iter().zip(std::iter::repeat(address));
            found.extend(ports.filter_map(|((frontend, port), address)| {
                Some((*frontend, Endpoint { address: address?, port: *port }))
            }));
            known.insert(key.clone(), (Arc::clone(&object.body), wanted));
        }
        self.known = known;
        found
    }
}

/// Adds the ports to those of Services. What a Service has, it keeps.
pub(crate) fn add(ports: &[HostPort], table: &mut ServiceTable) {
    for (frontend, endpoint) in ports {
        table.frontends.entry(*frontend).or_insert_with(|| [*endpoint].into());
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pod {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    uid: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    host_network: bool,
    #[serde(default)]
    init_containers: Vec<Container>,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default)]
    restart_policy: Option<String>,
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    container_port: u16,
    #[serde(default)]
    host_port: u16,
    #[serde(default, rename = "hostIP")]
    host_ip: String,
    #[serde(default)]
    protocol: Option<String>,
}

impl Wanted {
    /// Nothing, for what cannot be read as a Pod.
    fn of(body: &Body) -> Self {
        let Some(pod) = body.parse::<Pod>().filter(|it| !it.spec.host_network) else {
            return Self::default();
        };
        let is_sidecar = |it: &&Container| it.restart_policy.as_deref() == Some("Always");
        let sidecars = pod.spec.init_containers.iter().filter(is_sidecar);
        let ports = sidecars.chain(&pod.spec.containers).flat_map(|it| &it.ports);
        let ports = ports.filter(|it| it.host_port > 0).filter_map(|it| {
            let address = match it.host_ip.as_str() {
                "" | "0.0.0.0" => None,
                ip => Some(ip.parse().ok()?),
            };
            let protocol = Protocol::parse(it.protocol.as_deref().unwrap_or("TCP"))?;
            Some((Frontend { address, protocol, port: it.host_port }, it.container_port))
        });
        Self { uid: pod.metadata.uid.parse().ok(), ports: ports.collect() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::desired::StoredObject;

    const UID: &str = "5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e";

    fn check(spec: Value, address: Option<Ipv4Addr>, expected: &[&str]) {
        let mut view = DesiredObjects::default();
        let pod = json!({"metadata": {"uid": UID}, "spec": spec});
        let body = Arc::new(Body::new(pod.to_string().as_bytes()).unwrap());
        let key = ObjectKey::new("Pod", "d", "p");
        view.objects.insert(key, StoredObject { revision: 1, body });
        let mut ports = HostPorts::default();
        let mut table = ServiceTable::default();
        let taken = Frontend { address: None, protocol: Protocol::Tcp, port: 30000 };
        table.frontends.insert(taken, [].into());
        // A second look finds the same without reading again.
        let first = ports.of(&view, |_| address);
        let found = ports.of(&view, |_| address);
        assert_eq!(first, found);
        add(&found, &mut table);
        assert!(table.frontends.remove(&taken).unwrap().is_empty(), "a Service lost its port");
        let shown = table.frontends.iter().map(|(from, to)| {
            let ip = from.address.map_or_else(|| "*".to_owned(), |it| it.to_string());
            let to: Vec<_> = to.iter().map(|it| format!("{}:{}", it.address, it.port)).collect();
            format!("{:?} {ip}:{} {}", from.protocol, from.port, to.join(","))
        });
        assert_eq!(shown.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn ports_lead_to_pods_that_have_an_address() {
        let pod = json!({
            "initContainers": [
                {"ports": [{"containerPort": 1, "hostPort": 1}]},
                {"restartPolicy": "Always", "ports": [{"containerPort": 2, "hostPort": 22}]},
            ],
            "containers": [{"ports": [
                {"containerPort": 80, "hostPort": 8080},
                {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1"},
                {"containerPort": 90, "hostPort": 30000},
                {"containerPort": 91},
                {"containerPort": 92, "hostPort": 92, "hostIP": "fd00::1"},
            ]}],
        });
        let address = Some(Ipv4Addr::new(10, 42, 0, 7));
        let expected =
            ["Tcp *:22 10.42.0.7:2", "Tcp *:8080 10.42.0.7:80", "Udp 192.0.2.1:53 10.42.0.7:53"];
        check(pod.clone(), address, &expected);
        check(pod, None, &[]);
        let on_host = json!({"hostNetwork": true, "containers": [
            {"ports": [{"containerPort": 80, "hostPort": 80}]}]});
        check(on_host, address, &[]);
        check(json!({"containers": 1}), address, &[]);
    }
}
