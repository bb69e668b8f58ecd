//! Logs, exec and port-forward through a node that is a loop in this process.

use std::sync::{Arc, Mutex};

use agent_sync::stream::{Channel, FrameDecoder, StreamKind, StreamRequest, encode_frame};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use hub_apiserver::{NodeStream, NodeStreams, OpenError};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::harness::World;

/// Says back on stdout what comes on stdin, sizes on stderr, and exits with 7 at the end of input.
#[derive(Default)]
struct Echo {
    tasks: Mutex<JoinSet<()>>,
    asked: Mutex<Vec<StreamRequest>>,
}

const EXIT: &str = r#"{"metadata":{},"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#;

async fn echo(kind: StreamKind, mut io: DuplexStream) {
    let mut decoder = FrameDecoder::default();
    let mut out = Vec::new();
    if let StreamKind::Logs { .. } = kind {
        encode_frame(Channel::Stdout, b"line 1\n", &mut out);
        encode_frame(Channel::Stdout, b"line 2\n", &mut out);
        encode_frame(Channel::Error, br#"{"status":"Success"}"#, &mut out);
        io.write_all(&out).await.unwrap();
        return;
    }
    let mut buffer = vec![0; 1024];
    loop {
        while let Some((channel, payload)) = decoder.next().unwrap() {
            match channel {
                Channel::Stdin => encode_frame(Channel::Stdout, &payload, &mut out),
                Channel::Resize => encode_frame(Channel::Stderr, &payload, &mut out),
                _ => encode_frame(Channel::Error, EXIT.as_bytes(), &mut out),
            }
        }
        if io.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
        match io.read(&mut buffer).await {
            Ok(n @ 1..) => decoder.push(&buffer[..n]),
            _ => return,
        }
    }
}

impl NodeStreams for Echo {
    fn open(
        &self,
        node: &str,
        request: StreamRequest,
    ) -> BoxFuture<'_, Result<NodeStream, OpenError>> {
        let node = node.to_owned();
        Box::pin(async move {
            if node != "n1" {
                return Err(OpenError::NotConnected { node });
            }
            self.asked.lock().unwrap().push(request.clone());
            let (ours, theirs) = tokio::io::duplex(4096);
            self.tasks.lock().unwrap().spawn(echo(request.kind, theirs));
            let (recv, send) = tokio::io::split(ours);
            Ok(NodeStream { recv: Box::new(recv), send: Box::new(send) })
        })
    }
}

async fn world(node: &str) -> (World, Arc<Echo>) {
    let echo = Arc::new(Echo::default());
    let mut world = World::with_nodes(echo.clone()).await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}});
    assert_eq!(world.post(pods, &pod).await.code, 201);
    let binding = json!({"metadata":{"name":"p"},"target":{"kind":"Node","name":node}});
    assert_eq!(world.post(&format!("{pods}/p/binding"), &binding).await.code, 201);
    (world, echo)
}

const EXEC: &str =
    "/api/v1/namespaces/default/pods/p/exec?command=cat&stdin=true&stdout=true&stderr=true";

#[tokio::test]
async fn logs_are_text() {
    let (mut world, echo) = world("n1").await;
    let log = world.get("/api/v1/namespaces/default/pods/p/log?tailLines=5&follow=true").await;
    assert_eq!((log.code, &*log.body), (200, &b"line 1\nline 2\n"[..]));
    assert_eq!(log.headers["content-type"], "text/plain");
    let asked = echo.asked.lock().unwrap().pop().unwrap();
    let StreamKind::Logs { tail_lines, follow, .. } = asked.kind else { panic!() };
    assert_eq!((asked.container.as_str(), tail_lines, follow), ("c", Some(5), true));
    let bad = world.get("/api/v1/namespaces/default/pods/p/log?tailLines=-1").await;
    assert_eq!(bad.code, 422);
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_opened_is_an_ordinary_refusal() {
    let (mut world, _) = world("n2").await;
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "v5.channel.k8s.io"),
    ];
    let refused = world.send("GET", EXEC, &headers, "").await;
    assert_eq!(refused.code, 503);
    assert_eq!(refused.json()["message"], "error dialing backend: node \"n2\" is not connected");
    assert_eq!(world.send("POST", EXEC, &[], "").await.code, 400);
    world.stop().await;
}

#[tokio::test]
async fn exec_over_websocket_tells_the_exit_code() {
    let (mut world, _) = world("n1").await;
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "v4.channel.k8s.io, v5.channel.k8s.io"),
    ];
    let answer = world.open("GET", EXEC, &headers, "").await;
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let io = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    for message in [&b"\x00hello"[..], b"\x04{\"Width\":80,\"Height\":24}", b"\xff\x00"] {
        socket.send(Message::Binary(Bytes::copy_from_slice(message))).await.unwrap();
    }
    let mut got = Vec::new();
    let mut closed = None;
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Binary(bytes) if bytes.len() > 1 => got.push(bytes),
            Message::Close(frame) => closed = frame.map(|it| u16::from(it.code)),
            _ => {}
        }
    }
    let exit = [b"\x03", EXIT.as_bytes()].concat();
    assert_eq!(got, [&b"\x01hello"[..], b"\x02{\"Width\":80,\"Height\":24}", &exit]);
    assert_eq!(closed, Some(1000));
    world.stop().await;
}

#[tokio::test]
async fn streams_end_with_the_server() {
    let (mut world, _) = world("n1").await;
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "v5.channel.k8s.io"),
    ];
    let answer = world.open("GET", EXEC, &headers, "").await;
    let mut io = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    world.shutdown.cancel();
    let mut rest = Vec::new();
    // How it is cut does not matter, but that it is.
    let _ = io.read_to_end(&mut rest).await;
    world.stop().await;
}

#[tokio::test]
async fn a_spdy_request_is_answered_with_its_protocol() {
    let (mut world, _) = world("n1").await;
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "SPDY/3.1"),
        ("x-stream-protocol-version", "v4.channel.k8s.io"),
    ];
    let answer = world.open("POST", EXEC, &headers, "").await;
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
    let old = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
    let refused = world.open("POST", EXEC, &old, "").await;
    assert_eq!(refused.status(), 400);
    assert!(refused.into_body().collect().await.is_ok());
    world.stop().await;
}
