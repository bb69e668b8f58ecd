//! Watches over HTTP.

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::harness::World;

const CMS: &str = "/api/v1/namespaces/default/configmaps";

struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.frame().await?.unwrap();
            self.buffer.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    /// Type, name and label of the next event.
    async fn brief(&mut self) -> (String, String) {
        let event = self.next().await.unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}

async fn watch(world: &mut World, query: &str, accept: &str) -> Lines {
    let answer =
        world.open("GET", &format!("{CMS}?watch=true&{query}"), &[("accept", accept)], "").await;
    assert_eq!(answer.status(), 200);
    Lines { body: answer.into_body(), buffer: BytesMut::new() }
}

fn pair(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

async fn label(world: &mut World, name: &str, value: Value) {
    let patch = json!({"metadata":{"labels":{"on":value}}}).to_string();
    let headers = [("content-type", "application/merge-patch+json")];
    let reply = world.send("PATCH", &format!("{CMS}/{name}"), &headers, &patch).await;
    assert_eq!(reply.code, 200);
}

#[tokio::test]
async fn what_enters_and_leaves_a_selector_is_added_and_deleted() {
    let mut world = World::new().await;
    let start = world.registry.revision();
    world.post(CMS, &json!({"metadata":{"name":"a"}})).await;
    let query = format!("resourceVersion={start}&labelSelector=on%20in%20(yes)");
    let mut lines = watch(&mut world, &query, "").await;
    label(&mut world, "a", json!("yes")).await;
    assert_eq!(lines.brief().await, pair("ADDED", "a"));
    let patch = json!({"data":{"k":"v"}}).to_string();
    let headers = [("content-type", "application/merge-patch+json")];
    world.send("PATCH", &format!("{CMS}/a"), &headers, &patch).await;
    assert_eq!(lines.brief().await, pair("MODIFIED", "a"));
    label(&mut world, "a", json!(null)).await;
    let gone = lines.next().await.unwrap();
    assert_eq!(gone["type"], "DELETED");
    assert_eq!(gone["object"]["metadata"]["labels"]["on"], "yes", "as it last matched");
    let revision = world.registry.revision().to_string();
    assert_eq!(gone["object"]["metadata"]["resourceVersion"], revision.as_str());
    world.send("DELETE", &format!("{CMS}/a"), &[], "").await;
    world.post(CMS, &json!({"metadata":{"name":"b","labels":{"on":"yes"}}})).await;
    assert_eq!(
        lines.brief().await,
        pair("ADDED", "b"),
        "the deletion of what is outside is silent"
    );
    world.send("DELETE", &format!("{CMS}/b"), &[], "").await;
    let gone = lines.next().await.unwrap();
    let revision = world.registry.revision().to_string();
    assert_eq!(
        (&gone["type"], &gone["object"]["metadata"]["resourceVersion"]),
        (&json!("DELETED"), &json!(revision))
    );
    world.stop().await;
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let mut world = World::new().await;
    let all = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut empty = watch(&mut world, &format!("{all}&labelSelector=x"), "").await;
    let end = empty.next().await.unwrap();
    assert_eq!(end["type"], "BOOKMARK");
    world.post(CMS, &json!({"metadata":{"name":"a"}})).await;
    let mut lines = watch(&mut world, all, "").await;
    assert_eq!(lines.brief().await, pair("ADDED", "a"));
    let revision = world.registry.revision().to_string();
    assert_eq!(
        lines.next().await.unwrap(),
        json!({"type":"BOOKMARK","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{
            "annotations":{"k8s.io/initial-events-end":"true"},
            "creationTimestamp":null,"resourceVersion":revision}}})
    );
    world.post(CMS, &json!({"metadata":{"name":"b"}})).await;
    assert_eq!(lines.brief().await, pair("ADDED", "b"));
    world.stop().await;
}

#[tokio::test]
async fn a_watch_without_revision_begins_with_what_is_there() {
    let mut world = World::new().await;
    world.post(CMS, &json!({"metadata":{"name":"a"}})).await;
    for query in ["", "resourceVersion=0"] {
        let mut lines = watch(&mut world, query, "").await;
        assert_eq!(lines.brief().await, pair("ADDED", "a"));
    }
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let mut lines = watch(&mut world, "", table).await;
    let first = lines.next().await.unwrap();
    assert_eq!((&first["type"], &first["object"]["kind"]), (&json!("ADDED"), &json!("Table")));
    assert!(first["object"]["columnDefinitions"].is_array());
    world.post(CMS, &json!({"metadata":{"name":"b"}})).await;
    let second = lines.next().await.unwrap();
    assert_eq!(second["object"]["columnDefinitions"], Value::Null);
    world.stop().await;
}

#[tokio::test]
async fn a_forgotten_position_is_an_event_of_its_own() {
    let mut world = World::new().await;
    world.post(CMS, &json!({"metadata":{"name":"a"}})).await;
    let now = world.registry.revision();
    world.registry.storage().compact(now);
    let mut lines = watch(&mut world, "resourceVersion=1", "").await;
    let event = lines.next().await.unwrap();
    assert_eq!(event["type"], "ERROR");
    assert_eq!(event["object"]["code"], 410);
    assert_eq!(event["object"]["message"], format!("too old resource version: 1 ({now})"));
    assert_eq!(lines.next().await, None, "and it is the last");
    world.stop().await;
}

#[tokio::test]
async fn a_watch_whose_client_left_is_freed() {
    let mut world = World::new().await;
    let lines = watch(&mut world, "resourceVersion=1", "").await;
    assert!(open_watches(&mut world).await.contains(" 1\n"));
    drop(lines);
    world.drop_clients();
    let freed = async { while !open_watches(&mut world).await.contains(" 0\n") {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), freed).await.unwrap();
    world.stop().await;
}

/// The line of the metrics that counts watches.
async fn open_watches(world: &mut World) -> String {
    let page = world.get("/metrics").await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    let line = page.lines().find(|it| it.starts_with("apiserver_longrunning_requests "));
    format!("{}\n", line.unwrap())
}

#[tokio::test]
async fn a_watch_ends_when_its_time_is_up_and_when_the_server_stops() {
    let mut world = World::new().await;
    let mut short =
        watch(&mut world, "timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion=1", "").await;
    assert_eq!(short.next().await.unwrap()["type"], "BOOKMARK", "the last word is a position");
    assert_eq!(short.next().await, None);
    let mut long = watch(&mut world, "", "").await;
    world.shutdown.cancel();
    assert_eq!(long.next().await, None);
    world.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_says_so_before_it_does() {
    let delay = std::time::Duration::from_millis(1500);
    let mut world = World::with(std::sync::Arc::new(hub_apiserver::NoNodes), delay).await;
    let mut lines = watch(&mut world, "allowWatchBookmarks=true", "").await;
    assert_eq!(world.get("/readyz").await.code, 200);
    world.shutdown.cancel();
    while world.get("/readyz").await.code == 200 {
        tokio::task::yield_now().await;
    }
    // It still serves, and new connections too.
    assert_eq!(world.get("/livez").await.code, 200);
    assert_eq!(world.post(CMS, &json!({"metadata":{"name":"a"}})).await.code, 201);
    assert_eq!(lines.brief().await, pair("ADDED", "a"));
    // The end is orderly: the watch says where it stands, and the body has an end.
    assert_eq!(lines.next().await.unwrap()["type"], "BOOKMARK");
    assert_eq!(lines.next().await, None);
    world.stop().await;
}
