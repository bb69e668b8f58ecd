//! The agent, from the first directory to the last joined task.

use std::{fs, io, os::unix::fs::DirBuilderExt, path::PathBuf, sync::Arc, time::Duration};

use agent_core::event::Subject;
use agent_image::{ImageConfig, ImageStore};
use agent_ledger::Ledger;
use agent_runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::NodeClock,
    config::AgentConfig,
    desired::DesiredStore,
    link::{self, LinkConfig, StreamHandler},
    local_api, machine,
    network::Network,
    node::{Node, Parts},
    node_status,
    outbox::Outbox,
    records, services, streams,
    supervisor::Supervisor,
};

/// How long tasks have to end after the agent was told to stop.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// The agent could not start, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("could not prepare {path}")]
    Directory {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("could not open the ledger")]
    Ledger(#[source] agent_ledger::OpenError),
    #[error("could not go on: the ledger is closed after a failed write, and must be opened again")]
    LedgerClosed,
    #[error("could not open the image store")]
    Images(#[source] agent_image::OpenError),
    #[error("could not reach the keeper")]
    Keeper(#[source] agent_runtime::ConnectError),
    #[error("could not see what runs")]
    Inventory(#[source] agent_runtime::CallError),
    #[error("could not serve the local socket")]
    LocalApi(#[source] local_api::ServeError),
    #[error("could not listen for signals")]
    Signals(#[source] io::Error),
    #[error("a task was cut off at start")]
    Cancelled,
}

/// Runs until a signal asks to stop. Containers go on.
///
/// # Errors
/// Something that the node cannot do without is missing, or broke.
pub async fn run(config: AgentConfig) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let node = Arc::new(start(config).await?);
    let shutdown = CancellationToken::new();
    let tasks = TaskTracker::new();
    let listener = local_api::bind(&node.config.socket()).map_err(RunError::LocalApi)?;
    tasks.spawn(local_api::serve(Arc::clone(&node), listener, shutdown.clone()));
    tasks.spawn(services::run(Arc::clone(&node), shutdown.clone()));
    tasks.spawn(node_status::run(Arc::clone(&node), shutdown.clone()));
    let (sweeping, stop) = (Arc::clone(&node), shutdown.clone());
    tasks.spawn(async move { stop.run_until_cancelled(sweeping.network.sweep()).await });
    let handle = link::spawn(link_config(&node), &tasks, shutdown.clone());
    // Set once, here.
    let _ = node.link.set(handle);
    let supervisor = Supervisor::new(Arc::clone(&node), shutdown.clone());
    let mut supervised = std::pin::pin!(supervisor.run());
    tracing::info!(node = node.config.node_name, "The agent is up");
    // All arms are cancel-safe.
    let (ended, may_write) = tokio::select! {
        ended = &mut supervised => (Some(ended), true),
        _ = terminate.recv() => (None, true),
        _ = interrupt.recv() => (None, true),
        // Whoever started the agent starts it again, and then it finds out what its disk holds.
        () = node.ledger.closed() => (None, false),
    };
    tracing::info!("The agent stops, containers go on");
    shutdown.cancel();
    tasks.close();
    let joined = tokio::time::timeout(SHUTDOWN_TIMEOUT, async {
        let ended = match ended {
            Some(ended) => ended,
            None => supervised.await,
        };
        tasks.wait().await;
        ended
    });
    let ended = joined.await;
    node.images.close();
    node.ledger.close();
    if !may_write {
        return Err(RunError::LedgerClosed);
    }
    match ended {
        Ok(ended) => ended.map_err(RunError::Inventory),
        Err(_elapsed) => {
            tracing::warn!("Tasks did not end in time");
            Ok(())
        }
    }
}

async fn start(mut config: AgentConfig) -> Result<Node, RunError> {
    for dir in [&config.state_dir, &config.run_dir] {
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|err| RunError::Directory { path: dir.clone(), err })?;
    }
    // It is an error only if another one was there first, and then that one does.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (ledger, report) = Ledger::open(&config.ledger_dir()).map_err(RunError::Ledger)?;
    // Before the keeper is asked for anything: with it, it hears of the floor.
    let clock = NodeClock::new(ledger.vital().time_floor);
    if config.node_name.is_empty() {
        let joined = ledger.vital().node_name;
        config.node_name = if joined.is_empty() { hostname() } else { joined };
    }
    let images = open_images(&config).await?;
    let runtime = Runtime::connect(&config.runtime()).await.map_err(RunError::Keeper)?;
    let (bridge, table) = (config.bridge.clone(), config.nft_table.clone());
    let remembered = records::network(&ledger);
    let network = Network::new(bridge, table, machine::mtu(), remembered, config.pod_cidr);
    let machine = machine::read(&config.state_dir, &config.bridge, &images);
    let parts = Parts {
        desired: Arc::new(DesiredStore::load(ledger.clone())),
        outbox: Arc::new(Outbox::load(ledger.clone())),
        config,
        ledger,
        runtime,
        images,
        network,
        machine,
    };
    let node = Node::new(parts, clock);
    if report.lost_data() {
        tracing::error!(?report, "The ledger was damaged, what could be read of it is used");
        let subject = Subject::Node { name: node.config.node_name.clone() };
        let message = format!("The ledger was damaged and healed: {report:?}");
        node.events.warning(subject, "LedgerDamaged", message).await;
    }
    Ok(node)
}

async fn open_images(config: &AgentConfig) -> Result<ImageStore, RunError> {
    let dir = config.images_dir();
    let settings = ImageConfig::new(config.plain_http_registries.clone());
    tokio::task::spawn_blocking(move || ImageStore::open(&dir, settings))
        .await
        .map_err(|_| RunError::Cancelled)?
        .map_err(RunError::Images)
}

fn link_config(node: &Arc<Node>) -> LinkConfig {
    let (streams, pods) = (Arc::clone(node), Arc::clone(node));
    let on_stream: StreamHandler = Arc::new(move |request, recv, send| {
        let node = Arc::clone(&streams);
        Box::pin(streams::serve(node, request, recv, send))
    });
    LinkConfig {
        ledger: node.ledger.clone(),
        desired: Arc::clone(&node.desired),
        outbox: Arc::clone(&node.outbox),
        clock: node.clock.clone(),
        on_stream,
        ended: Arc::new(move || pods.pods.ended()),
        accept_new_epoch: node.config.accept_new_epoch,
    }
}

/// The machine's name, as the default for the node's.
pub fn hostname() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().to_lowercase()
}
