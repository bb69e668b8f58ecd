//! Turns a live connection into the node's Lease.
//!
//! QUIC's own keep-alive shows that the node is there; nothing extra crosses the link. The Lease
//! is what Kubernetes' clients and the node lifecycle controller read.
//!
//! A hub of several that alone lost the store gives its nodes up. It could neither speak for them nor take their reports,
//! and the hub that leads would take them for lost; another hub can do all of that.
//!
//! The Lease also says which hub a node is connected to. The newest session is the living one: a hub that finds another
//! hub's name where it had written its own lets the node go, and writes nothing.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use hub_api::{Resource, Status, object};
use hub_apiserver::{WriteOptions, auth::User};
use serde_json::{Value, json};

use super::{Fleet, reports::without_revision};
use crate::peers::HUB_OF_NODE;

/// How often the Lease is renewed, as a kubelet does.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// After so long without renewal a node counts as gone.
const LEASE_SECONDS: u32 = 40;
/// A hub of several that could not renew for so long looks whether the store is there at all: soon enough for the node
/// to be heard through another hub before it counts as gone.
const STORE_PATIENCE: Duration = Duration::from_secs(20);
const NAMESPACE: &str = "kube-node-lease";
/// On the Lease of a node, beside [`HUB_OF_NODE`]: where the node connects from. The hub that it left tells by it whether
/// it was another machine that came.
const ADDRESS_OF_NODE: &str = "outbye.dev/node-address";

/// Why a session ends for which the node can do nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum GivenUp {
    /// This hub cannot reach the store that it shares with others.
    NoStore,
    /// Another hub has the node by now.
    Elsewhere {
        /// Where its connection to that hub comes from.
        from: Option<IpAddr>,
    },
}

/// How often, and how long in vain.
#[derive(Clone, Copy, Debug)]
struct Pace {
    renew_every: Duration,
    patience: Duration,
}

const PACE: Pace = Pace { renew_every: RENEW_EVERY, patience: STORE_PATIENCE };

/// Renews the Lease of a node that is connected from this address, for as long as the session lives. Returns when another
/// hub has the node, or should have it.
pub(super) async fn run(fleet: &Arc<Fleet>, node: &str, from: IpAddr) -> GivenUp {
    keep(Heartbeat { fleet, node, from, is_told: false }, PACE).await
}

async fn keep(mut heartbeat: Heartbeat<'_>, pace: Pace) -> GivenUp {
    let Some(leases) = hub_api::resources::find("coordination.k8s.io", "v1", "leases") else {
        tracing::error!("Leases are not served: nodes will look unreachable");
        return std::future::pending().await;
    };
    let (fleet, node) = (heartbeat.fleet, heartbeat.node);
    let mut ticks = tokio::time::interval(pace.renew_every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let renewal = heartbeat.renewal(leases, &mut ticks);
        let renewed = match fleet.hub_id {
            Some(_) => tokio::time::timeout(pace.patience, renewal).await.ok(),
            // A hub that has its store for itself keeps its nodes: nobody else could take them.
            None => Some(renewal.await),
        };
        match renewed {
            Some(Renewal::Done) => {}
            Some(Renewal::Elsewhere { from }) => return GivenUp::Elsewhere { from },
            // A store that answers and takes no writes, as when it is full, takes none of other hubs either. One that
            // does not answer keeps the node from coming back here.
            None => {
                if let Err(status) = fleet.registry.catch_up().await {
                    tracing::warn!(node, error = %status, "Gave a node up, so that another hub takes it");
                    return GivenUp::NoStore;
                }
            }
        }
    }
}

/// What came of a renewal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Renewal {
    Done,
    /// Nothing was written: the Lease names another hub.
    Elsewhere {
        from: Option<IpAddr>,
    },
}

/// What one session says of its node.
struct Heartbeat<'a> {
    fleet: &'a Fleet,
    node: &'a str,
    /// Where the node connects from.
    from: IpAddr,
    /// Whether the Lease has said, because of this session, that the node is here. From then on a Lease that says
    /// otherwise is of a newer session; before, it is of an older one.
    is_told: bool,
}

impl Heartbeat<'_> {
    /// Tries at every tick, until there is something to tell.
    async fn renewal(&mut self, leases: &Resource, ticks: &mut tokio::time::Interval) -> Renewal {
        loop {
            ticks.tick().await;
            match self.renew(leases).await {
                Ok(renewal) => return renewal,
                Err(status) => {
                    let node = self.node;
                    tracing::warn!(node, error = %status, "Could not renew a node's lease");
                }
            }
        }
    }

    async fn renew(&mut self, leases: &Resource) -> Result<Renewal, Status> {
        // A webhook in a pod cannot answer while all nodes look lost, and they do without this.
        let registry = self.fleet.registry.unquestioned();
        let patch = self.patch();
        let options = WriteOptions {
            user: Arc::new(User::named(format!("{}{}", crate::pki::NODE_USER_PREFIX, self.node))),
            field_manager: "outbye-agent".to_owned(),
            ..WriteOptions::default()
        };
        let elsewhere: OnceLock<Option<IpAddr>> = OnceLock::new();
        let change = |_: &Value, old: &Value| {
            if self.is_told && self.is_elsewhere(old) {
                let from = object::annotation(old, ADDRESS_OF_NODE).and_then(|it| it.parse().ok());
                // A change that is refused is not tried again.
                let _first = elsewhere.set(from);
                let why = "the node is connected to another hub";
                return Err(Status::conflict("coordination.k8s.io", "leases", self.node, why));
            }
            Ok(hub_api::patch::merge(&without_revision(old), &patch))
        };
        let name = self.node;
        let written = registry.modify(leases, Some(NAMESPACE), name, None, &options, change).await;
        if let Some(from) = elsewhere.into_inner() {
            return Ok(Renewal::Elsewhere { from });
        }
        match written {
            Err(status) if status.code == 404 => {
                // Without its Node nobody would ever remove it: the node is about to be shut out.
                let Some(owner) = owner(self.fleet, name) else { return Ok(Renewal::Done) };
                let lease = hub_api::patch::merge(&lease(name, owner), &patch);
                registry.create(leases, Some(NAMESPACE), lease, &options).await?;
            }
            other => drop(other?),
        }
        self.is_told = true;
        Ok(Renewal::Done)
    }

    /// What the Lease is to say.
    fn patch(&self) -> Value {
        let mut patch = json!({"spec": {
            "holderIdentity": self.node,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": hub_api::time::format_micro(self.fleet.clock.now()),
        }});
        if let Some(hub) = &self.fleet.hub_id {
            let from = self.from.to_string();
            patch["metadata"] = json!({"annotations": {HUB_OF_NODE: hub, ADDRESS_OF_NODE: from}});
        }
        patch
    }

    /// Whether the Lease names another hub.
    fn is_elsewhere(&self, lease: &Value) -> bool {
        let named = object::annotation(lease, HUB_OF_NODE);
        self.fleet.hub_id.as_deref().is_some_and(|own| named.is_some_and(|it| it != own))
    }
}

fn lease(node: &str, owner: Value) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": node, "namespace": NAMESPACE, "ownerReferences": [owner]},
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
    use std::{net::Ipv4Addr, pin::pin};

    use super::*;
    use crate::fleet::testing::{Hub, Hubs, Road};

    const FAST: Pace =
        Pace { renew_every: Duration::from_millis(20), patience: Duration::from_millis(100) };
    /// In this time a session that is to be given up is.
    const A_WHILE: Duration = Duration::from_millis(500);
    const PATIENCE: Duration = Duration::from_secs(30);

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn session(hub: &Hub, from: IpAddr) -> Heartbeat<'_> {
        Heartbeat { fleet: &hub.fleet, node: "n", from, is_told: false }
    }

    /// What becomes of a session of which all was well until this happened.
    async fn after(hubs: &Hubs, id: Option<&str>, road: Road) -> Option<GivenUp> {
        let hub = hubs.hub(id);
        let mut session = pin!(keep(session(&hub, HERE), FAST));
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

    #[tokio::test]
    async fn the_newest_session_has_the_node_whichever_hub_it_is_at() {
        let hubs = Hubs::new().await;
        hubs.add_node("n").await;
        let (a, b) = (hubs.hub(Some("a")), hubs.hub(Some("b")));
        let leases = hub_api::resources::find("coordination.k8s.io", "v1", "leases").unwrap();
        let hub_of_node = || {
            let lease = a.fleet.registry.get(leases, Some(NAMESPACE), "n").unwrap();
            object::annotation(&lease.value(), HUB_OF_NODE).unwrap().to_owned()
        };
        let (mut at_a, mut at_b) = (session(&a, HERE), session(&b, THERE));
        assert_eq!(at_a.renew(leases).await, Ok(Renewal::Done));
        assert_eq!(hub_of_node(), "a");
        assert_eq!(at_b.renew(leases).await, Ok(Renewal::Done));
        assert_eq!(hub_of_node(), "b");
        let from = Some(THERE);
        assert_eq!(at_a.renew(leases).await, Ok(Renewal::Elsewhere { from }));
        assert_eq!(at_b.renew(leases).await, Ok(Renewal::Done));
        assert_eq!(hub_of_node(), "b");
        // It comes back.
        let mut back = pin!(keep(session(&a, HERE), FAST));
        let begun = async {
            while hub_of_node() != "a" {
                let early = tokio::time::timeout(FAST.renew_every, &mut back).await;
                assert!(early.is_err(), "{early:?}");
            }
        };
        tokio::time::timeout(PATIENCE, begun).await.unwrap();
        assert_eq!(at_b.renew(leases).await, Ok(Renewal::Elsewhere { from: Some(HERE) }));
        assert_eq!(session(&b, THERE).renew(leases).await, Ok(Renewal::Done));
        let ended = tokio::time::timeout(PATIENCE, back).await;
        assert_eq!(ended.ok(), Some(GivenUp::Elsewhere { from }));
        assert_eq!(hub_of_node(), "b");
    }
}
