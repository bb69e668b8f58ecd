//! SPDY sessions from the client's side: exec and port-forward to a node that says back what it
//! is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_sync::stream::{
    Channel, FrameDecoder as NodeDecoder, StreamKind, StreamRequest, encode_frame,
};
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio_util::task::TaskTracker;

use super::spdy::Headers;
use super::spdy::frame::{Frame, FrameDecoder, FrameEncoder};
use super::{NodeStream, NodeStreams, OpenError, portforward, remote_spdy};

const SUCCESS: &str = r#"{"metadata":{},"status":"Success"}"#;

/// Says back what comes, and succeeds at the end of input.
async fn echo(mut io: DuplexStream) {
    let (mut decoder, mut buffer) = (NodeDecoder::default(), vec![0; 4096]);
    loop {
        let mut out = Vec::new();
        while let Some((channel, payload)) = decoder.next().unwrap() {
            match channel {
                Channel::Stdin => encode_frame(Channel::Stdout, &payload, &mut out),
                Channel::Resize => encode_frame(Channel::Stderr, &payload, &mut out),
                Channel::CloseStdin | Channel::Stdout | Channel::Stderr | Channel::Error => {
                    encode_frame(Channel::Error, SUCCESS.as_bytes(), &mut out)
                }
            }
        }
        if io.write_all(&out).await.is_err() {
            return;
        }
        match io.read(&mut buffer).await {
            Ok(n @ 1..) => decoder.push(&buffer[..n]),
            _ => return,
        }
    }
}

fn echo_node(tasks: &TaskTracker) -> NodeStream {
    let (ours, theirs) = tokio::io::duplex(1024);
    tasks.spawn(echo(theirs));
    let (recv, send) = tokio::io::split(ours);
    NodeStream { recv: Box::new(recv), send: Box::new(send) }
}

/// The client's end of a SPDY connection.
struct Client {
    reader: Reader,
    writer: Writer,
}

struct Reader {
    io: ReadHalf<DuplexStream>,
    decoder: FrameDecoder,
}

struct Writer {
    io: WriteHalf<DuplexStream>,
    encoder: FrameEncoder,
}

impl Client {
    fn new(io: DuplexStream) -> Self {
        let (read, write) = tokio::io::split(io);
        Self {
            reader: Reader { io: read, decoder: FrameDecoder::new() },
            writer: Writer { io: write, encoder: FrameEncoder::new() },
        }
    }
}

impl Writer {
    async fn send(&mut self, frame: Frame) {
        let mut bytes = BytesMut::new();
        self.encoder.encode(&frame, &mut bytes).unwrap();
        self.io.write_all(&bytes).await.unwrap();
    }

    async fn open(&mut self, id: u32, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.send(Frame::SynStream { id, headers: Headers(headers), fin: false }).await;
    }

    async fn data(&mut self, id: u32, payload: Bytes, fin: bool) {
        self.send(Frame::Data { id, payload, fin }).await;
    }
}

impl Reader {
    /// The next frame; `None` once the server hangs up.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next().unwrap() {
                return Some(frame);
            }
            let buffer = self.decoder.buffer();
            buffer.reserve(4096);
            match self.io.read_buf(buffer).await {
                Ok(n) if n > 0 => {}
                _ => return None,
            }
        }
    }

    /// Reads until these streams have ended: what came on each.
    async fn finished(&mut self, ids: &[u32]) -> BTreeMap<u32, Vec<u8>> {
        let (mut got, mut open) = (BTreeMap::new(), ids.to_vec());
        while !open.is_empty() {
            if let Frame::Data { id, payload, fin } = self.next().await.expect("still connected") {
                got.entry(id).or_insert_with(Vec::new).extend_from_slice(&payload);
                open.retain(|it| !(fin && *it == id));
            }
        }
        got
    }
}

#[tokio::test]
async fn exec_carries_every_stream_and_ends_in_order() {
    let tasks = TaskTracker::new();
    let (io, theirs) = tokio::io::duplex(1024);
    let wanted = remote_spdy::Wanted { stdin: true, stdout: true, stderr: false, tty: true };
    let node = echo_node(&tasks);
    let serving = tasks.spawn({
        let tasks = tasks.clone();
        async move { remote_spdy::serve(theirs, node, wanted, &tasks).await }
    });
    let Client { mut reader, mut writer } = Client::new(io);
    for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")] {
        writer.open(id, &[("streamtype", kind)]).await;
        assert!(matches!(reader.next().await, Some(Frame::SynReply { id: it, .. }) if it == id));
    }
    writer.send(Frame::Ping { id: 1 }).await;
    assert_eq!(reader.next().await, Some(Frame::Ping { id: 1 }));
    // More than all buffers on the way hold together.
    let large = vec![b'x'; 256 << 10];
    let writing = async {
        writer.data(7, Bytes::from_static(b"{\"Width\":80,\"Height\":24}\n"), false).await;
        for piece in large.chunks(8192) {
            writer.data(3, Bytes::copy_from_slice(piece), false).await;
        }
        writer.data(3, Bytes::new(), true).await;
    };
    let (got, ()) = tokio::join!(reader.finished(&[1, 5]), writing);
    assert_eq!(got[&5], large);
    assert_eq!(got[&1], SUCCESS.as_bytes());
    assert_eq!(reader.next().await, Some(Frame::GoAway { last: 0 }));
    drop((reader, writer));
    serving.await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_stream_to_the_node() {
    let tasks = TaskTracker::new();
    let (io, theirs) = tokio::io::duplex(1024);
    let wanted = remote_spdy::Wanted { stdin: false, stdout: true, stderr: true, tty: false };
    let node = echo_node(&tasks);
    tasks.spawn({
        let tasks = tasks.clone();
        async move { remote_spdy::serve(theirs, node, wanted, &tasks).await }
    });
    let mut client = Client::new(io);
    for (id, kind) in [(1, "error"), (3, "stdout"), (5, "stderr")] {
        client.writer.open(id, &[("streamtype", kind)]).await;
    }
    drop(client);
    tasks.close();
    tasks.wait().await;
}

struct OneNode(TaskTracker);

impl NodeStreams for OneNode {
    fn open(
        &self,
        node: &str,
        request: StreamRequest,
    ) -> BoxFuture<'_, Result<NodeStream, OpenError>> {
        let node = node.to_owned();
        Box::pin(async move {
            if request.kind == (StreamKind::PortForward { port: 80 }) {
                return Ok(echo_node(&self.0));
            }
            Err(OpenError::NotConnected { node })
        })
    }
}

#[tokio::test]
async fn each_pair_of_streams_is_a_connection() {
    let tasks = TaskTracker::new();
    let (io, theirs) = tokio::io::duplex(1024);
    let target = portforward::Target {
        nodes: Arc::new(OneNode(tasks.clone())),
        node: "n1".to_owned(),
        request: StreamRequest {
            pod_namespace: "default".to_owned(),
            pod_name: "p".to_owned(),
            pod_uid: "u".to_owned(),
            container: String::new(),
            kind: StreamKind::PortForward { port: 0 },
        },
    };
    tasks.spawn({
        let tasks = tasks.clone();
        async move { portforward::serve(theirs, target, &tasks).await }
    });
    let mut client = Client::new(io);
    for (error, port, id) in [(1, "80", "0"), (5, "81", "1")] {
        client
            .writer
            .open(error, &[("streamtype", "error"), ("port", port), ("requestid", id)])
            .await;
        client
            .writer
            .open(error + 2, &[("streamtype", "data"), ("port", port), ("requestid", id)])
            .await;
    }
    client.writer.data(3, Bytes::from_static(b"GET /"), false).await;
    client.writer.data(3, Bytes::new(), true).await;
    let got = client.reader.finished(&[1, 3, 5, 7]).await;
    assert_eq!(got[&3], b"GET /");
    assert_eq!(got[&1], b"");
    assert_eq!(got[&5], b"error dialing backend: node \"n1\" is not connected");
    drop(client);
    tasks.close();
    tasks.wait().await;
}
