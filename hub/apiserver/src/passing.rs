//! Passing requests on to servers in pods and elsewhere. Pods are reached through the sessions of
//! their nodes: the hub itself has no way into the pod network.

mod patience;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use agent_sync::stream::{StreamKind, StreamRequest};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hub_api::Status;
use hyper::body::{Body, Frame, Incoming};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::distrust;
use crate::limits::{PASSING_CONNECT_TIMEOUT, STREAM_OPEN_TIMEOUT};
use crate::response::{Answer, Body as AnswerBody};
use crate::streaming::connection::{Reason, connection};
use crate::streaming::{NodeStreams, OpenError};

/// Places that are tried for one request.
const MAX_PLACES: usize = 3;

/// Headers of one connection: they say nothing about the next.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    http::header::PROXY_AUTHENTICATE,
    http::header::PROXY_AUTHORIZATION,
    http::header::TE,
    http::header::TRAILER,
    http::header::TRANSFER_ENCODING,
    UPGRADE,
];

/// The ways out, and where what runs on them is waited for.
#[derive(Clone)]
pub(crate) struct Passage {
    pub(crate) nodes: Arc<dyn NodeStreams>,
    /// Streams that outlive their request's answer.
    pub(crate) tasks: TaskTracker,
    /// Fires when streams are to end.
    pub(crate) stopping: CancellationToken,
}

/// Where a server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// In a pod on a node; the request is for a connection to its address.
    Pod { node: String, request: StreamRequest },
    /// At an address that the hub itself reaches.
    Address(SocketAddr),
    /// At a name that the hub's resolver knows.
    Name { host: String, port: u16 },
}

/// As what messages name it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { request, .. } => {
                write!(f, "pod {}/{}", request.pod_namespace, request.pod_name)?;
                if let StreamKind::Connect { port } = request.kind {
                    write!(f, ":{port}")?;
                }
                Ok(())
            }
            Self::Address(address) => write!(f, "tcp {address}"),
            Self::Name { host, port } => write!(f, "tcp {host}:{port}"),
        }
    }
}

/// Why a server was not reached, in Go's words.
#[derive(Debug)]
pub(crate) enum ReachError {
    /// Nobody says where it is.
    Nowhere,
    /// There is no connection.
    Dial { place: String, err: io::Error },
    /// Its node is not there.
    Node(OpenError),
    /// Its node ended the connection, and said why.
    Ended(String),
    /// It speaks no TLS, or is not believed.
    Tls(String),
}

impl ReachError {
    fn late(place: &Place) -> Self {
        let err = io::Error::new(io::ErrorKind::TimedOut, "i/o timeout");
        Self::Dial { place: place.to_string(), err }
    }

    /// What a client is told whose request was to be passed on.
    pub(crate) fn to_status(&self) -> Status {
        match self {
            Self::Node(err) => err.to_status(),
            Self::Nowhere | Self::Dial { .. } | Self::Ended(_) | Self::Tls(_) => {
                unreachable(&self.to_string())
            }
        }
    }
}

impl fmt::Display for ReachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str("no endpoints available"),
            Self::Dial { place, err } if err.kind() == io::ErrorKind::ConnectionRefused => {
                write!(f, "dial {place}: connect: connection refused")
            }
            Self::Dial { place, err } => write!(f, "dial {place}: {err}"),
            Self::Node(err) => write!(f, "{err}"),
            Self::Ended(why) => f.write_str(why),
            Self::Tls(why) => write!(f, "tls: {why}"),
        }
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Bytes to and from a server.
pub(crate) struct Bytestream(Box<dyn Io>);

impl AsyncRead for Bytestream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Bytestream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A connection to a server.
pub(crate) struct Reached {
    io: Bytestream,
    reason: Reason,
}

impl Passage {
    /// Connects to the first of some places that serve the same, and speaks TLS there. Only a few
    /// are tried, each for no longer than `patience`. The certificate must have this name.
    ///
    /// # Errors
    /// None of them can be reached or believed: why the last one was not.
    pub(crate) async fn reach<'a>(
        &self,
        places: &'a [Place],
        tls: &Arc<ClientConfig>,
        name: &str,
        patience: Duration,
    ) -> Result<(&'a Place, Reached), ReachError> {
        let mut failed = ReachError::Nowhere;
        for place in places.iter().take(MAX_PLACES) {
            let trying = async { self.open(place).await?.secured(tls.clone(), name).await };
            match tokio::time::timeout(patience, trying).await {
                Ok(Ok(reached)) => return Ok((place, reached)),
                Ok(Err(err)) => failed = err,
                Err(_) => failed = ReachError::late(place),
            }
        }
        Err(failed)
    }

    /// Connects.
    ///
    /// # Errors
    /// The node is not there, or nobody listens at the address.
    pub(crate) async fn open(&self, place: &Place) -> Result<Reached, ReachError> {
        let connected = match place {
            Place::Pod { node, request } => {
                return match self.open_pod(node, request.clone()).await {
                    Some(opened) => opened.map_err(ReachError::Node),
                    None => Err(ReachError::late(place)),
                };
            }
            Place::Address(address) => {
                tokio::time::timeout(PASSING_CONNECT_TIMEOUT, TcpStream::connect(address)).await
            }
            Place::Name { host, port } => {
                let connecting = TcpStream::connect((host.as_str(), *port));
                tokio::time::timeout(PASSING_CONNECT_TIMEOUT, connecting).await
            }
        };
        match connected {
            Ok(Ok(stream)) => {
                // Small requests must not wait for more.
                let _ = stream.set_nodelay(true);
                Ok(Reached { io: Bytestream(Box::new(stream)), reason: Reason::default() })
            }
            Ok(Err(err)) => Err(ReachError::Dial { place: place.to_string(), err }),
            Err(_) => Err(ReachError::late(place)),
        }
    }

    /// `None` if the node takes too long.
    async fn open_pod(
        &self,
        node: &str,
        request: StreamRequest,
    ) -> Option<Result<Reached, OpenError>> {
        let opening = self.nodes.open(node, request);
        let stream = match tokio::time::timeout(STREAM_OPEN_TIMEOUT, opening).await.ok()? {
            Ok(stream) => stream,
            Err(err) => return Some(Err(err)),
        };
        let (io, reason, carrying) = connection(stream);
        let stopping = self.stopping.clone();
        self.tasks.spawn(async move {
            let _ = stopping.run_until_cancelled(carrying).await;
        });
        Some(Ok(Reached { io: Bytestream(Box::new(io)), reason }))
    }

    /// Sends one request and answers with what comes back, as long as it comes. `client` is set
    /// where the request asks for another protocol: then both ends are joined. `patience` is how long
    /// the answer may take once the request is sent; without it, as long as the client waits. `keep`
    /// is dropped with the last byte.
    ///
    /// # Errors
    /// The connection broke before there was an answer, or that took too long.
    pub(crate) async fn exchange<B>(
        &self,
        reached: Reached,
        request: Request<B>,
        client: Option<OnUpgrade>,
        patience: Option<Duration>,
        keep: impl Send + 'static,
    ) -> Result<Answer, Status>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let request = request.map(|body| body.map_err(io::Error::other).boxed_unsync());
        self.exchange_boxed(reached, request, client, patience, keep).await
    }

    async fn exchange_boxed(
        &self,
        reached: Reached,
        request: Request<UnsyncBoxBody<Bytes, io::Error>>,
        client: Option<OnUpgrade>,
        patience: Option<Duration>,
        keep: impl Send + 'static,
    ) -> Result<Answer, Status> {
        let Reached { io, reason } = reached;
        let failed = |err: hyper::Error| match said(&reason) {
            Some(why) => unreachable(why),
            None => unreachable(&err.to_string()),
        };
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(io));
        let (mut sender, driving) = handshake.await.map_err(failed)?;
        let (stopping, cut) = (self.stopping.clone(), CancellationToken::new());
        let cutting = cut.clone();
        self.tasks.spawn(async move {
            let mut driving = pin!(driving.with_upgrades());
            tokio::select! {
                // The body ends with the driver, as if it were whole: it is told first.
                () = stopping.cancelled() => cutting.cancel(),
                // Whoever sends the request hears of errors.
                _ = &mut driving => {}
            }
        });
        let moved = Arc::new(Notify::new());
        let request = request.map(|body| patience::Told::new(body, moved.clone()));
        let answering = patience::wait(patience, &moved, sender.send_request(request));
        let late = || unreachable("it did not answer in time");
        let mut answer = answering.await.ok_or_else(late)?.map_err(failed)?;
        let is_refused = client.is_some();
        if let Some(client) = client
            && answer.status() == StatusCode::SWITCHING_PROTOCOLS
        {
            self.join(client, hyper::upgrade::on(&mut answer), keep);
            let (head, _) = answer.into_parts();
            return Ok(Response::from_parts(head, AnswerBody::default()));
        }
        let (mut head, body) = answer.into_parts();
        remove_hop_by_hop(&mut head.headers);
        if is_refused {
            // What was sent behind the request is no request.
            head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(unreachable("it switched to a protocol that nobody asked for"));
        }
        // The sender keeps the connection: it goes with the body.
        let mut answer = Response::new(passed_body(body, cut, (sender, keep)));
        *answer.status_mut() = head.status;
        *answer.headers_mut() = head.headers;
        Ok(answer)
    }

    /// Carries bytes between two connections that speak something else from here on.
    fn join(&self, client: OnUpgrade, server: OnUpgrade, keep: impl Send + 'static) {
        let stopping = self.stopping.clone();
        self.tasks.spawn(async move {
            let carrying = async {
                let (client, server) = match futures_util::future::try_join(client, server).await {
                    Ok(both) => both,
                    Err(err) => return tracing::debug!(error = %err, "Upgrade failed"),
                };
                let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                // How it ends is the business of both ends.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            };
            let _ = stopping.run_until_cancelled(carrying).await;
            drop(keep);
        });
    }
}

impl Reached {
    /// Speaks TLS with the server, whose certificate must have this name.
    ///
    /// # Errors
    /// It does not speak TLS, or is not believed.
    pub(crate) async fn secured(
        self,
        config: Arc<ClientConfig>,
        name: &str,
    ) -> Result<Self, ReachError> {
        let Self { io, reason } = self;
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| ReachError::Tls(format!("{name:?} is no name of a server")))?;
        let connecting = TlsConnector::from(config).connect(server, io);
        match tokio::time::timeout(PASSING_CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(tls)) => Ok(Self { io: Bytestream(Box::new(tls)), reason }),
            Ok(Err(err)) => Err(match said(&reason) {
                Some(why) => ReachError::Ended(why.to_owned()),
                None => ReachError::Tls(distrust(&err, name)),
            }),
            Err(_) => Err(ReachError::Tls("handshake timeout".to_owned())),
        }
    }

    /// The bytes, for whoever speaks HTTP on them by itself.
    pub(crate) fn into_io(self) -> Bytestream {
        self.io
    }
}

/// What the node said when it ended the connection.
fn said(reason: &Reason) -> Option<&str> {
    let said = reason.get()?;
    Some(said.strip_prefix("Internal error occurred: ").unwrap_or(said))
}

/// The body of an answer, as it comes; `held` goes with it. Where it breaks off, that is an error, and
/// so is its end once it was cut.
fn passed_body(body: Incoming, cut: CancellationToken, held: impl Send + 'static) -> AnswerBody {
    let frames = stream::unfold((body, cut, held), |(mut body, cut, held)| async move {
        let frame = match body.frame().await {
            Some(Ok(frame)) => Ok(Frame::data(frame.into_data().unwrap_or_default())),
            Some(Err(err)) => Err(io::Error::other(err)),
            None if cut.is_cancelled() => Err(io::ErrorKind::ConnectionAborted.into()),
            None => return None,
        };
        Some((frame, (body, cut, held)))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// Whether the client wants another protocol.
pub(crate) fn wants_upgrade(headers: &HeaderMap) -> bool {
    let words = headers.get_all(CONNECTION).iter().filter_map(|it| it.to_str().ok());
    let mut words = words.flat_map(|it| it.split(','));
    headers.contains_key(UPGRADE) && words.any(|it| it.trim().eq_ignore_ascii_case("upgrade"))
}

/// Makes a request that has come one that goes on, to this path of this host. Another protocol that
/// the client wants is still asked for.
///
/// # Errors
/// Path or host cannot be written.
pub(crate) fn passed_on<B>(
    request: Request<B>,
    path_and_query: &str,
    host: &str,
) -> Result<Request<B>, Status> {
    let (mut head, body) = request.into_parts();
    let wrong = |what: &str| Status::bad_request(format!("could not pass on the {what}"));
    if matches!(head.method, http::Method::CONNECT) {
        return Err(wrong("method"));
    }
    let upgrade = head.headers.get(UPGRADE).cloned().filter(|_| wants_upgrade(&head.headers));
    head.uri = path_and_query.parse().map_err(|_| wrong("path"))?;
    head.version = http::Version::HTTP_11;
    remove_hop_by_hop(&mut head.headers);
    head.headers.insert(HOST, HeaderValue::from_str(host).map_err(|_| wrong("host"))?);
    match upgrade {
        Some(protocol) => {
            head.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            head.headers.insert(UPGRADE, protocol);
        }
        None => {
            head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
    Ok(Request::from_parts(head, body))
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .filter_map(|it| it.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.into_iter().chain(named) {
        headers.remove(name);
    }
}

/// What a client is told of a server that cannot be reached.
pub(crate) fn unreachable(why: &str) -> Status {
    Status::service_unavailable(format!("error trying to reach service: {why}"))
}
