//! What is planned for a budget, case by case.

use serde_json::{Value, json};

use super::*;
use crate::testing::{now, world};

fn owned(name: &str, kind: &str, owner: &str, ready: bool) -> (Kind, Value) {
    let state = if ready { "True" } else { "False" };
    (
        Kind::POD,
        json!({
            "metadata": {"name": name, "labels": {"app": "web"}, "ownerReferences": [{
                "apiVersion": "v1", "kind": kind, "name": owner, "uid": owner, "controller": true,
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
    let world = world(objects);
    let key = Kind::BUDGET.key(&Name::new("default", "b"));
    let plan = DisruptionController.reconcile(&key, &world, now());
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
