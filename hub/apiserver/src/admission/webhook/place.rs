//! Where a webhook is: its URL, or the Service in front of it.

use std::net::{IpAddr, SocketAddr};

use hub_api::object;
use serde_json::Value;

use super::client::{CallError, Target};
use crate::admission::builtin::Lookup;
use crate::registry::Registry;

/// The address for people, without the query.
pub(super) fn url(config: &Value) -> String {
    let Some(service) = object::get(config, "service") else {
        return object::text(config, "url").to_owned();
    };
    let (name, namespace) = (object::text(service, "name"), object::text(service, "namespace"));
    let port = object::int(service, "port").unwrap_or(443);
    let path = object::text(service, "path");
    let path = if path.is_empty() { "/" } else { path };
    format!("https://{name}.{namespace}.svc:{port}{path}")
}

/// Finds out where to connect.
///
/// # Errors
/// There is no such service, or its name has no address.
pub(super) async fn find(registry: &Registry, config: &Value) -> Result<Target, CallError> {
    let ca = object::text(config, "caBundle").to_owned();
    let url = url(config);
    let rest = url.strip_prefix("https://").unwrap_or(&url);
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let (host, port) = split(authority)?;
    let addresses = match object::get(config, "service") {
        Some(service) => of_service(registry, service, port).await?,
        None => resolve(&host, port).await?,
    };
    let (authority, path) = (authority.to_owned(), path.to_owned());
    Ok(Target { host, authority, path, addresses, ca })
}

fn split(authority: &str) -> Result<(String, u16), CallError> {
    let wrong = || CallError::Config(format!("invalid host \"{authority}\""));
    let (host, port) = match authority.rsplit_once(':') {
        // A colon within brackets is part of an address.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
        Some(_) | None => (authority, 443),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() { Err(wrong()) } else { Ok((host.to_owned(), port)) }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, CallError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found = tokio::net::lookup_host((host, port)).await;
    match found {
        Ok(found) => Ok(found.collect()),
        Err(_) => Err(CallError::NoAddress(format!("dial tcp: lookup {host}: no such host"))),
    }
}

/// The cluster address first: it knows which endpoints are ready. Behind it the endpoints
/// themselves, for hubs on machines without a service proxy.
async fn of_service(
    registry: &Registry,
    reference: &Value,
    port: u16,
) -> Result<Vec<SocketAddr>, CallError> {
    let name = object::text(reference, "name");
    let namespace = object::text(reference, "namespace");
    let Some(service) = registry.find("", "services", Some(namespace), name) else {
        return Err(CallError::NoAddress(format!("service \"{name}\" not found")));
    };
    if object::text(&service, "spec.type") == "ExternalName" {
        return resolve(object::text(&service, "spec.externalName"), port).await;
    }
    let ports = object::list(&service, "spec.ports");
    let number = |it: &Value| object::int(it, "port") == Some(i64::from(port));
    let Some(wanted) = ports.iter().find(|it| number(it)) else {
        let why = format!("no service port {port} found for service \"{name}\"");
        return Err(CallError::NoAddress(why));
    };
    let mut out = Vec::new();
    if let Ok(ip) = object::text(&service, "spec.clusterIP").parse() {
        out.push(SocketAddr::new(ip, port));
    }
    out.extend(endpoints(registry, namespace, name, object::text(wanted, "name")));
    if out.is_empty() {
        let why = format!("no endpoints available for service \"{name}\"");
        return Err(CallError::NoAddress(why));
    }
    Ok(out)
}

fn endpoints(registry: &Registry, namespace: &str, service: &str, port: &str) -> Vec<SocketAddr> {
    let mut out = Vec::new();
    for slice in registry.find_all("discovery.k8s.io", "endpointslices", Some(namespace)) {
        if object::label(&slice, "kubernetes.io/service-name") != Some(service) {
            continue;
        }
        let ports = object::list(&slice, "ports");
        let number = ports
            .iter()
            .find(|it| object::text(it, "name") == port)
            .and_then(|it| object::int(it, "port"))
            .and_then(|it| u16::try_from(it).ok());
        let Some(number) = number else { continue };
        for endpoint in object::list(&slice, "endpoints") {
            let ready = object::get(endpoint, "conditions.ready").and_then(Value::as_bool);
            if ready == Some(false) {
                continue;
            }
            let addresses = object::list(endpoint, "addresses").iter().filter_map(Value::as_str);
            out.extend(addresses.filter_map(|it| Some(SocketAddr::new(it.parse().ok()?, number))));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_split() {
        for (authority, want) in [
            ("a.b:8443", Some(("a.b", 8443))),
            ("a.b", Some(("a.b", 443))),
            ("[::1]:9", Some(("::1", 9))),
            ("[::1]", Some(("::1", 443))),
            ("a:b", None),
            (":1", None),
        ] {
            let got = split(authority).ok();
            assert_eq!(
                got.as_ref().map(|(host, port)| (host.as_str(), *port)),
                want,
                "{authority}"
            );
        }
    }
}
