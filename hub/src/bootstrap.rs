//! What every cluster has from the start.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use hub_api::Status;
use hub_apiserver::{Registry, WriteOptions};
use ipnet::Ipv4Net;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::front_proxy::FrontProxy;

/// How often what every cluster has is looked after.
const KEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Creates the `kubernetes` Service where it is missing: the API's address for pods.
///
/// # Errors
/// Storage refused the write.
pub async fn ensure(
    registry: &Registry,
    service_cidr: Ipv4Net,
    target_port: u16,
) -> Result<(), Status> {
    const NAME: &str = "kubernetes";
    const NAMESPACE: Option<&str> = Some("default");
    let services =
        hub_api::resources::find("", "v1", "services").ok_or_else(Status::no_such_resource)?;
    // Looked for first: its address is taken, by itself.
    if registry.get(services, NAMESPACE, NAME).is_ok() {
        return Ok(());
    }
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": api_address(service_cidr).to_string(),
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": target_port}],
        },
    });
    match registry.create(services, NAMESPACE, service, &WriteOptions::default()).await {
        // Another hub makes the same at this moment.
        Err(_) if registry.get(services, NAMESPACE, NAME).is_ok() => Ok(()),
        other => other.map(drop),
    }
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
