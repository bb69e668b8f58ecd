//! The endpoints of the `kubernetes` Service: the hubs that live, so that pods reach one of them.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use hub_api::{Resource, Status};
use hub_apiserver::Registry;
use serde_json::{Value, json};

use super::options;

const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";

/// Brings the endpoints in line with these hubs. No hub at all changes nothing: who looks is one.
pub(super) async fn keep(registry: &Registry, live: &[SocketAddr]) -> Result<(), Status> {
    let Some((addresses, port)) = wanted(live) else { return Ok(()) };
    let slices = slices()?;
    let found = match registry.get(slices, Some(NAMESPACE), NAME) {
        Ok(found) => found,
        // What every cluster has is made by somebody else.
        Err(status) if status.code == 404 => return Ok(()),
        Err(status) => return Err(status),
    };
    let (endpoints, ports) = content(&addresses, port);
    if found.value()["endpoints"] == endpoints && found.value()["ports"] == ports {
        return Ok(());
    }
    let mut slice = found.decode();
    slice["endpoints"] = endpoints;
    slice["ports"] = ports;
    match registry.update(slices, Some(NAMESPACE), NAME, slice, None, &options()).await {
        // Another hub says the same at this moment, or something newer: the next look tells.
        Err(status) if matches!(status.code, 404 | 409) => Ok(()),
        other => other.map(drop),
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

fn content(addresses: &BTreeSet<Ipv4Addr>, port: u16) -> (Value, Value) {
    let endpoint =
        |it: &Ipv4Addr| json!({"addresses": [it.to_string()], "conditions": {"ready": true}});
    let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    (addresses.iter().map(endpoint).collect(), ports)
}

fn slices() -> Result<&'static Resource, Status> {
    hub_api::resources::find("discovery.k8s.io", "v1", "endpointslices")
        .ok_or_else(Status::no_such_resource)
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
