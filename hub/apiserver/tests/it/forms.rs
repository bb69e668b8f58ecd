//! What an answer looks like: tables, metadata alone, indented, compressed, or not at all.

use std::convert::Infallible;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http::Request;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::harness::World;

const CMS: &str = "/api/v1/namespaces/default/configmaps";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";

/// The first events of a watch.
async fn lines(world: &mut World, query: &str, accept: &str, n: usize) -> Vec<Value> {
    let path = format!("{CMS}?watch=1&{query}");
    let answer = world.open("GET", &path, &[("accept", accept)], "").await;
    assert_eq!(answer.status(), 200, "{path}");
    let (mut body, mut text) = (answer.into_body(), Vec::new());
    while text.iter().filter(|byte| **byte == b'\n').count() < n {
        let frame = body.frame().await.unwrap().unwrap();
        text.extend_from_slice(&frame.into_data().unwrap());
    }
    let lines = text.split(|byte| *byte == b'\n').take(n);
    lines.map(|it| serde_json::from_slice(it).unwrap()).collect()
}

#[tokio::test]
async fn tables_carry_what_is_asked_for() {
    let mut world = World::new().await;
    for name in ["a", "b"] {
        let body = json!({"metadata":{"name":name,"labels":{"l":"v"}},"data":{"k":"v"}});
        world.post(CMS, &body).await;
    }
    for (include, kind, has_data) in [
        ("", "PartialObjectMetadata", false),
        ("&includeObject=Metadata", "PartialObjectMetadata", false),
        ("&includeObject=Object", "ConfigMap", true),
        ("&includeObject=None", "", false),
    ] {
        let query = format!("{CMS}?labelSelector=l{include}");
        let table = world.send("GET", &query, &[("accept", TABLE)], "").await.json();
        let row = &table["rows"][0];
        assert_eq!(row["cells"][0], "a");
        assert_eq!(row["object"]["kind"].as_str().unwrap_or_default(), kind, "{include}");
        assert_eq!(row["object"]["data"].is_object(), has_data, "{include}");

        let events = lines(&mut world, &format!("labelSelector=l{include}"), TABLE, 2).await;
        for (index, event) in events.iter().enumerate() {
            let object = &event["object"];
            assert_eq!((&event["type"], &object["kind"]), (&json!("ADDED"), &json!("Table")));
            assert_eq!(object["rows"].as_array().map(Vec::len), Some(1), "one row an event");
            assert_eq!(object["columnDefinitions"].is_array(), index == 0, "columns once");
            let row = &object["rows"][0];
            assert_eq!(row["object"]["kind"].as_str().unwrap_or_default(), kind, "{include}");
        }
    }
    let wrong =
        world.send("GET", &format!("{CMS}?includeObject=All"), &[("accept", TABLE)], "").await;
    assert_eq!(wrong.code, 400);
    world.stop().await;
}

#[tokio::test]
async fn metadata_alone_is_enough_for_those_who_ask() {
    let mut world = World::new().await;
    let body = json!({"metadata":{"name":"a","labels":{"l":"v"}},"data":{"k":"v"}});
    let accept = [("accept", METADATA), ("content-type", "application/json")];
    let made = world.send("POST", CMS, &accept, &body.to_string()).await;
    assert_eq!((made.code, made.json()["kind"].as_str()), (201, Some("PartialObjectMetadata")));
    let check = |object: &Value| {
        assert_eq!(object["kind"], "PartialObjectMetadata");
        assert_eq!(object["apiVersion"], "meta.k8s.io/v1");
        assert_eq!(object["metadata"]["labels"]["l"], "v");
        assert!(object.get("data").is_none(), "{object}");
    };
    check(&world.send("GET", &format!("{CMS}/a"), &accept, "").await.json());
    let list = world.send("GET", &format!("{CMS}?labelSelector=l"), &accept, "").await.json();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    check(&list["items"][0]);
    let query = "labelSelector=l&allowWatchBookmarks=true&timeoutSeconds=1";
    let events = lines(&mut world, query, METADATA, 2).await;
    check(&events[0]["object"]);
    assert_eq!(
        (&events[1]["type"], &events[1]["object"]["kind"]),
        (&json!("BOOKMARK"), &json!("PartialObjectMetadata"))
    );
    let patch = [("accept", METADATA), ("content-type", "application/merge-patch+json")];
    check(&world.send("PATCH", &format!("{CMS}/a"), &patch, r#"{"data":{"k":"w"}}"#).await.json());
    // What is deleted at once is told by a Status, which has one form.
    let gone = world.send("DELETE", &format!("{CMS}/a"), &accept, "").await.json();
    assert_eq!((&gone["kind"], &gone["status"]), (&json!("Status"), &json!("Success")));
    world.stop().await;
}

#[tokio::test]
async fn every_answer_says_which_flow_it_was_of() {
    let mut world = World::new().await;
    let uid = |world: &World, plural: &str, name: &str| {
        let row = hub_api::resources::find("flowcontrol.apiserver.k8s.io", "v1", plural).unwrap();
        let entry = world.registry.get(row, None, name).unwrap();
        hub_api::object::uid(&entry.value()).to_owned()
    };
    for (token, path, code, schema, level) in [
        ("boss", CMS, 200, "exempt", "exempt"),
        ("boss", "/api/v1/namespaces/default/configmaps/nope", 404, "exempt", "exempt"),
        ("guest", CMS, 403, "global-default", "global-default"),
        ("guest", "/openapi/v2", 200, "global-default", "global-default"),
    ] {
        let token = format!("Bearer {token}");
        let reply = world.send("GET", path, &[("authorization", &token)], "").await;
        assert_eq!(reply.code, code, "{path}");
        let expect = uid(&world, "flowschemas", schema);
        assert_eq!(reply.headers["x-kubernetes-pf-flowschema-uid"], expect.as_str(), "{path}");
        let expect = uid(&world, "prioritylevelconfigurations", level);
        assert_eq!(reply.headers["x-kubernetes-pf-prioritylevel-uid"], expect.as_str(), "{path}");
    }
    world.stop().await;
}

/// A level without a seat that lets nobody wait.
#[tokio::test]
async fn who_has_no_seat_is_told_when_to_come_again() {
    let mut world = World::new().await;
    let base = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let level = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "none"},
        "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 0, "limitResponse": {"type": "Reject"},
        }},
    });
    let schema = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
        "metadata": {"name": "shut-out"},
        "spec": {
            "matchingPrecedence": 2,
            "priorityLevelConfiguration": {"name": "none"},
            "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "bob"}}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/version"]}],
            }],
        },
    });
    for (path, body) in [("prioritylevelconfigurations", level), ("flowschemas", schema)] {
        let made = world.post(&format!("{base}/{path}"), &body).await;
        assert_eq!(made.code, 201, "{:?}", made.body);
    }
    // The server follows the objects: it knows of them soon.
    let guest = [("authorization", "Bearer guest")];
    let refused = loop {
        let reply = world.send("GET", "/version", &guest, "").await;
        if reply.code == 429 {
            break reply;
        }
    };
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.json()["reason"], "TooManyRequests");
    assert_eq!(world.get("/version").await.code, 200, "others are served");
    world.stop().await;
}

#[tokio::test]
async fn methods_that_objects_do_not_have_are_refused() {
    let mut world = World::new().await;
    for (method, path, code) in [
        ("HEAD", CMS, 405),
        ("OPTIONS", CMS, 405),
        ("PUT", CMS, 405),
        ("PATCH", CMS, 405),
        ("POST", "/api/v1/configmaps", 405),
        ("HEAD", "/healthz", 200),
        ("HEAD", "/version", 200),
        ("GET", "/api/v1/namespaces/default/configmaps/", 200),
    ] {
        let reply = world.send(method, path, &[], "").await;
        assert_eq!(reply.code, code, "{method} {path}: {:?}", reply.body);
        assert!(method != "HEAD" || reply.body.is_empty(), "{path}");
    }
    world.stop().await;
}

#[tokio::test]
async fn an_answer_is_indented_for_people() {
    let mut world = World::new().await;
    for (query, agent, indented) in [
        ("", "", false),
        ("?pretty=true", "", true),
        ("?pretty=1", "", true),
        ("?pretty=false", "curl/8.0", false),
        ("?pretty=0", "curl/8.0", false),
        ("", "curl/8.0", true),
        ("", "Wget/1.21", true),
        ("", "Mozilla/5.0 (X11)", true),
        ("", "kubectl/v1.36.4", false),
    ] {
        let headers = [("user-agent", agent)];
        for path in [
            CMS,
            "/api/v1/namespaces/default",
            "/version",
            "/api/v1/namespaces/default/configmaps/nope",
        ] {
            let reply = world.send("GET", &format!("{path}{query}"), &headers, "").await;
            let text = std::str::from_utf8(&reply.body).unwrap();
            // The version is always for people.
            let expect = indented || path == "/version";
            assert_eq!(text.starts_with("{\n  \""), expect, "{path}{query} {agent}: {text}");
        }
    }
    world.stop().await;
}

/// A body whose pieces come when they are sent.
type Slow = StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;

#[tokio::test]
async fn a_client_that_still_sends_gets_its_answer_and_may_finish() {
    let mut world = World::new().await;
    let mut sender = world.open_h2::<Slow>(("root", "system:masters")).await;
    let (pieces, waiting) = mpsc::channel::<Bytes>(1);
    let frames = stream::unfold(waiting, |mut waiting| async move {
        let piece = waiting.recv().await?;
        Some((Ok(Frame::data(piece)), waiting))
    });
    let request = Request::post(format!("https://localhost{CMS}"))
        .header("content-type", "text/plain")
        .body(StreamBody::new(frames.boxed()))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 415);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("unknown format"));
    // More than fits into the windows of flow control: somebody reads it.
    for n in 0..64 {
        let piece = Bytes::from(vec![b'x'; 64 << 10]);
        assert!(pieces.send(piece).await.is_ok(), "the stream was reset before piece {n}");
    }
    drop(pieces);
    world.stop().await;
}
