//! The nodes of this hub: QUIC sessions, joining, reports, heartbeats and streams.
//!
//! ```text
//! listener ─ ALPN outbye/1 ──> session ── view changes <── feed <── watches
//!     │                          └─ reports ──> registry
//!     └──── ALPN outbye-join/1 ─> join
//! ```
//!
//! Everything a node sends is hostile until checked: its name is its certificate's, and it may
//! touch only its own Node and the pods bound to it.

mod farewell;
mod feed;
mod heartbeat;
mod identity;
mod join;
mod listener;
mod pod_tokens;
mod reports;
mod session;
mod streams;
#[cfg(test)]
mod testing;
pub mod tokens;
mod view;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agent_sync::Epoch;
use hub_api::Clock;
use hub_apiserver::{Registry, ServerCertificate, auth::ServiceAccountTokens};
use hub_storage::Storage;
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use farewell::Farewells;
use identity::Sightings;
pub use listener::ListenError;
pub use streams::FleetStreams;
use view::{ViewChange, ViewIndex};

use crate::{clock::CertificateTime, pki::Authority};

/// What the fleet needs to run.
pub struct FleetConfig {
    pub listen: SocketAddr,
    pub epoch: Epoch,
    pub node_certificate_life: Duration,
    /// Where the open connections are noted, for the next process.
    pub connections_path: PathBuf,
    /// This hub's identity, if others are on the same store: they look for nodes by it.
    pub hub_id: Option<String>,
}

impl std::fmt::Debug for FleetConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FleetConfig").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// What vouches for nodes and for their pods.
#[derive(Clone, Debug)]
pub struct FleetKeys {
    pub authority: Arc<Authority>,
    pub tokens: Arc<ServiceAccountTokens>,
}

/// Shared by all sessions.
pub struct Fleet {
    registry: Registry,
    clock: Arc<dyn Clock>,
    authority: Arc<Authority>,
    tokens: Arc<ServiceAccountTokens>,
    epoch: Epoch,
    node_certificate_life: Duration,
    hub_id: Option<String>,
    farewells: Farewells,
    state: Mutex<State>,
    /// True once every watch has delivered its first list.
    primed: watch::Sender<bool>,
    /// Asks the feeds how far they are.
    asked: watch::Sender<()>,
    /// How far each feed has said that it is, in the order of its kinds.
    fed: watch::Sender<[u64; feed::N_KINDS]>,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    index: ViewIndex,
    sessions: BTreeMap<String, SessionHandle>,
    sightings: BTreeMap<String, Sightings>,
    next_session: u64,
    revision: u64,
}

#[derive(Clone)]
struct SessionHandle {
    id: u64,
    connection: quinn::Connection,
    changes_tx: mpsc::UnboundedSender<ToSession>,
}

impl SessionHandle {
    fn send(&self, message: ToSession) {
        // A session that ended takes itself out of the table; until then nobody listens.
        let _ended = self.changes_tx.send(message);
    }
}

/// What the feed tells a session.
#[derive(Clone, Debug)]
enum ToSession {
    Change(ViewChange),
    /// Everything up to this revision was told.
    Revision(u64),
}

impl Fleet {
    pub fn new(
        config: &FleetConfig,
        registry: Registry,
        clock: Arc<dyn Clock>,
        keys: FleetKeys,
    ) -> Arc<Self> {
        Arc::new(Self {
            registry,
            clock,
            authority: keys.authority,
            tokens: keys.tokens,
            epoch: config.epoch,
            node_certificate_life: config.node_certificate_life,
            hub_id: config.hub_id.clone(),
            farewells: Farewells::new(config.connections_path.clone()),
            state: Mutex::default(),
            primed: watch::Sender::new(false),
            asked: watch::Sender::new(()),
            fed: watch::Sender::new([0; feed::N_KINDS]),
        })
    }

    /// Opens the UDP port and serves nodes until `shutdown` turns true.
    ///
    /// # Errors
    /// The port cannot be opened, or the certificate cannot be used.
    pub fn spawn(
        self: &Arc<Self>,
        config: &FleetConfig,
        certificate: Arc<ServerCertificate>,
        storage: &Arc<dyn Storage>,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Result<SocketAddr, ListenError> {
        let endpoint = listener::bind(listener::PortConfig {
            address: config.listen,
            authority: &self.authority,
            certificate,
            time: CertificateTime(self.clock.clone()),
            farewells: &config.connections_path,
        })?;
        let address = endpoint
            .local_addr()
            .map_err(|err| ListenError::Bind { address: config.listen, err })?;
        feed::spawn(self, storage, tasks, shutdown);
        let (fleet, stop) = (self.clone(), shutdown.clone());
        tasks.spawn(async move { fleet.farewells.keep(stop).await });
        tasks.spawn(listener::run(self.clone(), endpoint, tasks.clone(), shutdown.clone()));
        Ok(address)
    }

    /// Names of the nodes that are connected now.
    pub fn connected(&self) -> Vec<String> {
        self.lock().sessions.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in one session must not take the others with it: the index is left consistent
        // by every method of its own.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
