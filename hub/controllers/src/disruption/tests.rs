//! What is planned for a budget, case by case.

use serde_json::{Value, json};

use super::*;
use crate::testing::{now, world};

fn owned(name: &str, kind: &str, owner: &str, ready: bool) -> (Kind, Value) {
    let state = if ready { "True" } else { "False" };
    let version = match kind {
        "Fleet" => "example.com/v1",
        "Job" => "batch/v1",
        _ => "apps/v1",
    };
    (
        Kind::POD,
        json!({
            "metadata": {"name": name, "labels": {"app": "web"}, "ownerReferences": [{
                "apiVersion": version, "kind": kind, "name": owner, "uid": owner, "controller": true,
            }]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": state}]},
        }),
    )
}

fn budget(spec: Value, status: Value) -> (Kind, Value) {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    (
        Kind::BUDGET,
        json!({"metadata": {"name": "b", "generation": 3}, "spec": spec, "status": status}),
    )
}

/// Expected, desired, current and allowed, and the reason of the condition.
fn check(objects: Vec<(Kind, Value)>, expect: (i64, i64, i64, i64, &str)) {
    check_in(&world(objects), expect);
}

fn check_in(world: &World, expect: (i64, i64, i64, i64, &str)) {
    let key = Kind::BUDGET.key(&Name::new("default", "b"));
    let plan = DisruptionController.reconcile(&key, world, now());
    let status = plan.writes.iter().find_map(|write| {
        let Write::Patch { patch, subresource: Some("status"), .. } = write else { return None };
        Some(&patch["status"])
    });
    let status = status.unwrap();
    let number = |field: &str| status[field].as_i64().unwrap_or_default();
    let found = (
        number("expectedPods"),
        number("desiredHealthy"),
        number("currentHealthy"),
        number("disruptionsAllowed"),
        status["conditions"][0]["reason"].as_str().unwrap(),
    );
    assert_eq!(found, expect);
}

#[test]
fn budgets_count_what_their_controllers_want() {
    let set = |name: &str, kind: Kind, replicas: i64| {
        (kind, json!({"metadata": {"name": name}, "spec": {"replicas": replicas}}))
    };
    let pods = |ready: usize, all: usize| -> Vec<(Kind, Value)> {
        (0..all).map(|i| owned(&format!("p{i}"), "ReplicaSet", "rs", i < ready)).collect()
    };
    let with = |spec: Value, ready: usize, all: usize, replicas: i64| {
        let mut objects = pods(ready, all);
        objects.push(set("rs", Kind::REPLICA_SET, replicas));
        objects.push(budget(spec, json!({})));
        objects
    };
    check(with(json!({"minAvailable": 2}), 3, 3, 3), (3, 2, 3, 1, "SufficientPods"));
    check(with(json!({"minAvailable": "50%"}), 3, 3, 5), (5, 3, 3, 0, "InsufficientPods"));
    check(with(json!({"maxUnavailable": "10%"}), 5, 5, 5), (5, 4, 5, 1, "SufficientPods"));
    check(with(json!({"maxUnavailable": 9}), 5, 5, 5), (5, 0, 5, 5, "SufficientPods"));
    check(with(json!({"maxUnavailable": 1}), 2, 3, 3), (3, 2, 2, 0, "InsufficientPods"));
    check(vec![budget(json!({"maxUnavailable": 1}), json!({}))], (0, 0, 0, 0, "InsufficientPods"));
}

#[test]
fn a_deployment_above_decides_and_a_stranger_cannot() {
    let mut set = json!({"metadata": {"name": "rs"}, "spec": {"replicas": 1}});
    set["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "d", "controller": true,
    }]);
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 4}});
    check(
        vec![
            owned("p", "ReplicaSet", "rs", true),
            (Kind::REPLICA_SET, set),
            (Kind::DEPLOYMENT, deployment),
            budget(json!({"maxUnavailable": 3}), json!({})),
        ],
        (4, 1, 1, 0, "InsufficientPods"),
    );
    check(
        vec![owned("p", "Job", "j", true), budget(json!({"maxUnavailable": 3}), json!({}))],
        (0, 0, 0, 0, "SyncFailed"),
    );
}

/// A definition of fleets, which say how many pods they want where `path` points.
fn fleets(path: &str) -> (Kind, Value) {
    let scale = json!({"scale": {"specReplicasPath": path}});
    let mut versions = json!([{"name": "v1alpha1"}, {"name": "v1"}]);
    if !path.is_empty() {
        versions[1]["subresources"] = scale;
    }
    let metadata = json!({"name": "fleets.example.com"});
    let definition = json!({"metadata": metadata, "spec": {"versions": versions}});
    (Kind::CUSTOM_RESOURCE_DEFINITION, definition)
}

#[test]
fn custom_resources_say_where_their_definition_points_how_many_pods_they_want() {
    let kind = Kind::made("example.com", "fleets");
    let fleet = |wanted: i64| {
        let metadata =
            json!({"name": "f", "namespace": "default", "uid": "f", "resourceVersion": "7"});
        Object::from_value(kind, json!({"metadata": metadata, "spec": {"size": {"pods": wanted}}}))
    };
    let world = |path: &str| {
        let mut world = world([
            owned("p", "Fleet", "f", true),
            fleets(path),
            budget(json!({"maxUnavailable": 1}), json!({})),
        ]);
        world.add_kind(crate::KindRow {
            kind,
            api_version: "example.com/v1".to_owned(),
            object_kind: "Fleet".to_owned(),
            namespaced: true,
        });
        world.put(fleet(5), now());
        world
    };
    let scaled = world(".spec.size.pods");
    check_in(&scaled, (5, 4, 1, 0, "InsufficientPods"));
    check_in(&world(".spec.nothing"), (0, 0, 0, 0, "SyncFailed"));
    check_in(&world(""), (0, 0, 0, 0, "SyncFailed"));

    let key = Kind::BUDGET.key(&Name::new("default", "b"));
    let woken = |kind: Kind, old: &Object, new: &Object| {
        let change = Change { kind, old: Some(old), new: Some(new) };
        DisruptionController.affected(&change, &scaled)
    };
    assert_eq!(woken(kind, &fleet(5), &fleet(6)), std::slice::from_ref(&key));
    assert_eq!(woken(kind, &fleet(5), &fleet(5)), []);
    let definition = |path: &str| {
        let (kind, value) = fleets(path);
        Object::from_value(kind, value)
    };
    let definitions = Kind::CUSTOM_RESOURCE_DEFINITION;
    let (old, new) = (definition(""), definition(".spec.size.pods"));
    assert_eq!(woken(definitions, &old, &new), [key]);
    assert_eq!(woken(definitions, &new, &new), []);
}

#[test]
fn a_kind_is_told_by_its_group() {
    // OpenKruise has another StatefulSet.
    let mut pod = owned("p", "StatefulSet", "s", true);
    pod.1["metadata"]["ownerReferences"][0]["apiVersion"] = json!("apps.kruise.io/v1beta1");
    let set = (Kind::STATEFUL_SET, json!({"metadata": {"name": "s"}, "spec": {"replicas": 3}}));
    let budget = budget(json!({"maxUnavailable": 1}), json!({}));
    check(vec![pod, set, budget], (0, 0, 0, 0, "SyncFailed"));
}

#[test]
fn evicted_pods_are_remembered_until_they_go() {
    let evicted = |since: &str| {
        let status = json!({"disruptedPods": {"p0": since, "gone": since}});
        let world = world([
            owned("p0", "ReplicaSet", "rs", true),
            owned("p1", "ReplicaSet", "rs", true),
            budget(json!({"minAvailable": 1}), status),
        ]);
        let key = Kind::BUDGET.key(&Name::new("default", "b"));
        let plan = DisruptionController.reconcile(&key, &world, now());
        crate::testing::text(&plan)
    };
    let fresh = evicted("2026-11-20T07:59:00Z");
    assert!(fresh.contains("\"currentHealthy\":1"), "{fresh}");
    assert!(fresh.contains("\"disruptedPods\":{\"gone\":null}"), "{fresh}");
    assert!(fresh.contains("recheck at 2026-11-20T08:01:00Z"), "{fresh}");
    let old = evicted("2026-11-20T07:57:00Z");
    assert!(old.contains("\"currentHealthy\":2"), "{old}");
}
