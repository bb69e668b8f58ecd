//! Port-forward: pairs of SPDY streams (`error` and `data`, joined by `requestid`), each pair one
//! TCP connection inside the pod. The SPDY bytes come raw, or as binary WebSocket messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_sync::stream::{Channel, StreamKind, StreamRequest, encode_frame};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::task::TaskTracker;

use super::bridge::{Frames, refusal};
use super::remote_websocket::accept;
use super::spdy::{Session, SpdyStream, StreamReader, StreamWriter};
use super::{NodeStream, NodeStreams, portforward_channels};

/// The protocol inside SPDY.
pub(crate) const SPDY_PROTOCOLS: &[&str] = &["portforward.k8s.io"];
/// SPDY inside WebSocket, or WebSocket alone.
pub(crate) const WEBSOCKET_PROTOCOLS: &[&str] =
    &["SPDY/3.1+portforward.k8s.io", portforward_channels::PROTOCOL];

/// Halves of pairs that wait for the other one.
const MAX_HALVES: usize = 64;
/// Bytes under way between WebSocket and SPDY.
const TUNNEL_BUFFER: usize = 64 << 10;

/// Where connections go: the pod's stream request lacks only its port.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) nodes: Arc<dyn NodeStreams>,
    pub(crate) node: String,
    pub(crate) request: StreamRequest,
}

#[derive(Default)]
struct Pair {
    error: Option<SpdyStream>,
    data: Option<SpdyStream>,
}

/// Serves a raw SPDY connection to its end.
pub(crate) async fn serve<T>(io: T, target: Target, tasks: &TaskTracker)
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut session = Session::start(io, tasks);
    let mut halves: BTreeMap<String, Pair> = BTreeMap::new();
    while let Some(stream) = session.accept().await {
        let id = stream.headers.first("requestid").unwrap_or_default().to_owned();
        let pair = halves.entry(id.clone()).or_default();
        match stream.headers.first("streamtype") {
            Some("error") => pair.error = Some(stream),
            Some("data") => pair.data = Some(stream),
            _ => continue,
        }
        if let Pair { error: Some(_), data: Some(_) } = pair
            && let Some(Pair { error: Some(error), data: Some(data) }) = halves.remove(&id)
        {
            let target = target.clone();
            tasks.spawn(async move { forward(target, error, data).await });
        }
        if halves.len() > MAX_HALVES {
            tracing::debug!("Client opened too many unpaired streams");
            break;
        }
    }
    session.close().await;
}

/// Serves SPDY inside WebSocket messages to its end.
pub(crate) async fn serve_tunnel<T>(io: T, target: Target, tasks: &TaskTracker)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sink, mut stream) = accept(io).await.split();
    let (ours, theirs) = tokio::io::duplex(TUNNEL_BUFFER);
    let (mut read, mut write) = tokio::io::split(ours);
    let inbound = async move {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(bytes) if write.write_all(&bytes).await.is_err() => break,
                Message::Close(_) => break,
                Message::Binary(_)
                | Message::Text(_)
                | Message::Ping(_)
                | Message::Pong(_)
                | Message::Frame(_) => {}
            }
        }
        let _ = write.shutdown().await; // the session may be over already
    };
    let outbound = async move {
        let mut buffer = vec![0; TUNNEL_BUFFER / 2];
        while let Ok(n @ 1..) = read.read(&mut buffer).await {
            let bytes = Bytes::copy_from_slice(&buffer[..n]);
            if sink.send(Message::Binary(bytes)).await.is_err() {
                return;
            }
        }
        let _ = sink.send(Message::Close(None)).await; // the client may be gone
    };
    tokio::join!(serve(theirs, target, tasks), inbound, outbound);
}

async fn forward(target: Target, error: SpdyStream, data: SpdyStream) {
    let port = data.headers.first("port").and_then(|it| it.parse::<u16>().ok());
    let outcome = match port {
        Some(port) => {
            let request =
                StreamRequest { kind: StreamKind::PortForward { port }, ..target.request };
            match target.nodes.open(&target.node, request).await {
                Ok(node) => carry(node, data.reader, &data.writer).await,
                Err(err) => Err(err.to_status().message),
            }
        }
        None => Err("the header port is missing or no port".to_owned()),
    };
    // The client may be gone: then nobody reads any of this.
    if let Err(message) = outcome {
        let _ = error.writer.write(message.into_bytes().into()).await;
    }
    let _ = error.writer.finish().await;
    let _ = data.writer.finish().await;
}

async fn carry(
    node: NodeStream,
    mut data: StreamReader,
    writer: &StreamWriter,
) -> Result<(), String> {
    let NodeStream { recv, mut send } = node;
    let mut frames = Frames::new(recv);
    let outbound = async {
        loop {
            let mut frame = Vec::new();
            let bytes = data.read().await;
            match &bytes {
                Some(bytes) => encode_frame(Channel::Stdin, bytes, &mut frame),
                None => encode_frame(Channel::CloseStdin, b"", &mut frame),
            }
            let sent = async {
                send.write_all(&frame).await?;
                send.flush().await
            };
            if sent.await.is_err() || bytes.is_none() {
                // What the pod still says is carried to its end.
                return std::future::pending().await;
            }
        }
    };
    let inbound = async {
        while let Some((channel, payload)) = frames.next().await {
            match channel {
                Channel::Stdout if writer.write(payload.clone()).await.is_err() => return Ok(()),
                Channel::Error => {
                    return refusal(&payload).map_or(Ok(()), |status| Err(status.message));
                }
                Channel::Stdout
                | Channel::Stdin
                | Channel::Stderr
                | Channel::Resize
                | Channel::CloseStdin => {}
            }
        }
        Err("the connection to the node was lost".to_owned())
    };
    tokio::select! {
        result = inbound => result,
        () = outbound => Ok(()),
    }
}
