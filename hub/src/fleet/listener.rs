//! The UDP port: TLS, admission of connections, and who gets which.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use quinn::{
    Connection, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, IdleTimeout,
    Incoming, TransportConfig, VarInt,
};
use rustls::{RootCertStore, server::WebPkiClientVerifier};
use rustls_pki_types::CertificateDer;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Fleet, join, session};
use crate::pki::{self, Authority, Identity, PkiError};

/// A node that is silent for so long is gone. Nodes send a keep-alive every third of it.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that one node may open at once: the session's own, with room to spare.
const MAX_STREAMS: u32 = 8;
/// Connections that have not finished their handshake.
const MAX_INCOMING: usize = 4096;

/// Bytes of a connection's identifier.
const ID_LEN: usize = 8;

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
    #[error("could not use the hub's certificate")]
    Tls(#[source] rustls::Error),
    #[error("could not verify nodes' certificates by the hub's authority")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    #[error("could not use TLS 1.3 with QUIC")]
    Quic(#[source] quinn::crypto::rustls::NoInitialCipherSuite),
    #[error(transparent)]
    Pki(#[from] PkiError),
}

pub(super) fn bind(
    address: SocketAddr,
    authority: &Authority,
    identity: &Identity,
) -> Result<Endpoint, ListenError> {
    let (certs, key) = identity.to_der()?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.cert_der().clone()).map_err(ListenError::Tls)?;
    // A machine that joins has no certificate yet; a session without one is refused below.
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
        .allow_unauthenticated()
        .build()
        .map_err(ListenError::Verifier)?;
    let mut tls = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(certs, key)
        .map_err(ListenError::Tls)?;
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
    let mut endpoint_config = EndpointConfig::new(Arc::new(authority.reset_key()));
    endpoint_config.cid_generator(|| Box::new(RandomIds));
    let runtime = Arc::new(quinn::TokioRuntime);
    Endpoint::new(endpoint_config, Some(config), socket, runtime).map_err(bind)
}

/// Identifiers of connections. quinn's own generator signs them with a key of the process, and
/// then drops what a killed hub's nodes still send: they would wait for their idle timeout. Of
/// these any may have been ours, and the reset that answers it is smaller than what it answers.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let random = uuid::Uuid::new_v4().into_bytes();
        ConnectionId::new(random.first_chunk::<ID_LEN>().unwrap_or(&[0; ID_LEN]))
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok());
    transport.max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS));
    transport.max_concurrent_uni_streams(VarInt::from_u32(0));
    transport
}

pub(super) async fn run(
    fleet: Arc<Fleet>,
    endpoint: Endpoint,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                tasks.spawn(admit(fleet.clone(), incoming));
            }
            () = shutdown.cancelled() => break,
        }
    }
    endpoint.close(CLOSE_SHUTDOWN, b"the hub is shutting down");
    endpoint.wait_idle().await;
}

async fn admit(fleet: Arc<Fleet>, incoming: Incoming) {
    let remote = incoming.remote_address();
    // An address is validated before the costly handshake: no amplification, no spoofing.
    if !incoming.remote_address_validated() && incoming.may_retry() {
        // A failure means the endpoint is gone.
        let _closed = incoming.retry();
        return;
    }
    let connecting = match incoming.accept() {
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
    let result = match alpn(&connection).as_deref() {
        Some(it) if it == agent_sync::ALPN => serve_node(&fleet, &connection).await,
        Some(it) if it == agent_sync::ALPN_JOIN => {
            join::serve(&fleet, &connection).await;
            Ok(())
        }
        _ => Err("unknown protocol".to_owned()),
    };
    if let Err(reason) = result {
        tracing::warn!(%remote, reason, "Refused a node");
        connection.close(CLOSE_REFUSED, reason.as_bytes());
    }
}

async fn serve_node(fleet: &Arc<Fleet>, connection: &Connection) -> Result<(), String> {
    let cert = peer_certificate(connection).ok_or("the node shows no certificate: join first")?;
    let node = pki::node_name(&cert).ok_or("the certificate is not a node's")?;
    let hash = pki::key_hash(&cert).map_err(|err| err.to_string())?;
    fleet.check_node_key(&node, &hash)?;
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

    fn client(authority: &Authority) -> Endpoint {
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

    #[tokio::test]
    async fn a_restarted_hub_tells_nodes_at_once_that_their_connections_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let now = crate::clock::SystemClock.now();
        let authority = Authority::load_or_create(dir.path(), now).unwrap();
        let identity = authority.issue_server(&[], now).unwrap();
        // A runtime of its own: when it goes, nothing says goodbye, as after a crash.
        let doomed = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let server = {
            let _inside = doomed.enter();
            bind("127.0.0.1:0".parse().unwrap(), &authority, &identity).unwrap()
        };
        let address = server.local_addr().unwrap();
        let serving = doomed.spawn(async move {
            let connection = server.accept().await.unwrap().await.unwrap();
            std::future::pending::<()>().await;
            drop(connection);
        });
        let client = client(&authority);
        let connection = client.connect(address, pki::SERVER_NAME).unwrap().await.unwrap();
        doomed.shutdown_background();
        assert!(serving.await.is_err());

        let _restarted = bind(address, &authority, &identity).unwrap();
        let mut stream = connection.open_bi().await;
        if let Ok((stream, _)) = &mut stream {
            // What it says does not matter, it only has to arrive.
            let _ignored = stream.write_all(&[0; 64]).await;
        }
        let closed = tokio::time::timeout(Duration::from_secs(10), connection.closed()).await;
        assert_eq!(closed, Ok(quinn::ConnectionError::Reset));
    }
}
