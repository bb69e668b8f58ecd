//! Custom resources over HTTP, from the definition to the deletion.

use serde_json::{Value, json};

use crate::harness::World;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const V1: &str = "/apis/stable.example.com/v1/namespaces/default/crontabs";
const V2: &str = "/apis/stable.example.com/v2/namespaces/default/crontabs";

fn definition() -> Value {
    let version = |name: &str, storage: bool, default: i64| {
        json!({
            "name": name, "served": true, "storage": storage,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {
                    "cronSpec": {"type": "string", "description": "When it runs."},
                    "replicas": {"type": "integer", "default": default, "maximum": 10},
                }},
                "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
            }}},
            "subresources": {"status": {}, "scale": {
                "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
            "additionalPrinterColumns": [
                {"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"}],
            "selectableFields": [{"jsonPath": ".spec.cronSpec"}],
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"]},
            "versions": [version("v1", true, 1), version("v2", false, 2)],
        },
    })
}

fn object(version: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": format!("stable.example.com/{version}"), "kind": "CronTab",
        "metadata": {"name": name}, "spec": spec,
    })
}

async fn defined() -> World {
    let mut world = World::new().await;
    let made = world.post(DEFINITIONS, &definition()).await;
    assert_eq!(made.code, 201, "{}", String::from_utf8_lossy(&made.body));
    assert_eq!(made.json()["status"]["storedVersions"], json!(["v1"]));
    world
}

#[tokio::test]
async fn a_definition_takes_effect_at_once() {
    let mut world = World::new().await;
    assert_eq!(world.get(V1).await.code, 404);
    let before = world.get("/openapi/v3").await;
    assert_eq!(world.post(DEFINITIONS, &definition()).await.code, 201);
    let made = world.post(V1, &object("v1", "a", json!({"cronSpec": "*"}))).await;
    assert_eq!(made.code, 201);
    assert_eq!(made.json()["spec"]["replicas"], 1);
    assert_eq!(made.json()["metadata"]["generation"], 1);
    let list = world.get("/apis/stable.example.com/v1").await.json();
    let names: Vec<&str> =
        list["resources"].as_array().unwrap().iter().filter_map(|it| it["name"].as_str()).collect();
    assert_eq!(names, ["crontabs", "crontabs/scale", "crontabs/status"]);
    assert_eq!(list["resources"][0]["shortNames"], json!(["ct"]));
    let after = world.get("/openapi/v3").await;
    assert_ne!(before.headers["etag"], after.headers["etag"]);
    let document = world.get("/openapi/v3/apis/stable.example.com/v2").await.json();
    let schema = &document["components"]["schemas"]["com.example.stable.v2.CronTab"];
    assert_eq!(
        schema["properties"]["spec"]["properties"]["cronSpec"]["description"],
        "When it runs."
    );
    world.stop().await;
}

#[tokio::test]
async fn versions_show_the_same_objects() {
    let mut world = defined().await;
    assert_eq!(world.post(V2, &object("v2", "a", json!({"cronSpec": "x"}))).await.code, 201);
    let one = world.get(&format!("{V1}/a")).await.json();
    assert_eq!(
        (&one["apiVersion"], &one["spec"]["replicas"]),
        (&json!("stable.example.com/v1"), &json!(2))
    );
    let list = world.get(&format!("{V2}?fieldSelector=spec.cronSpec%3Dx")).await.json();
    assert_eq!(list["kind"], "CronTabList");
    assert_eq!(list["items"][0]["apiVersion"], "stable.example.com/v2");
    assert_eq!(world.get(&format!("{V2}?fieldSelector=spec.x%3Dx")).await.code, 400);
    let watch = world.get(&format!("{V2}?watch=true&timeoutSeconds=1")).await;
    let first: Value =
        serde_json::from_slice(watch.body.split(|it| *it == b'\n').next().unwrap()).unwrap();
    assert_eq!(first["object"]["apiVersion"], "stable.example.com/v2");
    let table = world
        .send("GET", V1, &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")], "")
        .await
        .json();
    assert_eq!(table["rows"][0]["cells"], json!(["a", "x"]));
    world.stop().await;
}

#[tokio::test]
async fn parts_and_patches_follow_the_definition() {
    let mut world = defined().await;
    world.post(V1, &object("v1", "a", json!({"cronSpec": "x"}))).await;
    let patch = |kind: &'static str| [("content-type", kind)];
    let merge = patch("application/merge-patch+json");
    let at = format!("{V1}/a");
    let refused =
        world.send("PATCH", &at, &patch("application/strategic-merge-patch+json"), "{}").await;
    assert_eq!(refused.code, 415);
    let patched = world.send("PATCH", &at, &merge, r#"{"spec":{"replicas":3,"none":1}}"#).await;
    assert_eq!((patched.code, &patched.json()["metadata"]["generation"]), (200, &json!(2)));
    assert_eq!(patched.headers["warning"], "299 - \"unknown field \\\"spec.none\\\"\"");
    let wrong = world.send("PATCH", &at, &merge, r#"{"spec":{"replicas":11}}"#).await;
    assert_eq!(wrong.code, 422);
    assert_eq!(
        wrong.json()["message"],
        "CronTab.stable.example.com \"a\" is invalid: spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10"
    );
    let status = world
        .send(
            "PATCH",
            &format!("{at}/status"),
            &merge,
            r#"{"status":{"replicas":2},"spec":{"replicas":9},"metadata":{"labels":{"a":"b"},"finalizers":["a.b/c"]}}"#,
        )
        .await
        .json();
    // Who may write the status may write nothing else.
    let metadata = &status["metadata"];
    assert_eq!(json!([metadata["labels"], metadata["finalizers"]]), json!([null, null]));
    assert_eq!(
        (&status["status"]["replicas"], &status["spec"]["replicas"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(status["metadata"]["generation"], 2);
    let scaled =
        world.send("PATCH", &format!("{at}/scale"), &merge, r#"{"spec":{"replicas":5}}"#).await;
    let scale = scaled.json();
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(5)));
    let strict = world
        .post(&format!("{V1}?fieldValidation=Strict"), &object("v1", "b", json!({"p": 1})))
        .await;
    assert_eq!(strict.code, 400);
    assert!(
        strict.json()["message"]
            .as_str()
            .unwrap()
            .ends_with("strict decoding error: unknown field \"spec.p\"")
    );
    world.stop().await;
}

#[tokio::test]
async fn what_is_stored_follows_a_new_schema() {
    let mut world = defined().await;
    world.post(V1, &object("v1", "a", json!({"cronSpec": "x"}))).await;
    let mut definition =
        world.get(&format!("{DEFINITIONS}/crontabs.stable.example.com")).await.json();
    let properties = definition
        .pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties")
        .unwrap();
    properties["image"] = json!({"type": "string", "default": "new"});
    properties.as_object_mut().unwrap().remove("cronSpec");
    definition["spec"]["versions"][0]["selectableFields"] = json!([]);
    let json = [("content-type", "application/json")];
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let reply = world.send("PUT", &path, &json, &definition.to_string()).await;
    assert_eq!(reply.code, 200, "{}", reply.json());
    let spec = world.get(&format!("{V1}/a")).await.json()["spec"].clone();
    assert_eq!(spec, json!({"replicas": 1, "image": "new"}));
    let none = world.get(&format!("{V1}/none")).await.json();
    assert_eq!(none["message"], "crontabs.stable.example.com \"none\" not found");
    world.stop().await;
}

#[tokio::test]
async fn a_deleted_definition_takes_nothing_new() {
    let mut world = defined().await;
    world.post(V1, &object("v1", "a", json!({}))).await;
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let marked = world.send("DELETE", &path, &[], "").await.json();
    assert_eq!(
        marked["metadata"]["finalizers"],
        json!(["customresourcecleanup.apiextensions.k8s.io"])
    );
    let refused = world.post(V1, &object("v1", "b", json!({}))).await;
    assert_eq!(refused.code, 405);
    assert_eq!(
        refused.json()["message"],
        "create not allowed while custom resource definition is terminating"
    );
    assert_eq!(world.send("DELETE", &format!("{V1}/a"), &[], "").await.code, 200);
    let merge = [("content-type", "application/merge-patch+json")];
    let gone = world.send("PATCH", &path, &merge, r#"{"metadata":{"finalizers":null}}"#).await;
    assert_eq!(gone.code, 200);
    assert_eq!(world.get(&path).await.code, 404);
    assert_eq!(world.get(V1).await.code, 404);
    assert_eq!(world.get("/apis/stable.example.com").await.code, 404);
    world.stop().await;
}
