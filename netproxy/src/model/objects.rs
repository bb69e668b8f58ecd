//! From Service and EndpointSlice objects to the table.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::Ipv4Addr,
};

use serde_json::Value;

use super::{Endpoint, Frontend, Protocol, ServiceTable, Unsupported, Warning};

/// Builds the table. Objects of a wrong shape count for what can be read of them.
pub fn from_objects<S: Borrow<Value>, E: Borrow<Value>>(
    services: &[S],
    slices: &[E],
) -> ServiceTable {
    let mut by_service: BTreeMap<(&str, &str), Vec<&Value>> = BTreeMap::new();
    for slice in slices {
        let slice = slice.borrow();
        let service = text(slice, "/metadata/labels/kubernetes.io~1service-name");
        if !service.is_empty() && text(slice, "/addressType") == "IPv4" {
            by_service
                .entry((text(slice, "/metadata/namespace"), service))
                .or_default()
                .push(slice);
        }
    }
    let mut services: Vec<&Value> = services.iter().map(Borrow::borrow).collect();
    services.sort_by_key(|it| (text(it, "/metadata/namespace"), text(it, "/metadata/name")));
    let mut table = ServiceTable::default();
    for service in services {
        let name = (text(service, "/metadata/namespace"), text(service, "/metadata/name"));
        let slices = by_service.get(&name).map_or(&[][..], Vec::as_slice);
        add_service(service, slices, &mut table);
    }
    table
}

fn add_service(service: &Value, slices: &[&Value], table: &mut ServiceTable) {
    let name =
        format!("{}/{}", text(service, "/metadata/namespace"), text(service, "/metadata/name"));
    let cluster_ip = text(service, "/spec/clusterIP");
    if text(service, "/spec/type") == "ExternalName" || ["", "None"].contains(&cluster_ip) {
        return;
    }
    let mut warnings = BTreeSet::new();
    for (path, value, what) in [
        ("/spec/sessionAffinity", "ClientIP", Unsupported::SessionAffinity),
        ("/spec/internalTrafficPolicy", "Local", Unsupported::InternalTrafficPolicy),
        ("/spec/externalTrafficPolicy", "Local", Unsupported::ExternalTrafficPolicy),
    ] {
        if text(service, path) == value {
            warnings.insert(what);
        }
    }
    let cluster_ip = cluster_ip.parse::<Ipv4Addr>();
    warnings.extend(cluster_ip.is_err().then_some(Unsupported::Address));
    table.cluster_ips.extend(cluster_ip.as_ref().ok());
    let mut addresses: BTreeSet<Ipv4Addr> = cluster_ip.ok().into_iter().collect();
    let external = list(service, "/spec/externalIPs").iter().filter_map(Value::as_str);
    let balanced = list(service, "/status/loadBalancer/ingress").iter();
    let balanced = balanced.map(|it| text(it, "/ip")).filter(|it| !it.is_empty());
    addresses.extend(external.chain(balanced).filter_map(|it| it.parse::<Ipv4Addr>().ok()));

    let unready = service.pointer("/spec/publishNotReadyAddresses") == Some(&Value::Bool(true));
    for port in list(service, "/spec/ports") {
        let protocol = protocol(port);
        let (Some(protocol), Some(number)) = (protocol, number(port, "/port")) else {
            warnings.insert(Unsupported::Address);
            continue;
        };
        let endpoints = endpoints(slices, text(port, "/name"), protocol, unready);
        let mut frontends: Vec<Frontend> = addresses
            .iter()
            .map(|it| Frontend { address: Some(*it), protocol, port: number })
            .collect();
        let node_port = self::number(port, "/nodePort").filter(|it| *it != 0);
        frontends.extend(node_port.map(|port| Frontend { address: None, protocol, port }));
        for frontend in frontends {
            match table.frontends.entry(frontend) {
                Entry::Occupied(_) => {
                    warnings.insert(Unsupported::Taken);
                }
                Entry::Vacant(free) => {
                    free.insert(endpoints.clone());
                }
            }
        }
    }
    let warnings = warnings.into_iter().map(|what| Warning { service: name.clone(), what });
    table.warnings.extend(warnings);
}

/// Endpoints that are ready; if there is none, those that end but still serve.
fn endpoints(
    slices: &[&Value],
    port_name: &str,
    protocol: Protocol,
    unready: bool,
) -> BTreeSet<Endpoint> {
    let (mut ready, mut ending) = (BTreeSet::new(), BTreeSet::new());
    for slice in slices {
        let port = list(slice, "/ports")
            .iter()
            .find(|it| text(it, "/name") == port_name && self::protocol(it) == Some(protocol));
        let Some(port) = port.and_then(|it| number(it, "/port")) else { continue };
        for endpoint in list(slice, "/endpoints") {
            let condition =
                |path, default| endpoint.pointer(path).and_then(Value::as_bool).unwrap_or(default);
            let is_ready = condition("/conditions/ready", true);
            let is_ending = condition("/conditions/terminating", false);
            let serves = condition("/conditions/serving", is_ready);
            // All addresses of one endpoint are the same pod: the first is enough.
            let address = list(endpoint, "/addresses").first().and_then(Value::as_str);
            let Some(address) = address.and_then(|it| it.parse().ok()) else { continue };
            if is_ready || (unready && !is_ending) {
                ready.insert(Endpoint { address, port });
            } else if serves && is_ending {
                ending.insert(Endpoint { address, port });
            }
        }
    }
    if ready.is_empty() { ending } else { ready }
}

fn protocol(port: &Value) -> Option<Protocol> {
    Protocol::parse(port.get("protocol").and_then(Value::as_str).unwrap_or("TCP"))
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn number(value: &Value, path: &str) -> Option<u16> {
    value.pointer(path).and_then(Value::as_u64).and_then(|it| it.try_into().ok())
}
