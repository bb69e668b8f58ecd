//! Where a webhook is: its URL, which the hub itself reaches, or the Service in front of it, whose
//! pods are reached through their nodes.

use std::net::{IpAddr, SocketAddr};

use hub_api::object;
use serde_json::Value;

use super::client::{CallError, Target};
use crate::backends::{Absent, ServicePort};
use crate::passing::Place;
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
/// There is no such service, nobody is ready behind it, or the URL's name has no address.
pub(super) async fn find(registry: &Registry, config: &Value) -> Result<Target, CallError> {
    let ca = object::text(config, "caBundle").to_owned();
    let url = url(config);
    let rest = url.strip_prefix("https://").unwrap_or(&url);
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let (host, port) = split(authority)?;
    let places = match object::get(config, "service") {
        Some(service) => of_service(registry, service, port)?,
        None => resolve(&host, port).await?.into_iter().map(Place::Address).collect(),
    };
    let (authority, path) = (authority.to_owned(), path.to_owned());
    Ok(Target { host, authority, path, places, ca })
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
        Err(_) => Err(CallError::NoPlace(format!("dial tcp: lookup {host}: no such host"))),
    }
}

fn of_service(registry: &Registry, reference: &Value, port: u16) -> Result<Vec<Place>, CallError> {
    let (namespace, service) =
        (object::text(reference, "namespace"), object::text(reference, "name"));
    let places = ServicePort { namespace, service, port }.places(registry);
    places.map_err(|absent| {
        CallError::NoPlace(match absent {
            Absent::Service => format!("service \"{service}\" not found"),
            Absent::Port => format!("no service port {port} found for service \"{service}\""),
            Absent::Endpoints | Absent::Addresses { .. } => {
                format!("no endpoints available for service \"{service}\"")
            }
        })
    })
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
