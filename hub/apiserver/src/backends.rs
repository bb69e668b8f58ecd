//! The servers behind a Service: pods on nodes, or addresses that the hub itself reaches.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use agent_sync::stream::{StreamKind, StreamRequest};
use hub_api::{object, resources};
use serde_json::Value;

use crate::passing::Place;
use crate::registry::{ListOptions, Registry};

/// A port of a Service, by its number there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServicePort<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) service: &'a str,
    pub(crate) port: u16,
}

/// Why there is nobody to pass a request on to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Absent {
    /// There is no such Service.
    Service,
    /// It has no such port.
    Port,
    /// Nobody made endpoints for it.
    Endpoints,
    /// None of its endpoints is ready.
    Addresses { port_name: String },
}

impl ServicePort<'_> {
    /// Where its servers listen, in the order in which they are to be tried. The order changes from
    /// call to call. Never empty.
    ///
    /// # Errors
    /// Nobody listens.
    pub(crate) fn places(&self, registry: &Registry) -> Result<Vec<Place>, Absent> {
        let services = resources::find("", "v1", "services").ok_or(Absent::Service)?;
        let service = registry.get(services, Some(self.namespace), self.service);
        let service = service.map_err(|_| Absent::Service)?;
        let service = service.value();
        if object::text(&service, "spec.type") == "ExternalName" {
            let host = object::text(&service, "spec.externalName").to_owned();
            return Ok(vec![Place::Name { host, port: self.port }]);
        }
        let ports = object::list(&service, "spec.ports").iter();
        let port = ports
            .filter(|it| object::int(it, "port") == Some(i64::from(self.port)))
            .map(|it| object::text(it, "name"))
            .next()
            .ok_or(Absent::Port)?;
        let mut places = self.endpoints(registry, port)?;
        if places.is_empty() {
            return Err(Absent::Addresses { port_name: port.to_owned() });
        }
        static TURN: AtomicUsize = AtomicUsize::new(0);
        let turn = TURN.fetch_add(1, Ordering::Relaxed) % places.len();
        places.rotate_left(turn);
        Ok(places)
    }

    /// What stands in the Service's EndpointSlices, or else in its Endpoints.
    fn endpoints(&self, registry: &Registry, port: &str) -> Result<Vec<Place>, Absent> {
        let namespace = Some(self.namespace);
        let slices = resources::find("discovery.k8s.io", "v1", "endpointslices");
        let slices = slices.ok_or(Absent::Endpoints)?;
        let all = registry.list(slices, namespace, &ListOptions::default());
        let all = all.map(|it| it.entries).unwrap_or_default();
        let is_own =
            |it: &Value| object::label(it, "kubernetes.io/service-name") == Some(self.service);
        let own: Vec<_> = all.iter().map(|it| it.value()).filter(|it| is_own(it)).collect();
        let place =
            |number: u16, pod: &Value, address: &str| self.place(registry, number, pod, address);
        if own.is_empty() {
            let endpoints = resources::find("", "v1", "endpoints").ok_or(Absent::Endpoints)?;
            let endpoints = registry.get(endpoints, namespace, self.service);
            let endpoints = endpoints.map_err(|_| Absent::Endpoints)?;
            let endpoints = endpoints.value();
            let subsets = object::list(&endpoints, "subsets").iter();
            return Ok(subsets
                .filter_map(|subset| Some((number_of(subset, port)?, subset)))
                .flat_map(|(number, subset)| {
                    let addresses = object::list(subset, "addresses").iter();
                    addresses.filter_map(move |it| {
                        place(number, &it["targetRef"], object::text(it, "ip"))
                    })
                })
                .collect());
        }
        let ready = |it: &&Value| {
            object::get(it, "conditions.ready").and_then(Value::as_bool) != Some(false)
        };
        Ok(own
            .iter()
            .filter_map(|slice| Some((number_of(slice, port)?, slice)))
            .flat_map(|(number, slice)| {
                let endpoints = object::list(slice, "endpoints").iter().filter(ready);
                endpoints.filter_map(move |it| {
                    let address = object::list(it, "addresses").first()?.as_str()?;
                    place(number, &it["targetRef"], address)
                })
            })
            .collect())
    }

    /// A pod is reached through its node, all else by its address.
    fn place(
        &self,
        registry: &Registry,
        port: u16,
        target: &Value,
        address: &str,
    ) -> Option<Place> {
        if object::text(target, "kind") != "Pod" {
            return Some(Place::Address(SocketAddr::new(address.parse().ok()?, port)));
        }
        let pods = resources::find("", "v1", "pods")?;
        let name = object::text(target, "name");
        let pod = registry.get(pods, Some(self.namespace), name).ok()?;
        let pod = pod.value();
        let node = object::text(&pod, "spec.nodeName").to_owned();
        let request = StreamRequest {
            pod_namespace: self.namespace.to_owned(),
            pod_name: name.to_owned(),
            pod_uid: object::uid(&pod).to_owned(),
            container: String::new(),
            kind: StreamKind::Connect { port },
        };
        (!node.is_empty()).then_some(Place::Pod { node, request })
    }
}

/// The number of a port of this name.
fn number_of(ports: &Value, name: &str) -> Option<u16> {
    let mut ports = object::list(ports, "ports").iter();
    let port = ports.find(|it| object::text(it, "name") == name)?;
    object::int(port, "port")?.try_into().ok()
}
