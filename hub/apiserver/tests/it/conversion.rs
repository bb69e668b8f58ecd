//! Versions of custom resources that a webhook converts, over real TLS.

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hub_storage::Key;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::admission::issue;
use crate::harness::World;

pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const DEFINITION: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.com";
pub(crate) const V1: &str = "/apis/example.com/v1/namespaces/default/things";
pub(crate) const V2: &str = "/apis/example.com/v2/namespaces/default/things";
const MERGE: [(&str, &str); 1] = [("content-type", "application/merge-patch+json")];
const APPLY: [(&str, &str); 1] = [("content-type", "application/apply-patch+yaml")];

/// Joins and splits: `v1` says `hostPort: a:1`, `v2` says `host: a, port: "1"`.
pub(crate) struct Converter {
    pub(crate) port: u16,
    /// PEM in base64.
    pub(crate) ca: String,
    /// How many objects each request had.
    asked: Arc<Mutex<Vec<usize>>>,
    _serving: JoinSet<()>,
}

impl Converter {
    pub(crate) async fn new() -> Self {
        let (ca, config) = issue(vec!["localhost".to_owned(), "s.default.svc".to_owned()]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let asked: Arc<Mutex<Vec<usize>>> = Arc::default();
        let counted = asked.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut clients = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, counted) = (acceptor.clone(), counted.clone());
                clients.spawn(async move {
                    let Ok(tls) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|request| answer(counted.clone(), request));
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(tls), service).await;
                });
            }
        });
        Self { port, ca: STANDARD.encode(ca.pem()), asked, _serving: serving }
    }

    fn taken(&self) -> Vec<usize> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    pub(crate) fn definition(&self, storage: &str, reviews: &[&str]) -> Value {
        let version = |name: &str, fields: &[&str]| {
            let fields: serde_json::Map<String, Value> =
                fields.iter().map(|it| ((*it).to_owned(), json!({"type": "string"}))).collect();
            json!({
                "name": name, "served": true, "storage": name == storage,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": fields}}}},
            })
        };
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "things.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "things", "kind": "Thing"},
                "versions": [version("v1", &["hostPort"]), version("v2", &["host", "port"])],
                "conversion": {"strategy": "Webhook", "webhook": {
                    "conversionReviewVersions": reviews,
                    "clientConfig": {"url": format!("https://localhost:{}/convert", self.port),
                        "caBundle": self.ca}}},
            },
        })
    }
}

fn convert(mut object: Value, to: &Value) -> Value {
    let spec = object["spec"].clone();
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    object["spec"] = if to == "example.com/v2" {
        let (host, port) = text("hostPort").split_once(':').map_or_else(
            || (text("hostPort"), String::new()),
            |(host, port)| (host.to_owned(), port.to_owned()),
        );
        json!({"host": host, "port": port, "unknown": 1})
    } else {
        json!({"hostPort": format!("{}:{}", text("host"), text("port"))})
    };
    object["apiVersion"] = to.clone();
    object["metadata"]["annotations"] = json!({"converted-to": to});
    object["metadata"]["finalizers"] = json!(["the-webhook-may-not/do-that"]);
    object
}

async fn answer(
    asked: Arc<Mutex<Vec<usize>>>,
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<Full<Bytes>>, std::convert::Infallible> {
    assert_eq!(request.uri().query(), Some("timeout=30s"));
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let (to, objects) = (&review["request"]["desiredAPIVersion"], &review["request"]["objects"]);
    let objects = objects.as_array().unwrap();
    asked.lock().unwrap().push(objects.len());
    let mut response = json!({"uid": review["request"]["uid"], "result": {"status": "Success"}});
    if objects.iter().any(|it| it["spec"]["hostPort"] == "bad") {
        response["result"] = json!({"status": "Failure", "message": "this one is bad"});
    } else {
        let made: Vec<Value> = objects.iter().map(|it| convert(it.clone(), to)).collect();
        response["convertedObjects"] = json!(made);
    }
    let review = json!({"kind": "ConversionReview", "apiVersion": review["apiVersion"],
        "response": response});
    Ok(http::Response::new(Full::new(review.to_string().into())))
}

pub(crate) fn thing(version: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("example.com/{version}"), "kind": "Thing",
        "metadata": {"name": name}, "spec": spec})
}

async fn defined(hook: &Converter, reviews: &[&str]) -> World {
    let mut world = World::new().await;
    let made = world.post(DEFINITIONS, &hook.definition("v1", reviews)).await;
    assert_eq!(made.code, 201, "{}", String::from_utf8_lossy(&made.body));
    world
}

#[tokio::test]
async fn each_version_sees_what_the_webhook_makes_of_an_object() {
    let hook = Converter::new().await;
    let mut world = defined(&hook, &["v1"]).await;
    let made = world.post(V2, &thing("v2", "a", json!({"host": "a", "port": "1"}))).await;
    assert_eq!(made.code, 201, "{}", String::from_utf8_lossy(&made.body));
    assert_eq!(made.json()["spec"], json!({"host": "a", "port": "1"}));
    let one = world.get(&format!("{V1}/a")).await.json();
    assert_eq!(one["spec"], json!({"hostPort": "a:1"}));
    assert_eq!(one["metadata"].get("finalizers"), None);
    assert_eq!(one["metadata"]["annotations"], json!({"converted-to": "example.com/v1"}));
    hook.taken();
    for _ in 0..2 {
        let two = world.get(&format!("{V2}/a")).await.json();
        assert_eq!(two["apiVersion"], "example.com/v2");
        assert_eq!(two["spec"], json!({"host": "a", "port": "1"}));
        assert_eq!(two["metadata"]["resourceVersion"], one["metadata"]["resourceVersion"]);
    }
    assert_eq!(hook.taken(), [1], "the second reader finds what the first asked for");

    for name in ["b", "c", "d"] {
        world.post(V1, &thing("v1", name, json!({"hostPort": format!("{name}:9")}))).await;
    }
    let list = world.get(&format!("{V2}?limit=3")).await.json();
    let hosts: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it["spec"]["host"].as_str())
        .collect();
    assert_eq!(hosts, ["a", "b", "c"]);
    assert_eq!(hook.taken(), [2], "one request for what is new in the list");
    let watch = world.get(&format!("{V2}?watch=true&timeoutSeconds=1")).await;
    let seen: Vec<Value> = watch
        .body
        .split(|it| *it == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .map(|event: Value| event["object"]["spec"]["host"].clone())
        .collect();
    assert_eq!(seen, ["a", "b", "c", "d"]);

    let patched = world
        .send("PATCH", &format!("{V2}/a"), &MERGE, &json!({"spec": {"port": "2"}}).to_string())
        .await;
    assert_eq!(patched.json()["spec"], json!({"host": "a", "port": "2"}));
    assert_eq!(world.get(&format!("{V1}/a")).await.json()["spec"]["hostPort"], "a:2");
    let deleted = world.send("DELETE", &format!("{V2}/d"), &[], "").await;
    assert_eq!(deleted.code, 200, "{}", String::from_utf8_lossy(&deleted.body));
    assert_eq!(world.get(&format!("{V1}/d")).await.code, 404);
    world.stop().await;
}

#[tokio::test]
async fn fields_are_owned_across_versions() {
    let hook = Converter::new().await;
    let mut world = defined(&hook, &["v1beta1"]).await;
    let applied = thing("v1", "a", json!({"hostPort": "a:1"})).to_string();
    let made = world.send("PATCH", &format!("{V1}/a?fieldManager=one"), &APPLY, &applied).await;
    assert_eq!(made.code, 201, "{}", String::from_utf8_lossy(&made.body));
    let other = thing("v2", "a", json!({"host": "a", "port": "2"})).to_string();
    let path = format!("{V2}/a?fieldManager=two");
    let refused = world.send("PATCH", &path, &APPLY, &other).await;
    assert_eq!(refused.code, 409, "{}", String::from_utf8_lossy(&refused.body));
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(message.ends_with("conflict with \"one\": .spec.hostPort"), "{message}");
    let forced = world.send("PATCH", &format!("{path}&force=true"), &APPLY, &other).await;
    assert_eq!(forced.code, 200, "{}", String::from_utf8_lossy(&forced.body));
    assert_eq!(world.get(&format!("{V1}/a")).await.json()["spec"]["hostPort"], "a:2");
    world.stop().await;
}

#[tokio::test]
async fn a_storage_version_changes_under_its_objects() {
    let hook = Converter::new().await;
    let mut world = defined(&hook, &["v1"]).await;
    world.post(V1, &thing("v1", "a", json!({"hostPort": "a:1"}))).await;
    let current = world.get(DEFINITION).await.json();
    let mut next = hook.definition("v2", &["v1"]);
    next["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
    let header = [("content-type", "application/json")];
    let put = world.send("PUT", DEFINITION, &header, &next.to_string()).await;
    assert_eq!(put.code, 200, "{}", String::from_utf8_lossy(&put.body));
    assert_eq!(put.json()["status"]["storedVersions"], json!(["v1", "v2"]));
    let key = Key::new("example.com", "things", Some("default"), "a");
    let stored = |world: &World| world.registry.storage().get(&key).unwrap().decode();
    assert_eq!(stored(&world)["apiVersion"], "example.com/v1");
    let before = world.get(&format!("{V1}/a")).await.json();
    assert_eq!(before["spec"]["hostPort"], "a:1");
    // A write that changes nothing takes the object along.
    let moved = world.send("PATCH", &format!("{V1}/a"), &MERGE, "{}").await.json();
    assert_ne!(moved["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
    assert_eq!(stored(&world)["spec"], json!({"host": "a", "port": "1"}));
    let again = world.send("PATCH", &format!("{V1}/a"), &MERGE, "{}").await.json();
    assert_eq!(again["metadata"]["resourceVersion"], moved["metadata"]["resourceVersion"]);
    world.stop().await;
}

#[tokio::test]
async fn a_broken_webhook_is_told_in_the_real_servers_words() {
    let hook = Converter::new().await;
    let mut world = defined(&hook, &["v1"]).await;
    world.post(V1, &thing("v1", "a", json!({"hostPort": "bad"}))).await;
    let failed = "conversion webhook for example.com/v1, Kind=Thing failed: ";
    for path in [format!("{V2}/a"), V2.to_owned()] {
        let reply = world.get(&path).await;
        assert_eq!(reply.code, 500);
        assert_eq!(reply.json()["message"], format!("{failed}this one is bad"));
        assert_eq!(reply.json().get("reason"), None);
    }
    // Who needs no conversion needs no webhook.
    assert_eq!(world.get(&format!("{V1}/a")).await.code, 200);
    let port = hook.port;
    drop(hook);
    let reply = world.get(&format!("{V2}/a")).await;
    let message = reply.json()["message"].as_str().unwrap().to_owned();
    let head = format!("{failed}Post \"https://localhost:{port}/convert?timeout=30s\": ");
    assert!(message.starts_with(&head), "{message}");
    let made = world.post(V2, &thing("v2", "b", json!({"host": "b"}))).await;
    assert_eq!(made.code, 500);
    world.stop().await;
}

#[tokio::test]
async fn a_definition_names_reviews_that_are_spoken() {
    let hook = Converter::new().await;
    let mut world = World::new().await;
    let refused = world.post(DEFINITIONS, &hook.definition("v1", &["v2"])).await;
    assert_eq!(refused.code, 422);
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("spec.conversion.conversionReviewVersions"), "{message}");
    assert!(message.contains("must include at least one of v1, v1beta1"), "{message}");
    world.stop().await;
}
