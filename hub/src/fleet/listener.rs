//! The UDP port: TLS, admission of connections, and who gets which.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use hub_apiserver::{ServerCertificate, places::Places};
use quinn::{Connection, Endpoint, EndpointConfig, IdleTimeout, Incoming, TransportConfig, VarInt};
use rustls::{RootCertStore, server::WebPkiClientVerifier};
use rustls_pki_types::CertificateDer;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Fleet,
    farewell::{self, RandomIds},
    join, session,
};
use crate::{
    clock::CertificateTime,
    pki::{self, Authority, PkiError},
};

/// A node that is silent for so long is gone. Nodes send a keep-alive every third of it.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that one node may open at once: the session's own, with room to spare.
const MAX_STREAMS: u32 = 8;
/// Connections that were not looked at yet.
const MAX_INCOMING: usize = 4096;
/// Handshakes at once, and of one source. Nodes behind one address come again soon.
const MAX_HANDSHAKES: (usize, usize) = (1024, 256);
/// Machines that join at once, and of one source.
const MAX_JOINS: (usize, usize) = (256, 32);
/// Bytes that may lie unread of a connection whose certificate was not looked at.
const STRANGER_WINDOW: u32 = 256 << 10;
/// Nodes that all come back at once are told at once that their old connections are gone.
const RESET_INTERVAL: Duration = Duration::from_millis(1);

/// Codes with which the hub closes a connection; agents show the reason.
pub(super) const CLOSE_REFUSED: VarInt = VarInt::from_u32(1);
const CLOSE_SHUTDOWN: VarInt = VarInt::from_u32(2);

/// The port for nodes could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("could not open UDP {address} for nodes")]
    Bind {
        address: SocketAddr,
        #[source]
        err: io::Error,
    },
    #[error("could not use the hub's authority")]
    Tls(#[source] rustls::Error),
    #[error("could not verify nodes' certificates by the hub's authority")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    #[error("could not use TLS 1.3 with QUIC")]
    Quic(#[source] quinn::crypto::rustls::NoInitialCipherSuite),
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// Places of those who have not shown yet who they are.
#[derive(Clone, Debug)]
struct StrangerPlaces {
    handshakes: Places,
    joins: Places,
}

impl Default for StrangerPlaces {
    fn default() -> Self {
        Self {
            handshakes: Places::new(MAX_HANDSHAKES.0, MAX_HANDSHAKES.1),
            joins: Places::new(MAX_JOINS.0, MAX_JOINS.1),
        }
    }
}

/// What the port shows and believes.
pub(super) struct PortConfig<'a> {
    pub(super) address: SocketAddr,
    pub(super) authority: &'a Authority,
    pub(super) certificate: Arc<ServerCertificate>,
    pub(super) time: CertificateTime,
    /// The note of the process before.
    pub(super) farewells: &'a Path,
}

pub(super) fn bind(config: PortConfig<'_>) -> Result<Endpoint, ListenError> {
    let PortConfig { address, authority, certificate, time, farewells } = config;
    let mut roots = RootCertStore::empty();
    roots.add(authority.cert_der().clone()).map_err(ListenError::Tls)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // A machine that joins has no certificate yet; a session without one is refused below.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(ListenError::Verifier)?;
    let mut tls = rustls::ServerConfig::builder_with_details(provider, Arc::new(time))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(ListenError::Tls)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    tls.alpn_protocols = vec![agent_sync::ALPN.to_vec(), agent_sync::ALPN_JOIN.to_vec()];
    // Replayed early data could repeat what a node once said.
    tls.max_early_data_size = 0;
    let crypto =
        quinn::crypto::rustls::QuicServerConfig::try_from(tls).map_err(ListenError::Quic)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    config.max_incoming(MAX_INCOMING);
    let bind = |err| ListenError::Bind { address, err };
    let socket = std::net::UdpSocket::bind(address).map_err(bind)?;
    let reset_key = authority.reset_key();
    let n_told = farewell::say(farewells, &socket, &reset_key);
    if n_told > 0 {
        tracing::info!(n_told, "Told nodes that the hub was restarted");
    }
    let mut endpoint_config = EndpointConfig::new(Arc::new(reset_key));
    endpoint_config.cid_generator(|| Box::new(RandomIds));
    endpoint_config.min_reset_interval(RESET_INTERVAL);
    let runtime = Arc::new(quinn::TokioRuntime);
    Endpoint::new(endpoint_config, Some(config), socket, runtime).map_err(bind)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok());
    transport.max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS));
    transport.max_concurrent_uni_streams(VarInt::from_u32(0));
    transport.receive_window(VarInt::from_u32(STRANGER_WINDOW));
    transport.datagram_receive_buffer_size(None);
    transport
}

pub(super) async fn run(
    fleet: Arc<Fleet>,
    endpoint: Endpoint,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    let places = StrangerPlaces::default();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                tasks.spawn(admit(fleet.clone(), places.clone(), incoming));
            }
            () = shutdown.cancelled() => break,
        }
    }
    endpoint.close(CLOSE_SHUTDOWN, b"the hub is shutting down");
    endpoint.wait_idle().await;
}

async fn admit(fleet: Arc<Fleet>, places: StrangerPlaces, incoming: Incoming) {
    let remote = incoming.remote_address();
    // An address is validated before the costly handshake: no amplification, no spoofing.
    if !incoming.remote_address_validated() && incoming.may_retry() {
        // A failure means the endpoint is gone.
        let _closed = incoming.retry();
        return;
    }
    let Ok(place) = places.handshakes.take(remote.ip()) else {
        incoming.refuse();
        return;
    };
    let (accepted, id) = farewell::watch_id(|| incoming.accept());
    let connecting = match accepted {
        Ok(connecting) => connecting,
        Err(err) => {
            tracing::debug!(%remote, error = %err, "Refused a connection");
            return;
        }
    };
    let connection = match tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(err)) => {
            tracing::warn!(%remote, error = %err, "Could not shake hands with a node");
            return;
        }
        Err(_elapsed) => {
            tracing::warn!(%remote, "Gave up a handshake that took too long");
            return;
        }
    };
    drop(place);
    let result = match alpn(&connection).as_deref() {
        Some(it) if it == agent_sync::ALPN => serve_node(&fleet, &connection, id).await,
        Some(it) if it == agent_sync::ALPN_JOIN => match places.joins.take(remote.ip()) {
            Ok(_place) => {
                join::serve(&fleet, &connection).await;
                Ok(())
            }
            Err(full) => Err(format!("try again later: {full}")),
        },
        _ => Err("unknown protocol".to_owned()),
    };
    if let Err(reason) = result {
        tracing::warn!(%remote, reason, "Refused a node");
        connection.close(CLOSE_REFUSED, reason.as_bytes());
    }
}

async fn serve_node(
    fleet: &Arc<Fleet>,
    connection: &Connection,
    id: Option<farewell::Id>,
) -> Result<(), String> {
    let cert = peer_certificate(connection).ok_or("the node shows no certificate: join first")?;
    let node = pki::node_name(&cert).ok_or("the certificate is not a node's")?;
    let hash = pki::key_hash(&cert).map_err(|err| err.to_string())?;
    fleet.check_node_key(&node, &hash)?;
    // What one stream of a node holds back must not stop its others.
    connection.set_receive_window(VarInt::MAX);
    let _noted = id.map(|id| fleet.farewells.note(id, connection));
    session::run(fleet, node, &hash, connection).await
}

fn alpn(connection: &Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?.protocol
}

fn peer_certificate(connection: &Connection) -> Option<CertificateDer<'static>> {
    let certs = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    certs.first().cloned()
}

#[cfg(test)]
mod tests {
    use hub_api::Clock;

    use super::*;
    use crate::fleet::testing::client;

    /// A hub that dies with a connection open, and its next process. Nothing says goodbye, as after a crash.
    async fn dies(note: bool, nudge: bool) -> Result<quinn::ConnectionError, ()> {
        let dir = tempfile::tempdir().unwrap();
        let now = crate::clock::SystemClock.now();
        let authority = Authority::load_or_create(dir.path(), now).unwrap();
        let (chain, key) = authority.issue_server(&[], now).unwrap().to_der().unwrap();
        let certificate = ServerCertificate::new(chain, key).unwrap();
        let path = dir.path().join("connections");
        let open = |address: SocketAddr| {
            bind(PortConfig {
                address,
                authority: &authority,
                certificate: certificate.clone(),
                time: CertificateTime(Arc::new(crate::clock::SystemClock)),
                farewells: &path,
            })
            .unwrap()
        };
        // A runtime of its own: it goes as a process does.
        let doomed = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let server = {
            let _inside = doomed.enter();
            open("127.0.0.1:0".parse().unwrap())
        };
        let address = server.local_addr().unwrap();
        let farewells = farewell::Farewells::new(path.clone());
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let serving = doomed.spawn(async move {
            let incoming = server.accept().await.unwrap();
            let (connecting, id) = farewell::watch_id(|| incoming.accept());
            let connection = connecting.unwrap().await.unwrap();
            let _noted = farewells.note(id.unwrap(), &connection);
            if note {
                farewells.write().unwrap();
            }
            ready.send(()).unwrap();
            std::future::pending::<()>().await;
        });
        let client = client(&authority);
        let connection = client.connect(address, pki::SERVER_NAME).unwrap().await.unwrap();
        is_ready.await.unwrap();
        doomed.shutdown_background();
        assert!(serving.await.is_err());

        let _restarted = open(address);
        if nudge {
            let (mut stream, _) = connection.open_bi().await.map_err(drop)?;
            // What it says does not matter, it only has to arrive.
            let _ignored = stream.write_all(&[0; 64]).await;
        }
        let closed = tokio::time::timeout(Duration::from_secs(10), connection.closed()).await;
        closed.map_err(drop)
    }

    #[tokio::test]
    async fn a_restarted_hub_answers_nodes_that_their_connections_are_gone() {
        assert_eq!(dies(false, true).await, Ok(quinn::ConnectionError::Reset));
    }

    #[tokio::test]
    async fn a_restarted_hub_tells_silent_nodes_that_their_connections_are_gone() {
        assert_eq!(dies(true, false).await, Ok(quinn::ConnectionError::Reset));
    }
}
