//! Webhooks that are in pods: real HTTPS servers, behind a node that carries bytes to them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::admission::{CONFIGMAPS, Webhook, configmap, configure, issue, message};
use crate::aggregation::{Carrier, SILENT_PORT, put_endpoint};
use crate::conversion::{Converter, DEFINITIONS, V1, V2, thing};
use crate::harness::World;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const MERGE: [(&str, &str); 1] = [("content-type", "application/merge-patch+json")];

fn in_service(service: &str, path: &str, ca: &str) -> Value {
    let service = json!({"namespace": "default", "name": service, "path": path});
    json!({"clientConfig": {"service": service, "caBundle": ca}})
}

fn service(name: &str, port: u16) -> Value {
    json!({"metadata": {"name": name}, "spec": {"ports": [{"name": "https", "port": port}]}})
}

/// A slice of another Service, or of the same one, with the pod that is there already.
fn slice(name: &str, service: &str, port: u16) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": port}],
        "endpoints": [{"addresses": ["10.1.0.2"], "targetRef": {"kind": "Pod", "name": "p"}}],
    })
}

async fn patch(world: &mut World, path: &str, change: Value) {
    let reply = world.send("PATCH", path, &MERGE, &change.to_string()).await;
    assert_eq!(reply.code, 200, "{}", message(&reply));
}

/// What a client hears whose object is refused.
async fn refusal(world: &mut World) -> String {
    let reply = world.post(CONFIGMAPS, &configmap("c")).await;
    assert!(reply.code >= 400, "it was not refused");
    message(&reply)
}

fn failed(service: &str, why: &str) -> String {
    format!(
        "Internal error occurred: failed calling webhook \"hook.example.com\": failed to call webhook: Post \"https://{service}.default.svc:443/deny?timeout=1s\": {why}"
    )
}

const DENIED: &str = "admission webhook \"hook.example.com\" denied the request: no CREATE";

#[tokio::test]
async fn a_webhook_behind_a_service_is_asked_through_the_node_of_its_pod() {
    let nodes = Arc::new(Carrier::default());
    let mut world = World::with_nodes(nodes.clone()).await;
    let hook = Webhook::new().await;
    let settings = hook.settings("", in_service("s", "/deny", &hook.ca));
    assert_eq!(configure(&mut world, "validating", settings).await.code, 201);
    assert_eq!(refusal(&mut world).await, failed("s", "service \"s\" not found"));
    assert_eq!(world.post(SERVICES, &service("s", 80)).await.code, 201);
    let no_port = "no service port 443 found for service \"s\"";
    assert_eq!(refusal(&mut world).await, failed("s", no_port));
    let ports = json!({"spec": {"ports": [{"name": "https", "port": 443}]}});
    patch(&mut world, &format!("{SERVICES}/s"), ports).await;
    let nobody = failed("s", "no endpoints available for service \"s\"");
    assert_eq!(refusal(&mut world).await, nobody);
    assert!(nodes.asked.lock().unwrap().is_empty());

    put_endpoint(&mut world, hook.port).await;
    assert_eq!(refusal(&mut world).await, DENIED);
    let way = vec![("n".to_owned(), "p".to_owned())];
    assert_eq!(*nodes.asked.lock().unwrap(), way);
    assert_eq!(refusal(&mut world).await, DENIED);
    assert_eq!(*nodes.asked.lock().unwrap(), way, "connections are kept");
    assert_eq!(hook.connections.load(Ordering::Relaxed), 1);

    // Nobody who is not ready is asked, over a kept connection neither.
    let ready = |it: bool| {
        json!({"endpoints": [{"addresses": ["10.1.0.2"], "conditions": {"ready": it},
            "targetRef": {"kind": "Pod", "name": "p"}}]})
    };
    patch(&mut world, &format!("{SLICES}/s-1"), ready(false)).await;
    assert_eq!(refusal(&mut world).await, nobody);
    patch(&mut world, &format!("{SLICES}/s-1"), ready(true)).await;
    assert_eq!(refusal(&mut world).await, DENIED);
    world.stop().await;
}

#[tokio::test]
async fn a_webhook_in_a_pod_that_fails_is_told_in_kubernetes_words() {
    let nodes = Arc::new(Carrier::default());
    let mut world = World::with_nodes(nodes.clone()).await;
    let hook = Webhook::new().await;
    for name in ["s", "t"] {
        assert_eq!(world.post(SERVICES, &service(name, 443)).await.code, 201);
    }
    put_endpoint(&mut world, hook.port).await;
    assert_eq!(world.post(SLICES, &slice("t-1", "t", hook.port)).await.code, 201);
    let (other, _) = issue(vec!["s.default.svc".to_owned()]);
    let other = STANDARD.encode(other.pem());
    for (name, ca, why) in [
        ("s", &other, "certificate signed by unknown authority"),
        (
            "t",
            &hook.ca,
            "certificate is not valid for any names, but wanted to match t.default.svc",
        ),
    ] {
        let settings = hook.settings("", in_service(name, "/deny", ca));
        configure(&mut world, "validating", settings).await;
        let why = format!("tls: failed to verify certificate: x509: {why}");
        assert_eq!(refusal(&mut world).await, failed(name, &why));
    }

    // Places that do not answer give way to one that does, whichever is the first.
    for n in ["s-0", "s-2"] {
        assert_eq!(world.post(SLICES, &slice(n, "s", 1)).await.code, 201);
    }
    let settings = hook.settings("", in_service("s", "/deny", &hook.ca));
    configure(&mut world, "validating", settings).await;
    assert_eq!(refusal(&mut world).await, DENIED);
    for n in ["s-0", "s-2"] {
        assert_eq!(world.send("DELETE", &format!("{SLICES}/{n}"), &[], "").await.code, 200);
    }
    let at = |port: u16| json!({"ports": [{"name": "https", "port": port}]});
    patch(&mut world, &format!("{SLICES}/s-1"), at(1)).await;
    assert_eq!(refusal(&mut world).await, failed("s", "connection refused"));
    // The time of the webhook is the time for the way to it as well.
    patch(&mut world, &format!("{SLICES}/s-1"), at(SILENT_PORT)).await;
    assert_eq!(refusal(&mut world).await, failed("s", "context deadline exceeded"));
    let mut settings = in_service("s", "/deny", &hook.ca);
    settings["failurePolicy"] = json!("Ignore");
    configure(&mut world, "validating", hook.settings("", settings)).await;
    assert_eq!(world.post(CONFIGMAPS, &configmap("c")).await.code, 201);
    world.stop().await;
}

#[tokio::test]
async fn a_conversion_webhook_in_a_pod_is_asked_the_same_way() {
    let nodes = Arc::new(Carrier::default());
    let mut world = World::with_nodes(nodes.clone()).await;
    let hook = Converter::new().await;
    let mut definition = hook.definition("v1", &["v1"]);
    let way = in_service("s", "/convert", &hook.ca);
    definition["spec"]["conversion"]["webhook"]["clientConfig"] = way["clientConfig"].clone();
    let made = world.post(DEFINITIONS, &definition).await;
    assert_eq!(made.code, 201, "{}", message(&made));
    let made = world.post(V1, &thing("v1", "a", json!({"hostPort": "a:1"}))).await;
    assert_eq!(made.code, 201, "{}", message(&made));
    let call = "conversion webhook for example.com/v1, Kind=Thing failed: Post \"https://s.default.svc:443/convert?timeout=30s\": ";
    let refused = world.get(&format!("{V2}/a")).await;
    let why = format!("{call}service \"s\" not found");
    assert_eq!((refused.code, message(&refused)), (500, why));
    assert_eq!(world.post(SERVICES, &service("s", 443)).await.code, 201);
    let refused = world.get(&format!("{V2}/a")).await;
    assert_eq!(message(&refused), format!("{call}no endpoints available for service \"s\""));
    put_endpoint(&mut world, hook.port).await;
    let shown = world.get(&format!("{V2}/a")).await;
    assert_eq!(shown.json()["spec"], json!({"host": "a", "port": "1"}), "{}", message(&shown));
    assert_eq!(*nodes.asked.lock().unwrap(), [("n".to_owned(), "p".to_owned())]);
    world.stop().await;
}
