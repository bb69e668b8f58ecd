//! Streams to nodes through the hub that they are connected to: TCP, mutual TLS.
//!
//! ```text
//! asking hub:    length u32 | {"node", "request"}      (big endian, JSON)
//! hub of node:   length u32 | {"refused"}              (null: the stream is open)
//! both:          the bytes of the stream, to the end of each direction
//! ```

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use agent_sync::stream::StreamRequest;
use anyhow::Context;
use futures_util::future::BoxFuture;
use hub_apiserver::{NodeStream, NodeStreams, OpenError, ServerCertificate, places::ACCEPT_PAUSE};
use rustls::{RootCertStore, client::WebPkiServerVerifier, server::WebPkiClientVerifier};
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use super::Peers;
use crate::{
    clock::CertificateTime,
    fleet::FleetStreams,
    pki::{self, Authority, PEER_NAME, SERVER_NAME},
};

const ALPN: &[u8] = b"outbye-peer/1";
/// Until another hub has opened a stream, or said why not.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest message before a stream begins: commands have a megabyte.
const MAX_MESSAGE: u32 = 2 << 20;
/// Streams of other hubs at once.
const MAX_STREAMS: usize = 4096;

#[derive(Debug, Deserialize, Serialize)]
struct Ask {
    node: String,
    request: StreamRequest,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct Answer {
    refused: Option<String>,
}

/// Streams to every node: of this hub, or through another.
pub(crate) struct Streams {
    pub(crate) own: FleetStreams,
    pub(crate) peers: Arc<Peers>,
}

impl NodeStreams for Streams {
    fn open(
        &self,
        node: &str,
        request: StreamRequest,
    ) -> BoxFuture<'_, Result<NodeStream, OpenError>> {
        let node = node.to_owned();
        Box::pin(async move {
            let own = self.own.open(&node, request.clone()).await;
            let Err(OpenError::NotConnected { .. }) = own else { return own };
            let Some((hub, address)) = self.peers.hub_of(&node) else { return own };
            let asked = self.peers.ask(address, Ask { node: node.clone(), request });
            let answer = match tokio::time::timeout(OPEN_TIMEOUT, asked).await {
                Ok(answer) => answer.map_err(|err| format!("is out of reach: {err}")),
                Err(_elapsed) => Err(format!("did not answer within {OPEN_TIMEOUT:?}")),
            };
            let refused = |reason| OpenError::Elsewhere { node, hub, reason };
            match answer {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(why)) => Err(refused(format!("refused: {why}"))),
                Err(why) => Err(refused(why)),
            }
        })
    }
}

impl Peers {
    /// Asks the hub at this address for a stream; what it refuses is the inner error.
    async fn ask(&self, address: SocketAddr, ask: Ask) -> io::Result<Result<NodeStream, String>> {
        let config = self.client_config().map_err(|err| io::Error::other(format!("{err:#}")))?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        let mut tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        send(&mut tls, &ask).await?;
        let answer: Answer = receive(&mut tls).await?;
        if let Some(why) = answer.refused {
            return Ok(Err(why));
        }
        let (recv, send) = tokio::io::split(tls);
        Ok(Ok(NodeStream { recv: Box::new(recv), send: Box::new(send) }))
    }

    fn client_config(&self) -> anyhow::Result<rustls::ClientConfig> {
        let roots = roots(&self.authority)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build()?;
        let time = Arc::new(CertificateTime(self.clock.clone()));
        let (chain, key) = self.authority.issue_peer(self.clock.now())?.to_der()?;
        let mut config = rustls::ClientConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_webpki_verifier(verifier)
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }
}

/// What the port for other hubs shows and believes.
pub(crate) struct PeerPort {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl PeerPort {
    /// # Errors
    /// The port cannot be opened, or the certificate cannot be used.
    pub(crate) async fn bind(
        address: SocketAddr,
        authority: &Authority,
        certificate: Arc<ServerCertificate>,
        time: CertificateTime,
    ) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots(authority)?, provider.clone())
                .build()?;
        let mut tls = rustls::ServerConfig::builder_with_details(provider, Arc::new(time))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(certificate);
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("could not open TCP {address} for other hubs"))?;
        Ok(Self { listener, acceptor: TlsAcceptor::from(Arc::new(tls)) })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn roots(authority: &Authority) -> anyhow::Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.cert_der().clone())?;
    Ok(Arc::new(roots))
}

/// Serves other hubs until `shutdown` fires.
pub(crate) async fn serve(port: PeerPort, fleet: FleetStreams, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_STREAMS));
    let mut streams = JoinSet::new();
    loop {
        // Each arm is cancel-safe: a connection is taken or still waits.
        tokio::select! {
            Some(_) = streams.join_next() => {}
            accepted = port.listener.accept() => {
                let stream = match accepted {
                    Ok((stream, _)) => stream,
                    Err(err) => {
                        tracing::warn!(error = %err, "Could not accept a connection of another hub");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                // Who finds no place is hung up on.
                let Ok(place) = places.clone().try_acquire_owned() else { continue };
                let (acceptor, fleet) = (port.acceptor.clone(), fleet.clone());
                streams.spawn(async move {
                    let _place = place;
                    if let Err(err) = relay(&acceptor, stream, &fleet).await {
                        tracing::debug!(error = %err, "A stream of another hub broke");
                    }
                });
            }
            () = shutdown.cancelled() => return,
        }
    }
}

async fn relay(acceptor: &TlsAcceptor, stream: TcpStream, fleet: &FleetStreams) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let opening = async {
        let mut tls = acceptor.accept(stream).await?;
        let shown = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
        if shown.and_then(pki::common_name).as_deref() != Some(PEER_NAME) {
            return Err(io::Error::other("who connects is not a hub"));
        }
        let ask: Ask = receive(&mut tls).await?;
        Ok((tls, ask))
    };
    let (mut tls, ask) = tokio::time::timeout(HANDSHAKE_TIMEOUT, opening).await??;
    match fleet.open(&ask.node, ask.request).await {
        Ok(node) => {
            send(&mut tls, &Answer::default()).await?;
            let mut node = tokio::io::join(node.recv, node.send);
            tokio::io::copy_bidirectional(&mut tls, &mut node).await.map(drop)
        }
        Err(err) => {
            send(&mut tls, &Answer { refused: Some(err.to_string()) }).await?;
            tls.shutdown().await
        }
    }
}

async fn send(
    stream: &mut (impl AsyncWriteExt + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let size = u32::try_from(bytes.len()).ok().filter(|it| *it <= MAX_MESSAGE);
    let size = size.ok_or_else(|| io::Error::other("the request is too large"))?;
    stream.write_u32(size).await?;
    stream.write_all(&bytes).await?;
    stream.flush().await
}

async fn receive<T: DeserializeOwned>(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<T> {
    let size = stream.read_u32().await?;
    if size > MAX_MESSAGE {
        return Err(io::Error::other("the message is too large"));
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    stream.read_exact(&mut bytes).await?;
    Ok(serde_json::from_slice(&bytes)?)
}
