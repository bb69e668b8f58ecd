//! Port-forward without SPDY: each port has two channels of a WebSocket, one for data and one for errors. The ports are
//! parameters of the request, and each channel begins with its port as two bytes, little endian
//! (kubelet, `portforward/websocket.go`).

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::SplitStream;
use futures_util::{SinkExt, StreamExt};
use hub_api::Status;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::task::TaskTracker;

use agent_sync::stream::{StreamKind, StreamRequest};

use super::connection::connection;
use super::portforward::Target;
use super::remote_websocket::accept;
use crate::limits::STREAM_QUEUE;

/// The protocol of these channels.
pub(crate) const PROTOCOL: &str = "v4.channel.k8s.io";
/// So many have numbers: two channels each, one byte a channel.
const MAX_PORTS: usize = 127;
/// Bytes of one message.
const CHUNK: usize = 32 << 10;

/// Reads the parameters `ports`, which may hold lists.
pub(crate) fn parse_ports<'a>(values: impl Iterator<Item = &'a str>) -> Result<Vec<u16>, Status> {
    let mut ports = Vec::new();
    for text in values.flat_map(|it| it.split(',')) {
        let port = text.parse().ok().filter(|it| *it != 0).ok_or_else(|| {
            Status::bad_request(format!("query parameter \"ports\": {text:?} is no port"))
        })?;
        ports.push(port);
    }
    if ports.is_empty() {
        return Err(Status::bad_request("query parameter \"port\" is required"));
    }
    if ports.len() > MAX_PORTS {
        return Err(Status::bad_request(format!("at most {MAX_PORTS} ports can be forwarded")));
    }
    Ok(ports)
}

/// Serves the connection until the client closes it or all ports have ended.
pub(crate) async fn serve<T>(io: T, target: Target, ports: Vec<u16>, tasks: &TaskTracker)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sink, stream) = accept(io).await.split();
    let (output, mut messages) = mpsc::channel(STREAM_QUEUE);
    let mut inputs = Vec::new();
    for (data, port) in (0_u8..).step_by(2).zip(ports) {
        for channel in [data, data + 1] {
            if sink.send(message(channel, &port.to_le_bytes())).await.is_err() {
                return;
            }
        }
        let (input, rest) = mpsc::channel(STREAM_QUEUE);
        inputs.push(input);
        tasks.spawn(forward(target.clone(), port, data, rest, output.clone()));
    }
    drop(output);
    let writing = async {
        while let Some(message) = messages.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let _ = sink.send(Message::Close(None)).await; // the client may be gone
    };
    tokio::select! {
        () = writing => {}
        // The ports see that their input ended.
        () = read(stream, inputs) => {}
    }
}

pub(super) async fn read<T>(
    mut stream: SplitStream<WebSocketStream<T>>,
    inputs: Vec<mpsc::Sender<Bytes>>,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = stream.next().await {
        let bytes: Bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        let Some(channel) = bytes.first().copied().filter(|it| it % 2 == 0) else { continue };
        if let Some(input) = inputs.get(usize::from(channel / 2)) {
            let _ = input.send(bytes.slice(1..)).await; // the port may have ended
        }
    }
}

async fn forward(
    target: Target,
    port: u16,
    data: u8,
    mut input: mpsc::Receiver<Bytes>,
    output: mpsc::Sender<Message>,
) {
    let request = StreamRequest { kind: StreamKind::PortForward { port }, ..target.request };
    let failure = match target.nodes.open(&target.node, request).await {
        Err(err) => Some(err.to_status().message),
        Ok(node) => {
            let (io, reason, carrying) = connection(node);
            let (mut from_pod, mut to_pod) = tokio::io::split(io);
            let inbound = async move {
                while let Some(bytes) = input.recv().await {
                    if to_pod.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
            };
            let output = output.clone();
            let outbound = async move {
                let mut buffer = vec![0; CHUNK];
                while let Ok(n @ 1..) = from_pod.read(&mut buffer).await {
                    if output.send(message(data, &buffer[..n])).await.is_err() {
                        return;
                    }
                }
            };
            // Whichever ends first closes the connection: both halves are dropped.
            let pumping = async move {
                tokio::select! {
                    () = inbound => {}
                    () = outbound => {}
                }
            };
            tokio::join!(pumping, carrying);
            reason.get().map(str::to_owned)
        }
    };
    if let Some(failure) = failure {
        let _ = output.send(message(data + 1, failure.as_bytes())).await; // the client may be gone
    }
}

fn message(channel: u8, data: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.put_u8(channel);
    message.put_slice(data);
    Message::Binary(message.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_alone_or_in_lists() {
        let parse = |values: &[&str]| parse_ports(values.iter().copied());
        assert_eq!(parse(&["80", "81,82"]).unwrap(), [80, 81, 82]);
        for refused in [&[][..], &["0"], &["80,"], &["65536"], &["http"]] {
            assert_eq!(parse(refused).unwrap_err().code, 400, "{refused:?}");
        }
    }
}
