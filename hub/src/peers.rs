//! The other hubs on the same store: who is there, and streams to nodes that are connected to them.
//!
//! ```text
//! every hub:  Lease kube-system/apiserver-ID   (renewed; says where it is)
//!             Lease kube-node-lease/NODE       (of a node that is connected to it: says to which hub)
//! exec at B, node at A:   client ── B ──mutual TLS──> A ──session──> node
//! ```
//! Whether a hub lives is judged by its Lease being seen to change, by the own clock. Only the hubs' authority can sign
//! what a hub shows another; a hub passes streams on to its own nodes only, so that none goes in circles.

mod relay;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use hub_api::{Clock, DeleteOptions, Resource, Status, object};
use hub_apiserver::{ListOptions, PatchKind, Registry, WriteOptions};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub(crate) use relay::{PeerPort, Streams, serve};

use crate::{clock::monotonic, endpoints::Published, pki::Authority};

/// How often a hub says that it is there.
const RENEW_INTERVAL: Duration = Duration::from_secs(5);
/// A hub whose Lease did not change for so long is gone.
const LEASE_DURATION: Duration = Duration::from_secs(20);
/// How often the endpoints are looked at anew at once, because another hub wrote them meanwhile.
const ATTEMPTS: usize = 4;
/// Its Lease is removed after so much more.
const FORGET_AFTER: Duration = Duration::from_secs(3600);
const NAMESPACE: &str = "kube-system";
/// As Kubernetes names the Leases of its API servers.
const NAME_PREFIX: &str = "apiserver-";
const IDENTITY_LABEL: &str = "apiserver.kubernetes.io/identity";
const IDENTITY: &str = "outbye-hub";
const API_ADDRESS: &str = "outbye.dev/api-address";
const PEER_ADDRESS: &str = "outbye.dev/peer-address";
/// On the Lease of a node: the hub that it is connected to.
pub(crate) const HUB_OF_NODE: &str = "outbye.dev/hub";
const NODE_LEASES: &str = "kube-node-lease";

/// Where this hub is.
#[derive(Clone, Debug)]
pub(crate) struct Whereabouts {
    /// Drawn once for a data directory.
    pub(crate) id: String,
    pub(crate) api: SocketAddr,
    pub(crate) peer: SocketAddr,
}

/// What is known of the hubs on this store.
pub(crate) struct Peers {
    registry: Registry,
    clock: Arc<dyn Clock>,
    authority: Arc<Authority>,
    own: Whereabouts,
    view: Mutex<View>,
}

#[derive(Default)]
struct View {
    /// When each Lease was last seen to change.
    hubs: BTreeMap<String, Seen>,
    /// When the Leases were last looked at.
    looked: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Seen {
    spec: Value,
    since: Duration,
    /// Whether it changed before the eyes of this hub. A Lease that was only found may be one of a hub that is long gone.
    changed: bool,
    api: Option<SocketAddr>,
    peer: Option<SocketAddr>,
}

/// A drawn identity, kept in the data directory.
///
/// # Errors
/// It cannot be read or written.
pub(crate) fn identity(data_dir: &Path) -> anyhow::Result<String> {
    let path = data_dir.join("hub-id");
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let known = known.trim();
    if known.len() == 16 && known.bytes().all(|it| it.is_ascii_hexdigit()) {
        return Ok(known.to_owned());
    }
    let (drawn, _) = uuid::Uuid::new_v4().as_u64_pair();
    let drawn = format!("{drawn:016x}");
    agent_disk::replace(&path, drawn.as_bytes()).context("could not keep the hub's identity")?;
    Ok(drawn)
}

impl Peers {
    pub(crate) fn new(
        registry: Registry,
        clock: Arc<dyn Clock>,
        authority: Arc<Authority>,
        own: Whereabouts,
    ) -> Arc<Self> {
        Arc::new(Self { registry, clock, authority, own, view: Mutex::default() })
    }

    /// This hub's identity.
    pub(crate) fn id(&self) -> &str {
        &self.own.id
    }

    /// Says that this hub is there and looks at the others, until `shutdown` fires; then says that it is gone.
    pub(crate) async fn keep(self: Arc<Self>, shutdown: CancellationToken) {
        let keeping = async {
            loop {
                tokio::time::sleep(RENEW_INTERVAL).await;
                if let Err(status) = self.look_around(monotonic()).await {
                    tracing::warn!(error = %status, "Could not tell the other hubs of this one");
                }
            }
        };
        let _stopped: Option<()> = shutdown.run_until_cancelled(keeping).await;
        let parting = async {
            self.remove(&self.own.id).await?;
            self.publish(monotonic()).await
        };
        if let Err(status) = parting.await {
            tracing::warn!(error = %status, "Could not tell the other hubs that this one stops");
        }
    }

    /// Says that this hub is there, looks at the others, and brings the endpoints of the Service `kubernetes` in line.
    ///
    /// # Errors
    /// The store is out of reach, or refuses.
    pub(crate) async fn look_around(&self, now: Duration) -> Result<(), Status> {
        self.renew().await?;
        self.publish(now).await?;
        for id in self.forgotten(now) {
            self.remove(&id).await?;
        }
        Ok(())
    }

    async fn publish(&self, now: Duration) -> Result<(), Status> {
        for _ in 0..ATTEMPTS {
            self.registry.catch_up().await?;
            let published = Published::read(&self.registry)?;
            self.observe(now)?;
            let live = self.live(now, &published);
            match published.replace(&self.registry, &live).await {
                // Another hub wrote at this moment. Should it go on like that, the next look tells.
                Err(status) if matches!(status.code, 404 | 409) => {}
                other => return other,
            }
        }
        Ok(())
    }

    async fn renew(&self) -> Result<(), Status> {
        let spec = json!({
            "holderIdentity": self.own.id,
            "leaseDurationSeconds": LEASE_DURATION.as_secs(),
            "renewTime": hub_api::time::format_micro(self.clock.now()),
        });
        let metadata = json!({
            "annotations": {
                API_ADDRESS: self.own.api.to_string(),
                PEER_ADDRESS: self.own.peer.to_string(),
            },
            "labels": {IDENTITY_LABEL: IDENTITY},
        });
        let name = lease_name(&self.own.id);
        let patch = json!({"metadata": metadata, "spec": spec});
        let (leases, options) = (leases()?, options());
        let patched = self
            .registry
            .patch(leases, Some(NAMESPACE), &name, PatchKind::Merge, &patch, None, &options)
            .await;
        match patched {
            Err(status) if status.code == 404 => {
                let mut lease = patch;
                lease["apiVersion"] = json!("coordination.k8s.io/v1");
                lease["kind"] = json!("Lease");
                lease["metadata"]["name"] = json!(name);
                lease["metadata"]["namespace"] = json!(NAMESPACE);
                self.registry.create(leases, Some(NAMESPACE), lease, &options).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    /// Looks at the Leases.
    fn observe(&self, now: Duration) -> Result<(), Status> {
        let list = self.registry.list(leases()?, Some(NAMESPACE), &ListOptions::default())?;
        self.lock().observe(&self.own.id, list.entries.iter().map(|it| it.value()), now);
        Ok(())
    }

    /// Identities of the hubs that will not come back.
    fn forgotten(&self, now: Duration) -> Vec<String> {
        let dead = |it: &Seen| now.saturating_sub(it.since) > LEASE_DURATION + FORGET_AFTER;
        let view = self.lock();
        view.hubs.iter().filter(|(_, it)| dead(it)).map(|(id, _)| id.clone()).collect()
    }

    /// API addresses of the hubs that live. One of which only the Lease was found stays as it is published: it would be
    /// wrong to send pods to a hub that is gone, and as wrong to take one away that lives.
    fn live(&self, now: Duration, published: &Published) -> Vec<SocketAddr> {
        let view = self.lock();
        let live = view.hubs.values().filter(|it| it.lives(now)).filter_map(|it| {
            let address = it.api?;
            (it.changed || published.has(address.ip())).then_some(address)
        });
        live.collect()
    }

    /// The hub that a node is connected to, if it is another one that lives: its identity and address.
    fn hub_of(&self, node: &str) -> Option<(String, SocketAddr)> {
        let lease = self.registry.get(leases().ok()?, Some(NODE_LEASES), node).ok()?;
        let id = object::annotation(&lease.value(), HUB_OF_NODE)?.to_owned();
        let address = self.lock().hubs.get(&id).filter(|it| it.lives(monotonic()))?.peer?;
        (id != self.own.id).then_some((id, address))
    }

    async fn remove(&self, id: &str) -> Result<(), Status> {
        let options = DeleteOptions::default();
        let removed =
            self.registry.delete(leases()?, Some(NAMESPACE), &lease_name(id), &options).await;
        match removed {
            Err(status) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    /// Notes which Leases changed.
    fn observe(
        &mut self,
        own: &str,
        leases: impl Iterator<Item = impl std::ops::Deref<Target = Value>>,
        now: Duration,
    ) {
        // A hub that could not look does not know who was silent meanwhile.
        let was_blind = self.looked.is_some_and(|it| now.saturating_sub(it) > LEASE_DURATION / 2);
        self.looked = Some(now);
        let mut hubs = BTreeMap::new();
        for lease in leases {
            let Some(id) = object::name(&lease).strip_prefix(NAME_PREFIX) else { continue };
            if lease["metadata"]["labels"][IDENTITY_LABEL] != IDENTITY {
                continue;
            }
            let address = |key| object::annotation(&lease, key).and_then(|it| it.parse().ok());
            let spec = lease["spec"].clone();
            let (since, changed) = match self.hubs.get(id) {
                Some(it) if it.spec == spec && was_blind => (now, it.changed),
                Some(it) if it.spec == spec => (it.since, it.changed),
                known => (now, known.is_some() || id == own),
            };
            let (api, peer) = (address(API_ADDRESS), address(PEER_ADDRESS));
            hubs.insert(id.to_owned(), Seen { spec, since, changed, api, peer });
        }
        self.hubs = hubs;
    }
}

impl Seen {
    fn lives(&self, now: Duration) -> bool {
        now.saturating_sub(self.since) <= LEASE_DURATION
    }
}

fn lease_name(id: &str) -> String {
    format!("{NAME_PREFIX}{id}")
}

fn leases() -> Result<&'static Resource, Status> {
    hub_api::resources::find("coordination.k8s.io", "v1", "leases")
        .ok_or_else(Status::no_such_resource)
}

fn options() -> WriteOptions {
    WriteOptions { field_manager: "outbye-hub".to_owned(), ..WriteOptions::default() }
}
