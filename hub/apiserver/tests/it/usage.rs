//! `metrics.k8s.io`, with nodes that say what they like.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use agent_sync::stream::{Channel, StreamKind, StreamRequest, encode_frame};
use futures_util::future::BoxFuture;
use hub_apiserver::{NodeStream, NodeStreams, OpenError};
use serde_json::{Value, json};

use crate::harness::World;

/// Nodes that answer with what they are told to; the others are not connected.
#[derive(Default)]
struct Talkers {
    reports: Mutex<BTreeMap<String, Value>>,
    n_asked: AtomicUsize,
}

impl NodeStreams for Talkers {
    fn open(
        &self,
        node: &str,
        request: StreamRequest,
    ) -> BoxFuture<'_, Result<NodeStream, OpenError>> {
        let node = node.to_owned();
        Box::pin(async move {
            self.n_asked.fetch_add(1, Ordering::Relaxed);
            let mut out = Vec::new();
            match request.kind {
                StreamKind::Page { path } => {
                    let head = br#"{"code":418,"contentType":"text/html"}"#;
                    encode_frame(Channel::Stdout, head, &mut out);
                    encode_frame(Channel::Stdout, path.as_bytes(), &mut out);
                }
                _ => {
                    let report = self.reports.lock().unwrap().get(&node).cloned();
                    let report = report.ok_or(OpenError::NotConnected { node })?;
                    encode_frame(Channel::Stdout, report.to_string().as_bytes(), &mut out);
                }
            }
            encode_frame(Channel::Error, br#"{"status":"Success"}"#, &mut out);
            let recv = Box::new(std::io::Cursor::new(out));
            Ok(NodeStream { recv, send: Box::new(tokio::io::sink()) })
        })
    }
}

fn usage(cpu: u64, memory: u64) -> Value {
    json!({"cpuNanocores": cpu, "memoryWorkingSet": memory, "windowMs": 15_020})
}

async fn running(world: &mut World, name: &str, node: &str) -> String {
    let path = "/api/v1/namespaces/default/pods";
    let pod = json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [
            {"name": "a", "image": "i"}, {"name": "b", "image": "i"},
        ]},
    });
    let made = world.post(path, &pod).await;
    assert_eq!(made.code, 201);
    let patch = [("content-type", "application/merge-patch+json")];
    let status = json!({"status": {"phase": "Running"}}).to_string();
    let told = world.send("PATCH", &format!("{path}/{name}/status"), &patch, &status).await;
    assert_eq!(told.code, 200);
    made.json()["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|it| it["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn nodes_speak_for_themselves_and_for_their_pods_alone() {
    let talkers = Arc::new(Talkers::default());
    let mut world = World::with_nodes(talkers.clone()).await;
    for node in ["n1", "n2"] {
        let node = json!({"metadata": {"name": node, "labels": {"zone": node}}});
        assert_eq!(world.post("/api/v1/nodes", &node).await.code, 201);
    }
    let mine = running(&mut world, "mine", "n1").await;
    let foreign = running(&mut world, "foreign", "n2").await;
    let containers = json!([
        {"name": "b", "usage": usage(500_000, 2048)},
        {"name": "a", "usage": usage(1_500_000_000, 1000)},
        {"name": "none", "usage": usage(1, 1)},
    ]);
    let report = json!({"node": usage(2_000_000_000, 4 << 20), "pods": [
        {"uid": mine, "containers": containers},
        {"uid": foreign, "containers": containers},
    ]});
    talkers.reports.lock().unwrap().insert("n1".to_owned(), report);

    let root = "/apis/metrics.k8s.io/v1beta1";
    let pods = world.get(&format!("{root}/pods")).await.json();
    assert_eq!(pods["kind"], "PodMetricsList");
    assert_eq!(names(&pods), ["mine"], "{pods}");
    assert_eq!(
        pods["items"][0]["containers"],
        json!([
            {"name": "a", "usage": {"cpu": "1500m", "memory": "1k"}},
            {"name": "b", "usage": {"cpu": "500u", "memory": "2Ki"}},
        ])
    );
    assert_eq!(pods["items"][0]["window"], "15.02s");
    let nodes = world.get(&format!("{root}/nodes")).await.json();
    assert_eq!(names(&nodes), ["n1"]);
    assert_eq!(nodes["items"][0]["usage"], json!({"cpu": "2", "memory": "4Mi"}));
    // Answers are shared for a while: one question to each node, whoever asked.
    assert_eq!(talkers.n_asked.load(Ordering::Relaxed), 2);

    for (path, expected) in [
        ("nodes?labelSelector=zone=n2", vec![]),
        ("nodes?labelSelector=zone=n1", vec!["n1"]),
        ("namespaces/default/pods?fieldSelector=metadata.name=mine", vec!["mine"]),
        ("namespaces/default/pods?labelSelector=app=other", vec![]),
        ("namespaces/kube-system/pods", vec![]),
    ] {
        let list = world.get(&format!("{root}/{path}")).await.json();
        assert_eq!(names(&list), expected, "{path}");
    }
    for (path, message) in [
        (
            "namespaces/default/pods/foreign",
            "podmetrics.metrics.k8s.io \"default/foreign\" not found",
        ),
        ("namespaces/default/pods/nobody", "pods \"default/nobody\" not found"),
        ("nodes/n2", "nodemetrics.metrics.k8s.io \"n2\" not found"),
        ("nodes/n3", "nodes \"n3\" not found"),
    ] {
        let reply = world.get(&format!("{root}/{path}")).await;
        assert_eq!((reply.code, &reply.json()["message"]), (404, &json!(message)), "{path}");
    }
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let mine = format!("{root}/namespaces/default/pods/mine");
    let table = world.send("GET", &mine, &accept, "").await.json();
    assert_eq!(table["rows"][0]["cells"], json!(["mine", "1500500u", "3048", "15.02s"]));
    let found = world.get(root).await.json();
    let found: Vec<(&str, &Value)> = found["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["name"].as_str().unwrap(), &it["verbs"]))
        .collect();
    assert_eq!(found, [("nodes", &json!(["get", "list"])), ("pods", &json!(["get", "list"]))]);
    let guest = [("authorization", "Bearer guest")];
    let refused = world.send("GET", &format!("{root}/pods"), &guest, "").await;
    assert_eq!(refused.code, 403);
    world.stop().await;
}

#[tokio::test]
async fn pages_of_nodes_are_text_whatever_they_say() {
    let mut world = World::with_nodes(Arc::new(Talkers::default())).await;
    let node = json!({"metadata": {"name": "n1"}});
    assert_eq!(world.post("/api/v1/nodes", &node).await.code, 201);
    let page = world.get("/api/v1/nodes/n1:10250/proxy/a/b?c=d").await;
    assert_eq!((page.code, &page.body[..]), (418, &b"/a/b?c=d"[..]));
    assert_eq!(page.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    let head = world.send("HEAD", "/api/v1/nodes/n1/proxy/a", &[], "").await;
    assert_eq!((head.code, head.body.len()), (418, 0));
    for (method, name, code) in [("GET", "n2", 404), ("GET", "n1:80", 503), ("POST", "n1", 405)] {
        let reply = world.send(method, &format!("/api/v1/nodes/{name}/proxy/x"), &[], "").await;
        assert_eq!(reply.code, code, "{method} {name}");
    }
    world.stop().await;
}
