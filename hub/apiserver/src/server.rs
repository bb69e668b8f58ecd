//! The server: accepts connections, serves requests on them, and drains them at the end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::Audit;
use crate::auth::{Authentication, Authorizer, User, user_of_certificate};
use crate::handler::{Parts, Shared, handle};
use crate::limits::{
    DRAIN_TIMEOUT, H2_CONNECTION_WINDOW, H2_MAX_STREAMS, H2_PING_INTERVAL, H2_PING_TIMEOUT,
    H2_SEND_BUFFER, H2_STREAM_WINDOW, HANDSHAKE_TIMEOUT, HEADER_READ_TIMEOUT, MAX_HEAD,
    PARTING_TIMEOUT,
};
use crate::places::{ACCEPT_PAUSE, Overdue, Seat, Seats};
use crate::registry::Registry;
use crate::request::body::RequestBody;
use crate::streaming::NodeStreams;
use crate::tls::{ServerCertificate, TlsConfig, TlsError, server_config};

/// What the server must be told.
pub struct ServerConfig {
    /// Certificates.
    pub tls: TlsConfig,
    /// How bearer tokens name users.
    pub authentication: Authentication,
    /// Where it is told who did what.
    pub audit: Option<Arc<Audit>>,
    /// Decides what users may do.
    pub authorizer: Arc<dyn Authorizer>,
    /// The way to containers.
    pub nodes: Arc<dyn NodeStreams>,
    /// What `/version` says.
    pub version: VersionInfo,
    /// `host:port` under which clients reach this server.
    pub address: String,
    /// Who the server is to those that serve aggregated APIs: a client's certificate of an authority
    /// that they believe.
    pub front_proxy: Option<Arc<ServerCertificate>>,
    /// At shutdown the server is not ready at once, and serves for so long more: balancers look elsewhere meanwhile.
    pub shutdown_delay: Duration,
}

impl std::fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfig").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What `/version` says.
#[derive(Clone, Debug)]
pub struct VersionInfo {
    /// Major version of the Kubernetes API.
    pub major: String,
    /// Minor version of the Kubernetes API.
    pub minor: String,
    /// Version of the API, with the program's own behind a `+`.
    pub git_version: String,
    /// Commit of the program.
    pub git_commit: String,
    /// When it was built.
    pub build_date: String,
}

/// An API server that is ready to serve.
pub struct ApiServer {
    shared: Arc<Shared>,
    acceptor: TlsAcceptor,
    shutdown_delay: Duration,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").finish_non_exhaustive()
    }
}

/// What is known of a connection's other end.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Whom the client certificate names, if one was shown.
    pub(crate) user: Option<Arc<User>>,
    /// That certificate, DER.
    pub(crate) certificate: Arc<[u8]>,
    /// The connection's place.
    pub(crate) seat: Arc<Seat>,
}

impl ApiServer {
    /// Sets up a server.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub fn new(registry: Registry, config: ServerConfig) -> Result<Self, TlsError> {
        let ServerConfig {
            tls,
            authentication,
            audit,
            authorizer,
            nodes,
            version,
            address,
            front_proxy,
            shutdown_delay,
        } = config;
        let acceptor = TlsAcceptor::from(server_config(tls, registry.clone())?);
        registry.call_through(&nodes);
        let parts =
            Parts { authentication, audit, authorizer, nodes, version, address, front_proxy };
        let shared = Shared::new(registry, parts);
        Ok(Self { shared: Arc::new(shared), acceptor, shutdown_delay })
    }

    /// Serves until `shutdown` fires. Then, each for a bounded time: says that it is not ready and goes on serving; takes
    /// no connection any more, ends watches and lets requests finish; lets streams finish.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let connections = TaskTracker::new();
        let seats = Seats::default();
        let (draining, hang_up) = (CancellationToken::new(), CancellationToken::new());
        let accepting = async {
            loop {
                let (stream, address) = match listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(err) => {
                        tracing::warn!(error = %err, "Could not accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                // Who finds no place is hung up on.
                let Ok(seat) = seats.guest(address.ip()) else { continue };
                let connection = Connection {
                    shared: self.shared.clone(),
                    acceptor: self.acceptor.clone(),
                    tasks: connections.clone(),
                    draining: draining.clone(),
                };
                let hang_up = hang_up.clone();
                connections.spawn(async move {
                    // A connection that is hung up on has nothing left to say.
                    let serving = connection.serve(stream, address, seat);
                    let _ = hang_up.run_until_cancelled(serving).await;
                });
            }
        };
        self.shared.flows.load(&self.shared.registry);
        let passage = self.shared.passage();
        let stopping = async {
            shutdown.cancelled().await;
            self.shared.not_ready();
            tokio::time::sleep(self.shutdown_delay).await;
        };
        tokio::select! {
            () = stopping => {}
            () = accepting => {}
            () = self.shared.flows.follow(&self.shared.registry) => {}
            () = self.shared.registry.follow_quotas() => {}
            () = self.shared.aggregation.follow_servers(&self.shared.registry, &passage) => {}
            () = self.shared.aggregation.follow_documents(&self.shared.registry, &passage) => {}
        }
        drop(listener);
        self.shared.stop();
        draining.cancel();
        connections.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
            tracing::info!(left = connections.len(), "Hanging up on connections that did not end");
            hang_up.cancel();
            connections.wait().await;
        }
        self.shared.finish().await;
    }
}

struct Connection {
    shared: Arc<Shared>,
    acceptor: TlsAcceptor,
    tasks: TaskTracker,
    draining: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: TcpStream, address: SocketAddr, seat: Arc<Seat>) {
        // Only a hint: without it small answers wait for the peer's acknowledgement.
        let _ = stream.set_nodelay(true);
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(stream));
        let tls = match handshake.await {
            Ok(Ok(tls)) => tls,
            Ok(Err(err)) => {
                tracing::debug!(%address, error = %err, "TLS handshake failed");
                return;
            }
            Err(_) => {
                tracing::debug!(%address, "TLS handshake took too long");
                return;
            }
        };
        let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let user = match certificate.map(|it| user_of_certificate(it)).transpose() {
            Ok(user) => user.map(Arc::new),
            Err(err) => {
                tracing::debug!(%address, error = %err, "Client certificate names nobody");
                return;
            }
        };
        if user.as_ref().is_some_and(|user| !seat.authenticated(user)) {
            tracing::warn!(%address, "Refused a client: there are too many");
            return;
        }
        let certificate = certificate.map(|it| Arc::from(&**it)).unwrap_or_default();
        let peer = Peer { address, user, certificate, seat: seat.clone() };
        let shared = self.shared.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let (shared, peer) = (shared.clone(), peer.clone());
            peer.seat.asked();
            let request = request.map(RequestBody::new);
            async move { Ok::<_, Infallible>(handle(shared, peer, request).await) }
        });
        let builder = self.builder();
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(tls), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            overdue = seat.overdue() => {
                tracing::debug!(%address, ?overdue, "Ending a connection");
                if overdue == Overdue::Silent {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                let Ok(ended) = tokio::time::timeout(PARTING_TIMEOUT, connection).await else {
                    return;
                };
                ended
            }
            () = self.draining.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(err) = ended {
            tracing::debug!(%address, error = %err, "Connection ended early");
        }
    }

    fn builder(&self) -> Builder<TrackedExecutor> {
        let mut builder = Builder::new(TrackedExecutor(self.tasks.clone()));
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .max_concurrent_streams(H2_MAX_STREAMS)
            .max_send_buf_size(H2_SEND_BUFFER)
            .max_header_list_size(MAX_HEAD)
            .keep_alive_interval(H2_PING_INTERVAL)
            .keep_alive_timeout(H2_PING_TIMEOUT);
        builder
    }
}

/// Runs the tasks of HTTP/2 connections where shutdown waits for them.
#[derive(Clone)]
struct TrackedExecutor(TaskTracker);

impl<F> hyper::rt::Executor<F> for TrackedExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
