//! The endpoints of the Service `kubernetes`: the hubs that live, so that pods reach one of them. They stand in an
//! EndpointSlice, and for clients that look there, in Endpoints.
//!
//! A hub is written here only after its Lease: who reads the endpoints first and then the Leases, and changes only what
//! is as it was read, takes no hub out whose Lease it could not see.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use hub_api::{Resource, Status, object};
use hub_apiserver::{Registry, WriteOptions};
use hub_storage::Entry;
use serde_json::{Value, json};

const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";
/// Group and plural of the two kinds, the one that is believed first.
const KINDS: [(&str, &str); 2] = [("discovery.k8s.io", "endpointslices"), ("", "endpoints")];
/// What is kept true in them; all else belongs to whoever wrote it.
const FIELDS: [&str; 3] = ["endpoints", "ports", "subsets"];

/// The endpoints as they were read.
pub(crate) struct Published([Option<Arc<Entry>>; 2]);

impl Published {
    /// Reads them.
    ///
    /// # Errors
    /// They could not be read; that they are not there is none.
    pub(crate) fn read(registry: &Registry) -> Result<Self, Status> {
        let mut found = [None, None];
        for (found, kind) in found.iter_mut().zip(KINDS) {
            *found = match registry.get(resource(kind)?, Some(NAMESPACE), NAME) {
                Ok(entry) => Some(entry),
                Err(status) if status.code == 404 => None,
                Err(status) => return Err(status),
            };
        }
        Ok(Self(found))
    }

    /// Whether pods are sent to this address.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        let [Some(slice), _] = &self.0 else { return false };
        let address = address.to_string();
        object::list(&slice.value(), "endpoints")
            .iter()
            .any(|it| object::list(it, "addresses").iter().any(|it| *it == address))
    }

    /// Makes these hubs the endpoints. No hub that pods can reach changes nothing: who looks is one.
    ///
    /// # Errors
    /// `Conflict` or `AlreadyExists` (409): somebody wrote them since they were read. Others: they could not be written.
    pub(crate) async fn replace(
        self,
        registry: &Registry,
        hubs: &[SocketAddr],
    ) -> Result<(), Status> {
        let Some((addresses, port)) = wanted(hubs) else { return Ok(()) };
        let wanted = [slice(&addresses, port), endpoints(&addresses, port)];
        for ((kind, found), wanted) in KINDS.into_iter().zip(self.0).zip(wanted) {
            let resource = resource(kind)?;
            let Some(found) = found else {
                registry.create(resource, Some(NAMESPACE), wanted, &options()).await?;
                continue;
            };
            if FIELDS.iter().all(|it| found.value()[it] == wanted[it]) {
                continue;
            }
            // Its resourceVersion makes this a compare-and-swap.
            let mut next = found.decode();
            for field in FIELDS {
                if let Some(value) = wanted.get(field) {
                    next[field] = value.clone();
                }
            }
            registry.update(resource, Some(NAMESPACE), NAME, next, None, &options()).await?;
        }
        Ok(())
    }
}

/// The addresses that pods can reach, and the port: a Service's endpoints have one, the least of the hubs'.
fn wanted(live: &[SocketAddr]) -> Option<(BTreeSet<Ipv4Addr>, u16)> {
    let reachable = live.iter().filter_map(|it| match it.ip() {
        IpAddr::V4(ip) if !ip.is_loopback() && !ip.is_unspecified() => Some((ip, it.port())),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    });
    let reachable: BTreeSet<(Ipv4Addr, u16)> = reachable.collect();
    let port = reachable.iter().map(|(_, port)| *port).min()?;
    let same = reachable.into_iter().filter(|(_, it)| *it == port);
    Some((same.map(|(ip, _)| ip).collect(), port))
}

fn slice(addresses: &BTreeSet<Ipv4Addr>, port: u16) -> Value {
    let endpoint =
        |it: &Ipv4Addr| json!({"addresses": [it.to_string()], "conditions": {"ready": true}});
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": NAME},
        },
        "addressType": "IPv4",
        "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": ports(port),
    })
}

fn endpoints(addresses: &BTreeSet<Ipv4Addr>, port: u16) -> Value {
    let address = |it: &Ipv4Addr| json!({"ip": it.to_string()});
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{
            "addresses": addresses.iter().map(address).collect::<Vec<_>>(),
            "ports": ports(port),
        }],
    })
}

fn ports(port: u16) -> Value {
    json!([{"name": "https", "port": port, "protocol": "TCP"}])
}

fn resource((group, plural): (&str, &str)) -> Result<&'static Resource, Status> {
    hub_api::resources::find(group, "v1", plural).ok_or_else(Status::no_such_resource)
}

fn options() -> WriteOptions {
    WriteOptions { field_manager: "outbye-hub".to_owned(), ..WriteOptions::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_sent_to_hubs_that_they_can_reach_on_one_port() {
        let check = |live: &[&str], expect: Option<(&[&str], u16)>| {
            let live: Vec<SocketAddr> = live.iter().map(|it| it.parse().unwrap()).collect();
            let found = wanted(&live)
                .map(|(ips, port)| (ips.iter().map(ToString::to_string).collect::<Vec<_>>(), port));
            let expect = expect.map(|(ips, port)| {
                (ips.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>(), port)
            });
            assert_eq!(found, expect, "{live:?}");
        };
        check(&[], None);
        check(&["127.0.0.1:6443", "[::1]:6443"], None);
        check(
            &["10.0.0.2:6443", "10.0.0.1:6443", "10.0.0.1:6443"],
            Some((&["10.0.0.1", "10.0.0.2"], 6443)),
        );
        check(&["10.0.0.2:6443", "10.0.0.1:7443"], Some((&["10.0.0.2"], 6443)));
    }
}
