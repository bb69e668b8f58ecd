//! Turns a live connection into the node's Lease.
//!
//! QUIC's own keep-alive shows that the node is there; nothing extra crosses the link. The Lease
//! is what Kubernetes' clients and the node lifecycle controller read.

use std::{sync::Arc, time::Duration};

use hub_api::Resource;
use hub_apiserver::{PatchKind, WriteOptions, auth::User};
use serde_json::{Value, json};

use super::Fleet;
use crate::peers::HUB_OF_NODE;

/// How often the Lease is renewed, as a kubelet does.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// After so long without renewal a node counts as gone.
const LEASE_SECONDS: u32 = 40;
const NAMESPACE: &str = "kube-node-lease";

/// Renews the node's Lease for as long as the session lives.
pub(super) async fn run(fleet: &Arc<Fleet>, node: &str) {
    let Some(leases) = hub_api::resources::find("coordination.k8s.io", "v1", "leases") else {
        tracing::error!("Leases are not served: nodes will look unreachable");
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(status) = renew(fleet, leases, node).await {
            tracing::warn!(node, error = %status, "Could not renew a node's lease");
        }
    }
}

async fn renew(fleet: &Fleet, leases: &Resource, node: &str) -> Result<(), hub_api::Status> {
    let now = hub_api::time::format_micro(fleet.clock.now());
    let spec = json!({
        "holderIdentity": node,
        "leaseDurationSeconds": LEASE_SECONDS,
        "renewTime": now,
    });
    let options = WriteOptions {
        user: Arc::new(User::named(format!("{}{node}", crate::pki::NODE_USER_PREFIX))),
        field_manager: "outbye-agent".to_owned(),
        ..WriteOptions::default()
    };
    let mut patch = json!({ "spec": spec });
    if let Some(hub) = &fleet.hub_id {
        patch["metadata"] = json!({"annotations": {HUB_OF_NODE: hub}});
    }
    let patched = fleet
        .registry
        .patch(leases, Some(NAMESPACE), node, PatchKind::Merge, &patch, None, &options)
        .await;
    match patched {
        Err(status) if status.code == 404 => {
            // Without its Node nobody would ever remove it: the node is about to be shut out.
            let Some(owner) = owner(fleet, node) else { return Ok(()) };
            let mut lease = lease(node, spec, owner);
            if let Some(hub) = &fleet.hub_id {
                lease["metadata"]["annotations"] = json!({HUB_OF_NODE: hub});
            }
            fleet.registry.create(leases, Some(NAMESPACE), lease, &options).await.map(drop)
        }
        other => other.map(drop),
    }
}

fn lease(node: &str, spec: Value, owner: Value) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": node, "namespace": NAMESPACE, "ownerReferences": [owner]},
        "spec": spec,
    })
}

/// The Lease goes with its Node.
fn owner(fleet: &Fleet, node: &str) -> Option<Value> {
    let nodes = hub_api::resources::find("", "v1", "nodes")?;
    let entry = fleet.registry.get(nodes, None, node).ok()?;
    let node_object = entry.value();
    let uid = node_object["metadata"]["uid"].as_str()?;
    Some(json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}))
}
