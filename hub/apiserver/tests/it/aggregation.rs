//! An API that another server serves: a real HTTPS server, behind a node that carries bytes to it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_sync::stream::{Channel, FrameDecoder, StreamKind, StreamRequest, encode_frame};
use base64::Engine;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hub_apiserver::{NodeStream, NodeStreams, OpenError};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::harness::World;

/// A node whose pods' ports are those of this machine.
#[derive(Default)]
pub(crate) struct Carrier {
    /// Which node was asked for which pod.
    pub(crate) asked: Mutex<Vec<(String, String)>>,
    tasks: Mutex<JoinSet<()>>,
}

/// A port behind which nobody ever says anything.
pub(crate) const SILENT_PORT: u16 = 2;

async fn carry(kind: StreamKind, io: DuplexStream) {
    let StreamKind::Connect { port } = kind else { return };
    if port == SILENT_PORT {
        let _io = io;
        return std::future::pending().await;
    }
    let (mut from_hub, mut to_hub) = tokio::io::split(io);
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await else {
        let mut out = Vec::new();
        let refused = br#"{"status":"Failure","message":"connection refused","code":500}"#;
        encode_frame(Channel::Error, refused, &mut out);
        let _ = to_hub.write_all(&out).await;
        return;
    };
    let (mut from_pod, mut to_pod) = stream.into_split();
    let inward = async {
        let (mut decoder, mut buffer) = (FrameDecoder::default(), vec![0; 4096]);
        while let Ok(n @ 1..) = from_hub.read(&mut buffer).await {
            decoder.push(&buffer[..n]);
            while let Some((_, payload)) = decoder.next().unwrap() {
                if to_pod.write_all(&payload).await.is_err() {
                    return;
                }
            }
        }
    };
    let outward = async {
        let mut buffer = vec![0; 4096];
        while let Ok(n @ 1..) = from_pod.read(&mut buffer).await {
            let mut out = Vec::new();
            encode_frame(Channel::Stdout, &buffer[..n], &mut out);
            if to_hub.write_all(&out).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
}

impl NodeStreams for Carrier {
    fn open(
        &self,
        node: &str,
        request: StreamRequest,
    ) -> BoxFuture<'_, Result<NodeStream, OpenError>> {
        let (ours, theirs) = tokio::io::duplex(4096);
        self.asked.lock().unwrap().push((node.to_owned(), request.pod_name));
        self.tasks.lock().unwrap().spawn(carry(request.kind, theirs));
        let (recv, send) = tokio::io::split(ours);
        Box::pin(async { Ok(NodeStream { recv: Box::new(recv), send: Box::new(send) }) })
    }
}

type Body = BoxBody<Bytes, Infallible>;

/// What goes on behind the server's answers.
struct Behind {
    tasks: Mutex<JoinSet<()>>,
    /// The hash of the document of version 3.
    hash: Mutex<String>,
    /// The tags that requests for the document of version 2 came with.
    tags: Mutex<Vec<String>>,
}

impl Behind {
    fn new() -> Arc<Self> {
        let hash = Mutex::new("ABC".to_owned());
        Arc::new(Self { tasks: Mutex::default(), hash, tags: Mutex::default() })
    }
}

/// The document of version 2, with paths that are none of the server's business.
fn openapi_v2() -> Value {
    let get = |name: &str| {
        let schema = json!({"$ref": format!("#/definitions/{name}")});
        json!({"get": {"operationId": format!("read{name}"), "responses": {"200": {"schema": schema}}}})
    };
    json!({
        "swagger": "2.0",
        "paths": {
            "/apis/example.test/v1/namespaces/{namespace}/things/{name}": get("Thing"),
            "/apis/apps/v1/namespaces/{namespace}/deployments/{name}": get("Forged"),
        },
        "definitions": {"Thing": {"type": "object"}, "Forged": {"type": "object"}},
    })
}

fn full(text: String) -> Body {
    Full::new(Bytes::from(text)).boxed()
}

/// Says what it was asked, and by whom; or streams, or changes the protocol.
async fn answer(
    mut request: Request<Incoming>,
    behind: Arc<Behind>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let headers = request.headers();
    let text = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values.map(|it| it.to_str().unwrap().to_owned()).collect()
    };
    let own = "/apis/example.test/v1";
    if path == own {
        let resources = json!([
            {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing",
             "verbs": ["get", "list", "watch"]},
        ]);
        let list = json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "example.test/v1",
            "resources": resources,
        });
        return Ok(Response::new(full(list.to_string())));
    }
    if path == "/openapi/v3" {
        let hash = behind.hash.lock().unwrap().clone();
        let url = format!("/openapi/v3/apis/example.test/v1?hash={hash}");
        let index = json!({"paths": {"apis/example.test/v1": {"serverRelativeURL": url}}});
        return Ok(Response::new(full(index.to_string())));
    }
    if path == "/openapi/v2" {
        let tag = text("if-none-match").pop().unwrap_or_default();
        behind.tags.lock().unwrap().push(tag.clone());
        let is_known = tag == "\"one\"";
        let document = if is_known { String::new() } else { openapi_v2().to_string() };
        let mut answer = Response::new(full(document));
        answer.headers_mut().insert("etag", "\"one\"".parse().unwrap());
        if is_known {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
        }
        return Ok(answer);
    }
    if path.ends_with("/connect") {
        let mut switching = Response::new(full(String::new()));
        *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        switching.headers_mut().insert("connection", "Upgrade".parse().unwrap());
        switching.headers_mut().insert("upgrade", text("upgrade")[0].parse().unwrap());
        let upgrading = hyper::upgrade::on(&mut request);
        behind.tasks.lock().unwrap().spawn(async move {
            let mut io = TokioIo::new(upgrading.await.unwrap());
            let mut word = [0; 4];
            io.read_exact(&mut word).await.unwrap();
            word.reverse();
            io.write_all(&word).await.unwrap();
        });
        return Ok(switching);
    }
    if request.uri().query().is_some_and(|it| it.contains("watch")) {
        let events = ["{\"type\":\"ADDED\"}\n", "{\"type\":\"DELETED\"}\n"];
        let frames =
            events.map(|it| Ok::<_, Infallible>(Frame::data(Bytes::from_static(it.as_bytes()))));
        let stream = futures_util::stream::iter(frames);
        return Ok(Response::new(BodyExt::boxed(StreamBody::new(stream))));
    }
    let mut seen = json!({
        "method": request.method().as_str(),
        "path": request.uri().to_string(),
        "user": text("x-remote-user"),
        "groups": text("x-remote-group"),
        "authorization": text("authorization"),
        "host": text("host"),
    });
    let body = request.into_body().collect().await.unwrap().to_bytes();
    seen["body"] = json!(String::from_utf8_lossy(&body));
    let mut answer = Response::new(full(seen.to_string()));
    *answer.status_mut() = StatusCode::IM_A_TEAPOT;
    Ok(answer)
}

/// Serves HTTPS as `s.default.svc` to whoever shows a certificate of the front proxy. Returns the
/// authority's certificate as PEM in base64.
async fn serve(
    proxy_ca: CertificateDer<'static>,
    tasks: &mut JoinSet<()>,
    behind: Arc<Behind>,
) -> (SocketAddr, String) {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca =
        rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["s.default.svc".to_owned()];
    let own = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(proxy_ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        provider.clone(),
    );
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![own.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            connections.spawn(async move {
                let Ok(tls) = acceptor.accept(stream).await else { return };
                let connection = hyper::server::conn::http1::Builder::new().serve_connection(
                    TokioIo::new(tls),
                    service_fn(move |it| answer(it, behind.clone())),
                );
                let _ = connection.with_upgrades().await;
            });
        }
    });
    (address, base64::engine::general_purpose::STANDARD.encode(ca.pem()))
}

/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(20);
const API: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

async fn condition(world: &mut World, reason: &str) -> Value {
    // Bounded: the harness of the tests ends one that hangs.
    loop {
        let object = world.get(&format!("{API}/v1.example.test")).await.json();
        let condition = object["status"]["conditions"][0].clone();
        if condition["reason"] == reason {
            return condition;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn put_api(world: &mut World, ca: &str) {
    let api = json!({
        "metadata": {"name": "v1.example.test"},
        "spec": {
            "group": "example.test", "version": "v1", "groupPriorityMinimum": 10,
            "versionPriority": 10, "caBundle": ca,
            "service": {"namespace": "default", "name": "s", "port": 443},
        },
    });
    assert_eq!(world.post(API, &api).await.code, 201);
}

/// A pod on node `n`, ready behind the Service `s`.
pub(crate) async fn put_endpoint(world: &mut World, port: u16) {
    let place = "/api/v1/namespaces/default";
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
    });
    assert_eq!(world.post(&format!("{place}/pods"), &pod).await.code, 201);
    let slice = json!({
        "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": port}],
        "endpoints": [{"addresses": ["10.1.0.2"], "targetRef": {"kind": "Pod", "name": "p"}}],
    });
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    assert_eq!(world.post(slices, &slice).await.code, 201);
}

#[tokio::test]
async fn an_api_of_another_server_is_found_and_served() {
    let mut world = World::with_nodes(Arc::new(Carrier::default())).await;
    let mut tasks = JoinSet::new();
    let (address, ca) = serve(world.front_proxy_ca.clone(), &mut tasks, Behind::new()).await;
    let things = "/apis/example.test/v1/namespaces/default/things";
    assert_eq!(world.get(things).await.code, 404);
    put_api(&mut world, &ca).await;
    let condition_of = condition(&mut world, "ServiceNotFound").await;
    assert_eq!(condition_of["message"], "service/s in \"default\" is not present");
    // Nothing waits for a server that is not there.
    let dead = world.get(things).await;
    assert_eq!((dead.code, &dead.body[..]), (503, &b"service unavailable\n"[..]));
    let accept =
        [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let version = |all: &Value| {
        let items = all["items"].as_array().unwrap().iter();
        let group = items.clone().find(|it| it["metadata"]["name"] == "example.test");
        group.map(|it| it["versions"][0].clone()).unwrap_or_default()
    };
    let all = world.send("GET", "/apis", &accept, "").await.json();
    assert_eq!(version(&all), json!({"version": "v1", "resources": [], "freshness": "Stale"}));

    let service = json!({
        "metadata": {"name": "s"}, "spec": {"ports": [{"name": "https", "port": 443}]},
    });
    assert_eq!(world.post("/api/v1/namespaces/default/services", &service).await.code, 201);
    condition(&mut world, "EndpointsNotFound").await;
    put_endpoint(&mut world, address.port()).await;
    let good = condition(&mut world, "Passed").await;
    assert_eq!(good["status"], "True");
    assert_eq!(good["message"], "all checks passed");

    let all = world.send("GET", "/apis", &accept, "").await.json();
    let found = version(&all);
    assert_eq!(found["freshness"], "Current");
    assert_eq!(found["resources"][0]["responseKind"]["kind"], "Thing");
    let groups = world.get("/apis").await.json();
    let last = groups["groups"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["preferredVersion"]["groupVersion"], "example.test/v1");
    assert_eq!(world.get("/apis/example.test").await.json()["kind"], "APIGroup");
    let list = world.get("/apis/example.test/v1").await.json();
    assert_eq!(list["resources"][0]["name"], "things");
    let index = world.get("/openapi/v3").await.json();
    assert_eq!(
        index["paths"]["apis/example.test/v1"]["serverRelativeURL"],
        "/openapi/v3/apis/example.test/v1?hash=ABC"
    );

    let forged = [("x-remote-user", "root"), ("content-type", "application/json")];
    let reply = world.send("PUT", &format!("{things}/a%20b/status/deep?x=y"), &forged, "{1}").await;
    assert_eq!(reply.code, 418);
    let seen = reply.json();
    assert_eq!(
        seen,
        json!({
            "method": "PUT",
            "path": format!("{things}/a%20b/status/deep?x=y"),
            "user": ["admin"],
            "groups": ["system:masters", "system:authenticated"],
            "authorization": [],
            "host": ["s.default.svc"],
            "body": "{1}",
        })
    );
    assert_eq!(world.get(&format!("{things}/a/")).await.code, 418);
    let head = world.send("HEAD", &format!("{things}/a"), &[], "").await;
    assert_eq!((head.code, head.body.len()), (418, 0));
    let options = world.send("OPTIONS", &format!("{things}/a"), &[], "").await.json();
    assert_eq!(options["method"], "OPTIONS");
    // It could take an encoded slash for a slash, or go back: rights were asked for something else.
    for odd in [
        "/a%2Fsecret",
        "%2Fa",
        "/%2e%2e",
        "/a/status/../../secret",
        "/a/status/%2e%2E/%2e%2e/secret",
        "/a/status/..%2F..%2Fsecret",
        "/a/status/.",
        "/a/status/b%00",
        "/a/status/b%FF",
        "//a",
        "/a//",
    ] {
        assert_eq!(world.get(&format!("{things}{odd}")).await.code, 400, "{odd}");
    }
    assert_eq!(world.get("//apis/example.test/v1").await.code, 400);
    let watch = world.get(&format!("{things}?watch=true")).await;
    assert_eq!(&watch.body[..], b"{\"type\":\"ADDED\"}\n{\"type\":\"DELETED\"}\n");
    // Rights come first: the other server is not even asked.
    let guest = world.send("GET", things, &[("authorization", "Bearer guest")], "").await;
    assert_eq!(guest.code, 403);

    let upgrade = [("connection", "Upgrade"), ("upgrade", "mirror")];
    let switched = world.open("POST", &format!("{things}/t/connect"), &upgrade, "").await;
    assert_eq!(switched.status(), 101);
    assert_eq!(switched.headers()["upgrade"], "mirror");
    let mut io = TokioIo::new(hyper::upgrade::on(switched).await.unwrap());
    io.write_all(b"abcd").await.unwrap();
    let mut word = [0; 4];
    io.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"dcba");
    drop(io);

    let gone = world.send("DELETE", &format!("{API}/v1.example.test"), &[], "").await;
    assert_eq!(gone.code, 200);
    assert_eq!(world.get(things).await.code, 404);
    assert_eq!(version(&world.send("GET", "/apis", &accept, "").await.json()), Value::Null);
    world.stop().await;
}

#[tokio::test]
async fn a_server_that_is_not_believed_is_not_available() {
    let mut world = World::with_nodes(Arc::new(Carrier::default())).await;
    let mut tasks = JoinSet::new();
    let (address, _) = serve(world.front_proxy_ca.clone(), &mut tasks, Behind::new()).await;
    let (_, other_ca) = serve(world.front_proxy_ca.clone(), &mut tasks, Behind::new()).await;
    let service = json!({
        "metadata": {"name": "s"}, "spec": {"ports": [{"name": "https", "port": 443}]},
    });
    assert_eq!(world.post("/api/v1/namespaces/default/services", &service).await.code, 201);
    put_endpoint(&mut world, address.port()).await;
    put_api(&mut world, &other_ca).await;
    let failed = condition(&mut world, "FailedDiscoveryCheck").await;
    let message = failed["message"].as_str().unwrap();
    let start = "failing or missing response from https://s.default.svc:443/apis/example.test/v1: ";
    assert!(message.starts_with(start), "{message}");
    assert!(message.ends_with("x509: certificate signed by unknown authority"), "{message}");
    world.stop().await;
}

/// A node on which connections fail in a new way each time.
#[derive(Default)]
struct Moody {
    n_asked: AtomicUsize,
}

impl NodeStreams for Moody {
    fn open(
        &self,
        _node: &str,
        _request: StreamRequest,
    ) -> BoxFuture<'_, Result<NodeStream, OpenError>> {
        let n = self.n_asked.fetch_add(1, Ordering::Relaxed);
        let failure = json!({"status": "Failure", "message": format!("mood {n}"), "code": 500});
        let mut out = Vec::new();
        encode_frame(Channel::Error, failure.to_string().as_bytes(), &mut out);
        let recv = Box::new(std::io::Cursor::new(out));
        Box::pin(async { Ok(NodeStream { recv, send: Box::new(tokio::io::sink()) }) })
    }
}

#[tokio::test]
async fn what_fails_in_many_ways_is_not_written_down_each_time() {
    let node = Arc::new(Moody::default());
    let mut world = World::with_nodes(node.clone()).await;
    let mut tasks = JoinSet::new();
    let (address, ca) = serve(world.front_proxy_ca.clone(), &mut tasks, Behind::new()).await;
    let service = json!({
        "metadata": {"name": "s"}, "spec": {"ports": [{"name": "https", "port": 443}]},
    });
    assert_eq!(world.post("/api/v1/namespaces/default/services", &service).await.code, 201);
    put_endpoint(&mut world, address.port()).await;
    put_api(&mut world, &ca).await;
    let first = condition(&mut world, "FailedDiscoveryCheck").await;
    let api = format!("{API}/v1.example.test");
    let before = world.get(&api).await.json();
    // The next look is over before the one after it begins.
    let n_asked = node.n_asked.load(Ordering::Relaxed);
    while node.n_asked.load(Ordering::Relaxed) < n_asked + 2 {
        tokio::time::sleep(PAUSE).await;
    }
    assert_eq!(world.get(&api).await.json(), before);
    // Later what is new is told.
    world.clock.advance(60);
    while condition(&mut world, "FailedDiscoveryCheck").await == first {
        tokio::time::sleep(PAUSE).await;
    }
    world.stop().await;
}

/// Whether our document of version 2 says this.
async fn says(world: &mut World, words: &str) -> bool {
    let document = world.get("/openapi/v2").await.body;
    document.windows(words.len()).any(|it| it == words.as_bytes())
}

#[tokio::test]
async fn the_document_of_version_2_has_the_paths_of_other_servers() {
    let mut world = World::with_nodes(Arc::new(Carrier::default())).await;
    let (mut tasks, behind) = (JoinSet::new(), Behind::new());
    let (address, ca) = serve(world.front_proxy_ca.clone(), &mut tasks, behind.clone()).await;
    let service = json!({
        "metadata": {"name": "s"}, "spec": {"ports": [{"name": "https", "port": 443}]},
    });
    assert_eq!(world.post("/api/v1/namespaces/default/services", &service).await.code, 201);
    put_endpoint(&mut world, address.port()).await;
    assert!(!says(&mut world, "/apis/example.test/v1/").await);
    put_api(&mut world, &ca).await;
    condition(&mut world, "Passed").await;
    let path = "/apis/example.test/v1/namespaces/{namespace}/things/{name}";
    // Bounded: the harness of the tests ends one that hangs.
    while !says(&mut world, path).await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(says(&mut world, "readThing").await);
    assert!(says(&mut world, "#/definitions/Thing").await);
    assert!(!says(&mut world, "Forged").await, "nobody speaks for others");
    assert!(says(&mut world, "/apis/apps/v1/namespaces/{namespace}/deployments/{name}").await);

    // What has not changed is not sent again.
    *behind.hash.lock().unwrap() = "DEF".to_owned();
    let merge = [("content-type", "application/merge-patch+json")];
    let change = json!({"metadata": {"annotations": {"a": "b"}}}).to_string();
    let name = format!("{API}/v1.example.test");
    assert_eq!(world.send("PATCH", &name, &merge, &change).await.code, 200);
    while behind.tags.lock().unwrap().len() < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(*behind.tags.lock().unwrap(), ["", "\"one\""]);
    assert!(says(&mut world, path).await);
    assert_eq!(world.send("DELETE", &name, &[], "").await.code, 200);
    assert!(!says(&mut world, path).await);
    world.stop().await;
}
