//! What every cluster has from the start.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hub_api::{Resource, Status, object};
use hub_apiserver::{Registry, WriteOptions};
use ipnet::Ipv4Net;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::front_proxy::FrontProxy;

/// How often what every cluster has is looked after.
const KEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Creates the `kubernetes` Service where it is missing, and keeps its endpoint true.
///
/// # Errors
/// Storage refused a write.
pub async fn ensure(
    registry: &Registry,
    service_cidr: Ipv4Net,
    advertise: SocketAddr,
) -> Result<(), Status> {
    let cluster_ip = api_address(service_cidr);
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": cluster_ip.to_string(),
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": advertise.port()}],
        },
    });
    create_if_absent(registry, "", "services", Some("default"), service).await?;
    if let IpAddr::V4(address) = advertise.ip()
        && !address.is_loopback()
        && !address.is_unspecified()
    {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address.to_string()], "conditions": {"ready": true}}],
            "ports": [{"name": "https", "port": advertise.port(), "protocol": "TCP"}],
        });
        ensure_same(registry, "discovery.k8s.io", "endpointslices", slice).await?;
        let endpoints = json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
            },
            "subsets": [{
                "addresses": [{"ip": address.to_string()}],
                "ports": [{"name": "https", "port": advertise.port(), "protocol": "TCP"}],
            }],
        });
        ensure_same(registry, "", "endpoints", endpoints).await?;
    }
    Ok(())
}

/// Makes the object of the namespace `default`, or what it says true again: this hub may have
/// another address than the last time.
async fn ensure_same(
    registry: &Registry,
    group: &str,
    plural: &str,
    wanted: Value,
) -> Result<(), Status> {
    let resource: &Resource =
        hub_api::resources::find(group, "v1", plural).ok_or_else(Status::no_such_resource)?;
    let name = object::name(&wanted).to_owned();
    let Ok(known) = registry.get(resource, Some("default"), &name) else {
        return create_if_absent(registry, group, plural, Some("default"), wanted).await;
    };
    let said = |it: &Value| ["endpoints", "subsets", "ports"].map(|field| it[field].clone());
    if said(&known.value()) == said(&wanted) {
        return Ok(());
    }
    let change = |current: &Value, _: &Value| {
        let mut next = current.clone();
        for field in ["endpoints", "subsets", "ports"] {
            if let Some(value) = wanted.get(field) {
                next[field] = value.clone();
            }
        }
        Ok(next)
    };
    let options = WriteOptions::default();
    registry.modify(resource, Some("default"), &name, None, &options, change).await.map(drop)
}

/// Keeps what every cluster has: what was removed or changed comes back within a minute.
pub(crate) async fn keep(
    registry: Registry,
    (front_proxy, client_ca_pem): (Arc<FrontProxy>, String),
    shutdown: CancellationToken,
) {
    let keeping = async {
        loop {
            tokio::time::sleep(KEEP_INTERVAL).await;
            if let Err(err) = registry.bootstrap().await {
                tracing::warn!(error = crate::chain(&err), "Could not keep what every cluster has");
            }
            if let Err(err) = front_proxy.publish(&registry, &client_ca_pem).await {
                tracing::warn!(error = format!("{err:#}"), "Could not publish the front proxy");
            }
        }
    };
    let _stopped: Option<()> = shutdown.run_until_cancelled(keeping).await;
}

/// The API's own address: the first of the Service range.
pub fn api_address(service_cidr: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from_bits(service_cidr.network().to_bits() + 1)
}

async fn create_if_absent(
    registry: &Registry,
    group: &str,
    plural: &str,
    namespace: Option<&str>,
    object: Value,
) -> Result<(), Status> {
    let resource: &Resource =
        hub_api::resources::find(group, "v1", plural).ok_or_else(Status::no_such_resource)?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    // Looked for first: its address is taken, by itself.
    if registry.get(resource, namespace, &name).is_ok() {
        return Ok(());
    }
    let created = registry.create(resource, namespace, object, &WriteOptions::default()).await;
    match created {
        // Another hub makes the same at this moment.
        Err(_) if registry.get(resource, namespace, &name).is_ok() => Ok(()),
        other => other.map(drop),
    }
}
