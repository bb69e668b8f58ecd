//! Turns a live connection into the node's Lease.
//!
//! QUIC's own keep-alive shows that the node is there; nothing extra crosses the link. The Lease
//! is what Kubernetes' clients and the node lifecycle controller read.
//!
//! A hub of several that alone lost the store gives its nodes up. It could neither speak for them nor take their reports,
//! and the hub that leads would take them for lost; another hub can do all of that.

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
/// A hub of several that could not renew for so long looks whether the store is there at all: soon enough for the node
/// to be heard through another hub before it counts as gone.
const STORE_PATIENCE: Duration = Duration::from_secs(20);
const NAMESPACE: &str = "kube-node-lease";

/// Why a session ends for which the node can do nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum GivenUp {
    /// This hub cannot reach the store that it shares with others.
    NoStore,
}

/// How often, and how long in vain.
#[derive(Clone, Copy, Debug)]
struct Pace {
    renew_every: Duration,
    patience: Duration,
}

const PACE: Pace = Pace { renew_every: RENEW_EVERY, patience: STORE_PATIENCE };

/// Renews the node's Lease for as long as the session lives. Returns when another hub should have the node.
pub(super) async fn run(fleet: &Arc<Fleet>, node: &str) -> GivenUp {
    keep(fleet, node, PACE).await
}

async fn keep(fleet: &Arc<Fleet>, node: &str, pace: Pace) -> GivenUp {
    let Some(leases) = hub_api::resources::find("coordination.k8s.io", "v1", "leases") else {
        tracing::error!("Leases are not served: nodes will look unreachable");
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval(pace.renew_every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let renewal = renewed(fleet, leases, node, &mut ticks);
        // A hub that has its store for itself keeps its nodes: nobody else could take them.
        if fleet.hub_id.is_none() {
            renewal.await;
            continue;
        }
        if tokio::time::timeout(pace.patience, renewal).await.is_ok() {
            continue;
        }
        // A store that answers and takes no writes, as when it is full, takes none of other hubs either. One that does
        // not answer keeps the node from coming back here.
        if let Err(status) = fleet.registry.catch_up().await {
            tracing::warn!(node, error = %status, "Gave a node up, so that another hub takes it");
            return GivenUp::NoStore;
        }
    }
}

/// Tries at every tick, until it succeeds.
async fn renewed(fleet: &Fleet, leases: &Resource, node: &str, ticks: &mut tokio::time::Interval) {
    loop {
        ticks.tick().await;
        match renew(fleet, leases, node).await {
            Ok(()) => return,
            Err(status) => {
                tracing::warn!(node, error = %status, "Could not renew a node's lease");
            }
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

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::fleet::testing::{Hubs, Road};

    const FAST: Pace =
        Pace { renew_every: Duration::from_millis(20), patience: Duration::from_millis(100) };
    /// In this time a session that is to be given up is.
    const A_WHILE: Duration = Duration::from_millis(500);
    const PATIENCE: Duration = Duration::from_secs(30);

    /// What becomes of a session of which all was well until this happened.
    async fn after(hubs: &Hubs, id: Option<&str>, road: Road) -> Option<GivenUp> {
        let hub = hubs.hub(id);
        let mut session = pin!(keep(&hub.fleet, "n", FAST));
        let early = tokio::time::timeout(A_WHILE, &mut session).await;
        assert!(early.is_err(), "{road:?}: {early:?}");
        hub.store.set(road);
        let is_long = id.is_some() && matches!(road, Road::Cut | Road::Slow);
        let bound = if is_long { PATIENCE } else { A_WHILE };
        tokio::time::timeout(bound, session).await.ok()
    }

    #[tokio::test]
    async fn a_hub_that_alone_lost_the_store_gives_its_nodes_up() {
        let hubs = Hubs::new().await;
        hubs.add_node("n").await;
        assert_eq!(after(&hubs, Some("a"), Road::Cut).await, Some(GivenUp::NoStore));
        assert_eq!(after(&hubs, Some("a"), Road::Slow).await, Some(GivenUp::NoStore));
        // No other hub could do better.
        assert_eq!(after(&hubs, Some("a"), Road::Full).await, None);
        assert_eq!(after(&hubs, None, Road::Cut).await, None);
    }
}
