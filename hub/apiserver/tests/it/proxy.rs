//! Requests that are passed on into pods, through a node that answers HTTP by itself.

use std::sync::{Arc, Mutex};

use agent_sync::stream::{Channel, FrameDecoder, StreamKind, StreamRequest, encode_frame};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hub_apiserver::{NodeStream, NodeStreams, OpenError};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;

use crate::harness::World;

/// Answers every request on port 8080 with its own head; nothing listens elsewhere.
#[derive(Default)]
struct Mirror {
    tasks: Mutex<JoinSet<()>>,
}

/// What is answered on paths of answers that break off, and on one that ends with its connection.
fn breaking(asked: &str) -> Option<Vec<u8>> {
    let path = asked.split(' ').nth(1)?;
    let rest = match path {
        "/close/lost" | "/close/ended" => "connection: close\r\n\r\nhalf",
        "/chunked/lost" | "/chunked/open" => "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        _ => return None,
    };
    let mut out = Vec::new();
    encode_frame(Channel::Stdout, format!("HTTP/1.1 200 OK\r\n{rest}").as_bytes(), &mut out);
    if path.ends_with("/ended") {
        encode_frame(Channel::Error, br#"{"status":"Success"}"#, &mut out);
    }
    Some(out)
}

async fn mirror(kind: StreamKind, mut io: DuplexStream) {
    let mut out = Vec::new();
    if !matches!(kind, StreamKind::Connect { port: 8080 }) {
        let refused = br#"{"status":"Failure","message":"connection refused","code":500}"#;
        encode_frame(Channel::Error, refused, &mut out);
        let _ = io.write_all(&out).await;
        return;
    }
    let mut decoder = FrameDecoder::default();
    let mut asked = Vec::new();
    let mut buffer = vec![0; 1024];
    while !asked.ends_with(b"\r\n\r\n") {
        let Ok(n @ 1..) = io.read(&mut buffer).await else { return };
        decoder.push(&buffer[..n]);
        while let Some((_, payload)) = decoder.next().unwrap() {
            asked.extend_from_slice(&payload);
        }
    }
    let text = String::from_utf8_lossy(&asked).to_lowercase();
    if let Some(out) = breaking(&text) {
        let _ = io.write_all(&out).await;
        if text.contains("/open") {
            while let Ok(1..) = io.read(&mut buffer).await {}
        }
        return;
    }
    if text.contains("upgrade: echo\r\n") {
        let head = b"HTTP/1.1 101 Go on\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        encode_frame(Channel::Stdout, head, &mut out);
        let _ = io.write_all(&out).await;
        while let Ok(n @ 1..) = io.read(&mut buffer).await {
            decoder.push(&buffer[..n]);
            while let Some((_, payload)) = decoder.next().unwrap() {
                let mut out = Vec::new();
                encode_frame(Channel::Stdout, &payload, &mut out);
                let _ = io.write_all(&out).await;
            }
        }
        return;
    }
    let head = format!(
        "HTTP/1.1 418 Teapot\r\nx-own: yes\r\nkeep-alive: timeout=5\r\ncontent-length: {}\r\n\r\n",
        asked.len()
    );
    encode_frame(Channel::Stdout, head.as_bytes(), &mut out);
    encode_frame(Channel::Stdout, &asked, &mut out);
    let _ = io.write_all(&out).await;
    // The connection stays open: the length says where the answer ends.
    while let Ok(1..) = io.read(&mut buffer).await {}
}

impl NodeStreams for Mirror {
    fn open(
        &self,
        _node: &str,
        request: StreamRequest,
    ) -> BoxFuture<'_, Result<NodeStream, OpenError>> {
        let (ours, theirs) = tokio::io::duplex(4096);
        self.tasks.lock().unwrap().spawn(mirror(request.kind, theirs));
        let (recv, send) = tokio::io::split(ours);
        Box::pin(async { Ok(NodeStream { recv: Box::new(recv), send: Box::new(send) }) })
    }
}

/// A world with a pod `p` that has a port, and its proxy's path.
async fn world_with_pod() -> (World, String) {
    let mut world = World::with_nodes(Arc::new(Mirror::default())).await;
    let pods = "/api/v1/namespaces/default/pods";
    let ports = json!([{"containerPort": 8080}]);
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i", "ports": ports}]},
    });
    assert_eq!(world.post(pods, &pod).await.code, 201);
    (world, format!("{pods}/p/proxy"))
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_a_whole_one() {
    let (mut world, proxy) = world_with_pod().await;
    for (path, is_whole) in
        [("/close/ended", true), ("/close/lost", false), ("/chunked/lost", false)]
    {
        let answer = world.open("GET", &format!("{proxy}{path}"), &[], "").await;
        assert_eq!(answer.status(), 200, "{path}");
        let body = answer.into_body().collect().await;
        assert_eq!(body.is_ok(), is_whole, "{path}");
    }
    // Neither is one that the hub itself ends.
    let answer = world.open("GET", &format!("{proxy}/chunked/open"), &[], "").await;
    let mut body = answer.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    world.shutdown.cancel();
    assert!(body.collect().await.is_err());
    world.stop().await;
}

#[tokio::test]
async fn requests_reach_pods_and_what_is_behind_services() {
    let (mut world, _) = world_with_pod().await;
    let place = "/api/v1/namespaces/default";
    let service = json!({
        "metadata": {"name": "s"}, "spec": {"ports": [{"name": "http", "port": 80}]},
    });
    assert_eq!(world.post(&format!("{place}/services"), &service).await.code, 201);
    let none = world.get(&format!("{place}/services/s:http/proxy/")).await;
    assert_eq!(none.code, 503);
    assert_eq!(none.json()["message"], "no endpoints available for service \"s\"");
    let endpoints = json!({"metadata": {"name": "s"}, "subsets": [{
        "addresses": [{"ip": "10.1.0.2", "targetRef": {"kind": "Pod", "name": "p"}}],
        "ports": [{"name": "http", "port": 8080}],
    }]});
    assert_eq!(world.post(&format!("{place}/endpoints"), &endpoints).await.code, 201);

    for name in ["pods/p", "pods/p:8080", "services/s:http", "services/http:s:80"] {
        let path = format!("{place}/{name}/proxy/a/b?c=d");
        let reply = world.send("GET", &path, &[("x-mine", "1")], "").await;
        let seen = String::from_utf8(reply.body.to_vec()).unwrap().to_lowercase();
        assert_eq!(reply.code, 418, "{name}: {seen}");
        assert!(seen.starts_with("get /a/b?c=d http/1.1\r\n"), "{seen}");
        assert!(seen.contains("x-mine: 1\r\n"), "{seen}");
        assert!(!seen.contains("authorization"), "the secret stays here: {seen}");
        assert_eq!(reply.headers["x-own"], "yes");
        assert_eq!(reply.headers.get("keep-alive"), None);
    }

    for (name, code, message) in [
        ("pods/p:81/proxy/", 503, "error trying to reach service: connection refused"),
        ("pods/nope/proxy/", 404, "pods \"nope\" not found"),
        ("pods/p:x/proxy/", 400, "invalid pod request \"p:x\""),
        ("services/s:81/proxy/", 503, "no service port 81 found for service \"s\""),
    ] {
        let reply = world.get(&format!("{place}/{name}")).await;
        assert_eq!((reply.code, &reply.json()["message"]), (code, &json!(message)), "{name}");
    }
    let upgrade = [("connection", "keep-alive, Upgrade"), ("upgrade", "echo")];
    for name in ["pods/p:8080", "services/s:http"] {
        let path = format!("{place}/{name}/proxy/socket");
        let switched = world.open("GET", &path, &upgrade, "").await;
        assert_eq!(
            (switched.status().as_u16(), &switched.headers()["upgrade"]),
            (101, &"echo".parse().unwrap())
        );
        let mut io = TokioIo::new(hyper::upgrade::on(switched).await.unwrap());
        io.write_all(b"both ways").await.unwrap();
        let mut heard = [0; 9];
        io.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"both ways");
    }
    for (method, length) in [("HEAD", 0), ("OPTIONS", 1)] {
        let path = format!("{place}/pods/p/proxy/a");
        let reply = world.send(method, &path, &[], "").await;
        assert_eq!((reply.code, reply.body.len().min(1)), (418, length), "{method}");
        let guest = world.send(method, &path, &[("authorization", "Bearer guest")], "").await;
        assert_eq!(guest.code, 403, "{method}");
    }
    // What goes back is gone before it is looked at, and what only might is refused.
    let back = world.get(&format!("{place}/pods/p/proxy/open/%2e%2e/secret%2Fa")).await;
    let seen = String::from_utf8(back.body.to_vec()).unwrap();
    assert!(seen.starts_with("GET /secret%2Fa HTTP/1.1\r\n"), "{seen}");
    let back = world.get(&format!("{place}/pods/p/proxy/open/..%2Fsecret")).await;
    assert_eq!(back.code, 400);
    let moved = world.get(&format!("{place}/pods/p/proxy?x=y")).await;
    assert_eq!(moved.code, 301);
    assert_eq!(moved.headers["location"], format!("{place}/pods/p/proxy/?x=y"));
    world.stop().await;
}
