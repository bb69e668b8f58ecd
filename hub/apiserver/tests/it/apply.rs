//! Server-side apply over HTTP, and the managed fields of every other write.

use serde_json::{Value, json};

use crate::harness::{Reply, World};

const CMS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const YAML: &[(&str, &str)] = &[("content-type", "application/apply-patch+yaml")];
const MERGE: &[(&str, &str)] =
    &[("content-type", "application/merge-patch+json"), ("user-agent", "editor/1.0 (linux)")];

async fn apply(world: &mut World, path: &str, query: &str, body: &Value) -> Reply {
    world.send("PATCH", &format!("{path}?{query}"), YAML, &body.to_string()).await
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

fn deployment(replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    })
}

/// Manager, subresource and fields of each entry.
fn owners(object: &Value) -> Vec<(String, String, Value)> {
    let text = |it: &Value, key: &str| it[key].as_str().unwrap_or_default().to_owned();
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries
        .map(|it| (text(it, "manager"), text(it, "subresource"), it["fieldsV1"].clone()))
        .collect()
}

fn owner(manager: &str, fields: Value) -> (String, String, Value) {
    (manager.to_owned(), String::new(), fields)
}

#[tokio::test]
async fn appliers_share_conflict_and_force() {
    let mut world = World::new().await;
    let path = &format!("{CMS}/a");
    let made = apply(&mut world, path, "fieldManager=one", &config_map(json!({"k": "1"}))).await;
    assert_eq!(made.code, 201);
    let first = made.json();
    assert_eq!(owners(&first), [owner("one", json!({"f:data": {"f:k": {}}}))]);
    let again = apply(&mut world, path, "fieldManager=one", &config_map(json!({"k": "1"}))).await;
    assert_eq!(
        (again.code, again.json()),
        (200, first.clone()),
        "nothing changed, nothing is written"
    );
    let refused = apply(&mut world, path, "fieldManager=two", &config_map(json!({"k": "2"}))).await;
    assert_eq!(refused.code, 409);
    assert_eq!(
        refused.json()["message"],
        "Apply failed with 1 conflict: conflict with \"one\": .data.k"
    );
    let dry = apply(
        &mut world,
        path,
        "fieldManager=two&force=true&dryRun=All",
        &config_map(json!({"k": "2"})),
    )
    .await;
    assert_eq!((dry.code, dry.json()["data"]["k"].clone()), (200, json!("2")));
    let forced =
        apply(&mut world, path, "fieldManager=two&force=true", &config_map(json!({"k": "2"})))
            .await;
    assert_eq!(owners(&forced.json()), [owner("two", json!({"f:data": {"f:k": {}}}))]);
    let gone = apply(&mut world, path, "fieldManager=two", &config_map(json!({}))).await.json();
    assert_eq!(gone.get("data"), None);
    world.stop().await;
}

#[tokio::test]
async fn applies_that_cannot_be_are_refused() {
    let mut world = World::new().await;
    let path = &format!("{CMS}/a");
    for (query, body, code, message) in [
        (
            "",
            config_map(json!({})),
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ),
        (
            "fieldManager=m",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "managedFields": []}}),
            400,
            "metadata.managedFields must be nil",
        ),
        (
            "fieldManager=m",
            json!({"apiVersion": "apps/v1", "kind": "ConfigMap", "metadata": {"name": "a"}}),
            400,
            "invalid object type: apps/v1, Kind=ConfigMap",
        ),
        (
            "fieldManager=m",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "a"}}),
            400,
            "the name of the object (a based on URL) was undeterminable: name must be provided",
        ),
        (
            "fieldManager=m",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "u"}}),
            409,
            "Operation cannot be fulfilled on configmaps \"a\": uid mismatch: the provided object specified uid u, and no existing object was found",
        ),
        (
            "fieldManager=m",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "foo": {}}),
            500,
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .foo: field not declared in schema",
        ),
    ] {
        let reply = apply(&mut world, path, query, &body).await;
        assert_eq!(
            (reply.code, &*reply.json()["message"].to_string()),
            (code, &*json!(message).to_string())
        );
    }
    let absent =
        apply(&mut world, &format!("{DEPLOYMENTS}/web/status"), "fieldManager=m", &deployment(1))
            .await;
    assert_eq!(absent.code, 404);
    let force = world.send("PATCH", &format!("{path}?force=true"), MERGE, "{}").await;
    assert_eq!(
        force.json()["message"],
        "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
    );
    world.stop().await;
}

#[tokio::test]
async fn every_write_names_its_manager_and_its_part() {
    let mut world = World::new().await;
    let path = &format!("{DEPLOYMENTS}/web");
    let made = apply(&mut world, path, "fieldManager=one", &deployment(1)).await;
    assert_eq!(made.code, 201, "{:?}", made.body);
    let scaled = r#"{"spec":{"replicas":3}}"#;
    assert_eq!(world.send("PATCH", &format!("{path}/scale"), MERGE, scaled).await.code, 200);
    let status = r#"{"status":{"replicas":1},"spec":{"paused":true}}"#;
    assert_eq!(world.send("PATCH", &format!("{path}/status"), MERGE, status).await.code, 200);
    let now = world.get(path).await.json();
    assert_eq!(now["spec"]["replicas"], 3);
    let found = owners(&now);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[0].2["f:spec"].get("f:replicas"), None, "taken by the scale");
    let scale = ("editor".to_owned(), "scale".to_owned(), json!({"f:spec": {"f:replicas": {}}}));
    let status =
        ("editor".to_owned(), "status".to_owned(), json!({"f:status": {"f:replicas": {}}}));
    assert!(found.contains(&scale) && found.contains(&status), "{found:?}");
    let refused = apply(&mut world, path, "fieldManager=one", &deployment(2)).await;
    assert_eq!(
        refused.json()["message"],
        "Apply failed with 1 conflict: conflict with \"editor\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    let body = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 5}});
    let scale = &format!("{path}/scale");
    let refused = apply(&mut world, scale, "fieldManager=two", &body).await;
    assert_eq!(refused.code, 409);
    let scaled = apply(&mut world, scale, "fieldManager=two&force=true", &body).await;
    assert_eq!((scaled.code, scaled.json()["spec"]["replicas"].clone()), (200, json!(5)));
    let found = owners(&world.get(path).await.json());
    let two = ("two".to_owned(), "scale".to_owned(), json!({"f:spec": {"f:replicas": {}}}));
    assert!(found.contains(&two), "{found:?}");
    world.stop().await;
}

#[tokio::test]
async fn entries_can_be_forgotten_and_idle_writes_change_nothing() {
    let mut world = World::new().await;
    let path = &format!("{CMS}/a");
    let made = world.post(CMS, &config_map(json!({"k": "1"}))).await.json();
    let same = world.send("PATCH", path, MERGE, r#"{"data":{"k":"1"}}"#).await.json();
    assert_eq!(same, made);
    let changed = world.send("PATCH", path, MERGE, r#"{"data":{"k":"2"}}"#).await.json();
    assert!(owners(&changed).contains(&owner("editor", json!({"f:data": {"f:k": {}}}))));
    for reset in ["[]", "[{}]"] {
        let body = format!(r#"{{"metadata":{{"managedFields":{reset}}}}}"#);
        let after = world.send("PATCH", path, MERGE, &body).await.json();
        assert_eq!(after["metadata"].get("managedFields"), None);
    }
    let one =
        apply(&mut world, path, "fieldManager=one", &config_map(json!({"l": "1"}))).await.json();
    assert_eq!(
        owners(&one),
        [
            owner("one", json!({"f:data": {"f:l": {}}})),
            owner("before-first-apply", json!({"f:data": {".": {}, "f:k": {}}})),
        ]
    );
    world.stop().await;
}
