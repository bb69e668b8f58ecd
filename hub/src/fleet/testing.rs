//! Several hubs on one store, in one process, and what can come between a hub and the store.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agent_sync::Epoch;
use futures_util::future::BoxFuture;
use hub_api::Clock;
use hub_apiserver::{
    Registry, RegistryConfig, ServerCertificate, WriteOptions,
    auth::{ServiceAccountTokens, TokenKey},
};
use hub_storage::{
    Backup, CatchUpError, Committed, Revision, SledStorage, Storage, StorageEpoch, Txn, TxnError,
    WatchCache,
};
use quinn::Endpoint;
use rustls::RootCertStore;
use serde_json::json;

use super::{
    Fleet, FleetConfig, FleetKeys,
    listener::{self, PortConfig},
};
use crate::{
    clock::{CertificateTime, SystemClock},
    pki::Authority,
};

const HOUR: Duration = Duration::from_hours(1);

/// What a hub meets on its road to the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Road {
    Open,
    /// Nothing is there.
    Cut,
    /// Nothing answers in time.
    Slow,
    /// The store answers, and takes no writes of anybody.
    Full,
}

/// The store, as one hub sees it.
pub(super) struct HubStore {
    store: Arc<SledStorage>,
    road: Mutex<Road>,
}

impl HubStore {
    pub(super) fn set(&self, road: Road) {
        *self.road.lock().unwrap_or_else(PoisonError::into_inner) = road;
    }

    fn road(&self) -> Road {
        *self.road.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for HubStore {
    fn cache(&self) -> &Arc<WatchCache> {
        self.store.cache()
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'static, Result<Committed, TxnError>> {
        let err = match self.road() {
            Road::Open => return self.store.txn(txn),
            Road::Cut => TxnError::Unreachable { reason: "no route to etcd".to_owned() },
            Road::Slow => TxnError::TimedOut,
            Road::Full => {
                let reason = "etcdserver: mvcc: database space exceeded".to_owned();
                TxnError::Refused { reason }
            }
        };
        Box::pin(std::future::ready(Err(err)))
    }

    fn catch_up(&self) -> BoxFuture<'static, Result<Revision, CatchUpError>> {
        let err = match self.road() {
            Road::Open | Road::Full => return self.store.catch_up(),
            Road::Cut => CatchUpError::Unreachable { reason: "no route to etcd".to_owned() },
            Road::Slow => CatchUpError::TimedOut,
        };
        Box::pin(std::future::ready(Err(err)))
    }

    fn epoch(&self) -> StorageEpoch {
        self.store.epoch()
    }

    fn backup(&self, files: &[(String, Vec<u8>)]) -> Backup {
        self.store.backup(files)
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        self.store.shutdown()
    }
}

/// One hub, and its road to the store.
pub(super) struct Hub {
    pub(super) fleet: Arc<Fleet>,
    pub(super) store: Arc<HubStore>,
}

/// What hubs share.
pub(super) struct Hubs {
    store: Arc<SledStorage>,
    pub(super) authority: Arc<Authority>,
    tokens: Arc<ServiceAccountTokens>,
    dir: tempfile::TempDir,
}

impl Hubs {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let (store, _) = SledStorage::open(&path, hub_storage::Options::DEFAULT).unwrap();
        registry(store.clone()).bootstrap().await.unwrap();
        let authority =
            Authority::load_or_create(&dir.path().join("pki"), SystemClock.now()).unwrap();
        let key = TokenKey::from_pkcs8(&TokenKey::generate().unwrap()).unwrap();
        let issuer = "https://issuer.test".to_owned();
        let tokens = ServiceAccountTokens::new(issuer, Vec::new(), vec![key], HOUR).unwrap();
        Self { store, authority: Arc::new(authority), tokens: Arc::new(tokens), dir }
    }

    /// A hub of this identity, or one that has the store for itself.
    pub(super) fn hub(&self, id: Option<&str>) -> Hub {
        let road = Mutex::new(Road::Open);
        let store = Arc::new(HubStore { store: self.store.clone(), road });
        let config = FleetConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            epoch: Epoch(self.store.epoch().get()),
            node_certificate_life: HOUR,
            connections_path: self.dir.path().join("connections"),
            hub_id: id.map(str::to_owned),
        };
        let keys = FleetKeys { authority: self.authority.clone(), tokens: self.tokens.clone() };
        let clock = Arc::new(SystemClock);
        Hub { fleet: Fleet::new(&config, registry(store.clone()), clock, keys), store }
    }

    /// A port for nodes, which nobody serves yet.
    pub(super) fn open_port(&self) -> Endpoint {
        let identity = self.authority.issue_server(&[], SystemClock.now()).unwrap();
        let (chain, key) = identity.to_der().unwrap();
        let farewells = self.dir.path().join("farewells");
        let config = PortConfig {
            address: ([127, 0, 0, 1], 0).into(),
            authority: &self.authority,
            certificate: ServerCertificate::new(chain, key).unwrap(),
            time: CertificateTime(Arc::new(SystemClock)),
            farewells: &farewells,
        };
        listener::bind(config).unwrap()
    }

    pub(super) async fn add_node(&self, name: &str) {
        let nodes = hub_api::resources::find("", "v1", "nodes").unwrap();
        let node = json!({"metadata": {"name": name}});
        let options = WriteOptions::default();
        registry(self.store.clone()).create(nodes, None, node, &options).await.unwrap();
    }
}

fn registry(store: Arc<dyn Storage>) -> Registry {
    let config = RegistryConfig { service_cidr: "10.96.0.0/16".parse().unwrap() };
    Registry::new(store, Arc::new(SystemClock), config)
}

/// A machine that believes this authority, and speaks for no node yet.
pub(super) fn client(authority: &Authority) -> Endpoint {
    let mut roots = RootCertStore::empty();
    roots.add(authority.cert_der().clone()).unwrap();
    let mut tls =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![agent_sync::ALPN_JOIN.to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    endpoint
}
