//! `outbye-hub serve`: puts the parts together, and takes them apart in order.
//!
//! Start: storage, objects that always exist, controllers, fleet, API. Stop: the reverse, so that
//! what is accepted is also finished.

mod ground;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use hub_apiserver::{
    ApiServer, NodeStreams, Registry, RegistryConfig, ServerCertificate, ServerConfig, TlsConfig,
    VersionInfo,
};
use hub_storage::{Sealer, Storage};
use ipnet::Ipv4Net;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::ground::Ground;
use crate::{
    access::{Access, AccessConfig},
    admin::{self, Admin},
    bootstrap,
    clock::{CertificateTime, monotonic},
    duties::Duties,
    election::{Election, ElectionConfig},
    endpoints::Published,
    fleet::{Fleet, FleetConfig, FleetKeys, FleetStreams},
    peers::{self, PeerPort, Peers, Whereabouts},
    pki::Authority,
    renewal::OwnCertificates,
    runner::RunnerConfig,
    secrets,
    store::StoreConfig,
};

/// Tasks that do not end in this time after a shutdown are left behind.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Directory of the authority, below the data directory.
pub(crate) const AUTHORITY_DIR: &str = "pki";
/// Directory of the store, below the data directory.
pub(crate) const STORE_DIR: &str = "store";
/// Watches and continued lists reach back so far.
const HISTORY: Duration = Duration::from_secs(10 * 60);
/// Version of the Kubernetes API that is spoken.
const API_VERSION: (&str, &str) = ("1", "37");

/// How a hub is to run.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeConfig {
    /// Directory of the hub's data
    #[arg(long, default_value = "/var/lib/outbye-hub")]
    pub data_dir: PathBuf,
    /// Address of the Kubernetes API (TCP)
    #[arg(long, default_value = "0.0.0.0:6443")]
    pub listen: SocketAddr,
    /// Address for nodes (UDP)
    #[arg(long, default_value = "0.0.0.0:6444")]
    pub sync_listen: SocketAddr,
    /// Address under which clients and pods reach this hub; guessed from --listen if absent
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// More names or addresses for the hub's certificate
    #[arg(long = "tls-san")]
    pub tls_sans: Vec<String>,
    /// Addresses of pods; every node gets a /24 of it
    #[arg(long, default_value = "10.42.0.0/16")]
    pub cluster_cidr: Ipv4Net,
    /// Addresses of Services
    #[arg(long, default_value = "10.96.0.0/16")]
    pub service_cidr: Ipv4Net,
    #[command(flatten)]
    pub access: AccessConfig,
    /// Life of nodes' certificates, in seconds
    #[arg(long, default_value_t = 90 * 86_400)]
    pub node_certificate_life: u64,
    /// After SIGTERM the API says that it is not ready, and serves for so many seconds more
    #[arg(long, default_value_t = 0)]
    pub shutdown_delay: u64,
    #[command(flatten)]
    pub sealing: Sealing,
    #[command(flatten)]
    pub store: StoreConfig,
    #[command(flatten)]
    pub election: ElectionConfig,
    /// Address for the other hubs on the same store (TCP)
    #[arg(long, default_value = "0.0.0.0:6445")]
    pub peer_listen: SocketAddr,
}

/// What is encrypted on the disk, and with which keys.
#[derive(Clone, Debug, clap::Args)]
pub struct Sealing {
    /// Keys that encrypt objects on the disk: lines of `name key`, the key 32 bytes in hexadecimal. The first encrypts,
    /// all decrypt
    #[arg(long)]
    pub encryption_keys: Option<PathBuf>,
    /// Resources to encrypt, as `plural` or `plural.group`
    #[arg(long, value_delimiter = ',', default_value = "secrets")]
    pub encrypt_resources: Vec<String>,
}

impl Sealing {
    /// Reads the keys.
    ///
    /// # Errors
    /// The file cannot be read, or has no keys.
    pub fn sealer(&self) -> anyhow::Result<Option<Arc<Sealer>>> {
        let Some(path) = &self.encryption_keys else { return Ok(None) };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("could not read the encryption keys {}", path.display()))?;
        let mut resources = self.encrypt_resources.clone();
        // Whatever else is to be encrypted: these are never left in the clear.
        resources.push(secrets::RESOURCE.to_owned());
        let sealer = Sealer::parse(&text, &resources)
            .with_context(|| format!("could not use the encryption keys {}", path.display()))?;
        Ok(Some(Arc::new(sealer)))
    }
}

/// Runs a hub until `shutdown` fires.
///
/// # Errors
/// A part could not start; the message says which and what to do.
pub async fn run(config: ServeConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut ground = Ground::open(&config).await?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("could not open TCP {} for the API", config.listen))?;
    let address = SocketAddr::new(advertised(&config), listener.local_addr()?.port());
    let own = OwnCertificates::issue(
        ground.authority.clone(),
        ground.time(),
        server_names(&config, address.ip()),
        address,
        config.data_dir.join("admin.kubeconfig"),
    )?;
    let certificate = own.shown();
    let own = own.with_front_proxy(ground.front_proxy.clone());
    let keys = std::mem::take(&mut ground.token_keys);
    let (access, audit_writer) =
        Access::open(&config.access, &ground.storage, &config.data_dir, keys)?;
    let registry = open_registry(&config, &ground, &access, address).await?;

    let work = Work::begin(&ground, own, &shutdown);
    let peers = match &ground.shared {
        Some(shared) => {
            let following = shared.clone().follow(access.tokens.clone(), work.stop.clone());
            work.tasks.spawn(following);
            Some(meet_peers(&config, &ground, &registry, certificate.clone(), address).await?)
        }
        None => {
            Published::read(&registry)?.replace(&registry.unquestioned(), &[address]).await?;
            None
        }
    };
    work.perform_duties(&config, &ground, &registry, &access, peers.as_ref(), &shutdown);
    let hub_id = peers.as_ref().map(|(peers, _)| peers.id().to_owned());
    let (fleet, sync_address) =
        work.serve_fleet(&config, &ground, &registry, &access, certificate.clone(), hub_id)?;
    let nodes = work.stream_to_nodes(fleet.clone(), peers);
    work.administer(&config, &ground, &registry, fleet)?;
    // It ends by itself when the server is gone and all is written.
    work.tasks.spawn(async move {
        if let Some(writer) = audit_writer {
            writer.run(CancellationToken::new()).await;
        }
    });
    let shown = (certificate, ground.front_proxy.shown());
    let server = api_server(&config, registry, &ground.authority, shown, nodes, &access, address)?;
    // From here on only the server tells the audit log anything.
    drop(access);
    tracing::info!(api = %address, sync = %sync_address, "Hub is ready");
    server.serve(listener, shutdown.clone()).await;

    // The server returns only at shutdown.
    shutdown.cancel();
    work.finish().await;
    ground.storage.shutdown().await;
    tracing::info!("Hub stopped");
    Ok(())
}

/// Opens the objects of the API, and makes those that every cluster has.
async fn open_registry(
    config: &ServeConfig,
    ground: &Ground,
    access: &Access,
    address: SocketAddr,
) -> anyhow::Result<Registry> {
    let registry_config = RegistryConfig { service_cidr: config.service_cidr };
    let registry = Registry::new(ground.storage.clone(), ground.time(), registry_config)
        .with_guard(access.guard.clone());
    registry.mount_tokens(true);
    let own = registry.unquestioned();
    own.bootstrap().await?;
    Access::ensure_policy(&own).await?;
    bootstrap::ensure(&own, config.service_cidr, address.port()).await?;
    ground.front_proxy.publish(&own, ground.authority.cert_pem()).await?;
    Ok(registry)
}

/// Opens the port for other hubs on the same store.
async fn meet_peers(
    config: &ServeConfig,
    ground: &Ground,
    registry: &Registry,
    certificate: Arc<ServerCertificate>,
    api: SocketAddr,
) -> anyhow::Result<(Arc<Peers>, PeerPort)> {
    let time = CertificateTime(ground.time());
    let port = PeerPort::bind(config.peer_listen, &ground.authority, certificate, time).await?;
    let id = peers::identity(&config.data_dir)?;
    let peer = SocketAddr::new(api.ip(), port.address()?.port());
    let own = Whereabouts { id, api, peer };
    let registry = registry.unquestioned();
    let peers = Peers::new(registry, ground.time(), ground.authority.clone(), own);
    peers.look_around(monotonic()).await?;
    Ok((peers, port))
}

/// What a hub does beside answering requests.
struct Work {
    tasks: TaskTracker,
    /// Fired after the API has stopped: what serves its requests outlives them.
    stop: CancellationToken,
}

impl Work {
    /// Begins with what looks after the hub itself.
    fn begin(ground: &Ground, own: OwnCertificates, shutdown: &CancellationToken) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(forget_history(ground.storage.clone(), stop.clone()));
        tasks.spawn(watch_storage(ground.storage.clone(), shutdown.clone()));
        tasks.spawn(own.renew(stop.clone()));
        let (clock, until) = (ground.clock.clone(), stop.clone());
        tasks.spawn(async move { clock.keep_up(until).await });
        Self { tasks, stop }
    }

    fn perform_duties(
        &self,
        config: &ServeConfig,
        ground: &Ground,
        registry: &Registry,
        access: &Access,
        peers: Option<&(Arc<Peers>, PeerPort)>,
        shutdown: &CancellationToken,
    ) {
        let duties = Duties {
            registry: registry.clone(),
            clock: ground.time(),
            authority: ground.authority.clone(),
            tokens: access.tokens.clone(),
            front_proxy: ground.front_proxy.clone(),
            runner: RunnerConfig {
                cluster_cidr: config.cluster_cidr,
                ca_pem: ground.authority.cert_pem().to_owned(),
            },
        };
        let election = peers.map(|(peers, _)| {
            // Of this process: a hub that was started again does not take itself for the one before.
            let identity = format!("{}_{}", peers.id(), uuid::Uuid::new_v4());
            Election::new(registry.unquestioned(), ground.time(), config.election, identity)
        });
        self.tasks.spawn(duties.run(election, self.stop.clone(), shutdown.clone()));
    }

    fn serve_fleet(
        &self,
        config: &ServeConfig,
        ground: &Ground,
        registry: &Registry,
        access: &Access,
        certificate: Arc<ServerCertificate>,
        hub_id: Option<String>,
    ) -> anyhow::Result<(Arc<Fleet>, SocketAddr)> {
        let fleet_config = FleetConfig {
            listen: config.sync_listen,
            epoch: agent_sync::Epoch(ground.storage.epoch().get()),
            node_certificate_life: Duration::from_secs(config.node_certificate_life),
            connections_path: config.data_dir.join("connections"),
            hub_id,
        };
        let authority = ground.authority.clone();
        let keys = FleetKeys { authority, tokens: access.tokens.clone() };
        let fleet = Fleet::new(&fleet_config, registry.clone(), ground.time(), keys);
        let Self { tasks, stop } = self;
        let address = fleet.spawn(&fleet_config, certificate, &ground.storage, tasks, stop)?;
        Ok((fleet, address))
    }

    /// How the API reaches nodes: through this hub, and through the others.
    fn stream_to_nodes(
        &self,
        fleet: Arc<Fleet>,
        peers: Option<(Arc<Peers>, PeerPort)>,
    ) -> Arc<dyn NodeStreams> {
        let own = FleetStreams(fleet);
        let Some((peers, port)) = peers else { return Arc::new(own) };
        self.tasks.spawn(peers::serve(port, own.clone(), self.stop.clone()));
        self.tasks.spawn(peers.clone().keep(self.stop.clone()));
        Arc::new(peers::Streams { own, peers })
    }

    fn administer(
        &self,
        config: &ServeConfig,
        ground: &Ground,
        registry: &Registry,
        fleet: Arc<Fleet>,
    ) -> anyhow::Result<()> {
        let admin = Admin {
            registry: registry.clone(),
            fleet,
            clock: ground.time(),
            authority_hash: ground.authority.key_hash()?,
            store: ground.storage.clone(),
            shared: ground.shared.clone(),
            data_dir: config.data_dir.clone(),
        };
        let socket =
            admin::bind(&config.data_dir).context("could not open the hub's admin socket")?;
        self.tasks.spawn(admin::run(admin, socket, self.stop.clone()));
        Ok(())
    }

    /// Stops everything, and waits a while for what is begun.
    async fn finish(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("Left tasks behind that did not stop in time");
        }
    }
}

async fn forget_history(storage: Arc<dyn Storage>, shutdown: CancellationToken) {
    // Compaction loses nothing that a restart would not lose as well.
    let _stopped =
        shutdown.run_until_cancelled(hub_storage::compact_by_age(storage, HISTORY)).await;
}

/// A store that failed a commit is closed for good: only a restart can tell what is durable.
async fn watch_storage(storage: Arc<dyn Storage>, shutdown: CancellationToken) {
    let mut progress = storage.progress();
    let closed = async { while progress.changed().await.is_ok() {} };
    if shutdown.run_until_cancelled(closed).await.is_some() {
        tracing::error!("The store failed; the hub stops, so that it can be started again");
        shutdown.cancel();
    }
}

fn api_server(
    config: &ServeConfig,
    registry: Registry,
    authority: &Authority,
    (certificate, front_proxy): (Arc<ServerCertificate>, Arc<ServerCertificate>),
    nodes: Arc<dyn NodeStreams>,
    access: &Access,
    address: SocketAddr,
) -> anyhow::Result<ApiServer> {
    let tls = TlsConfig { certificate, client_ca: vec![authority.cert_der().clone()] };
    let server_config = ServerConfig {
        tls,
        authentication: access.authentication(&config.access)?,
        audit: access.audit.clone(),
        authorizer: access.authorizer.clone(),
        nodes,
        version: version(),
        address: address.to_string(),
        front_proxy: Some(front_proxy),
        shutdown_delay: Duration::from_secs(config.shutdown_delay),
    };
    Ok(ApiServer::new(registry, server_config)?)
}

fn version() -> VersionInfo {
    let (major, minor) = API_VERSION;
    VersionInfo {
        major: major.to_owned(),
        minor: minor.to_owned(),
        git_version: format!("v{major}.{minor}.0+outbye{}", env!("CARGO_PKG_VERSION")),
        git_commit: String::new(),
        build_date: "1970-01-01T00:00:00Z".to_owned(),
    }
}

/// The address that others should use.
fn advertised(config: &ServeConfig) -> IpAddr {
    config.advertise_address.unwrap_or_else(|| {
        let ip = config.listen.ip();
        if ip.is_unspecified() {
            local_address().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
        } else {
            ip
        }
    })
}

/// The address of this machine on its default route. Nothing is sent.
fn local_address() -> io::Result<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // TEST-NET-3 (RFC 5737): connecting a UDP socket only looks the route up.
    socket.connect("203.0.113.1:9")?;
    Ok(socket.local_addr()?.ip())
}

fn server_names(config: &ServeConfig, address: IpAddr) -> Vec<String> {
    let mut names: Vec<String> = [
        "localhost",
        "127.0.0.1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push(address.to_string());
    names.push(bootstrap::api_address(config.service_cidr).to_string());
    names.extend(config.tls_sans.iter().cloned());
    names.sort();
    names.dedup();
    names
}
