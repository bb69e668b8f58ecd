//! What is planned for a DaemonSet, case by case.

use serde_json::{Value, json};

use super::*;
use crate::testing::{now, world};
use crate::value::set as put;

fn node(name: &str, labels: Value, taints: Value) -> (Kind, Value) {
    (Kind::NODE, json!({"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}}))
}

fn daemon(changes: &[(&[&str], Value)]) -> (Kind, Value) {
    let mut object = json!({
        "metadata": {"name": "d", "generation": 1},
        "spec": {
            "selector": {"matchLabels": {"app": "d"}},
            "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": []}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
        },
    });
    for (path, value) in changes {
        put(&mut object, path, value.clone());
    }
    (Kind::DAEMON_SET, object)
}

fn pod(name: &str, node: &str, hash: &str, ready: bool) -> (Kind, Value) {
    let state = if ready { "True" } else { "False" };
    (
        Kind::POD,
        json!({
            "metadata": {"name": name, "labels": {"app": "d", history::HASH: hash}, "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "d", "controller": true,
            }]},
            "spec": {"nodeName": node},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": state, "lastTransitionTime": "2026-11-20T07:00:00Z"}]},
        }),
    )
}

/// The hash of the template that `daemon` has.
fn hash(objects: &[(Kind, Value)]) -> String {
    let world = world(objects.to_vec());
    let set = world.get(Kind::DAEMON_SET, &Name::new("default", "d")).unwrap();
    history::of(set, &world).hash
}

/// Which pods are made and deleted, and the counts of the status.
fn check(objects: Vec<(Kind, Value)>, expect: &[&str]) {
    let world = world(objects);
    let key = Kind::DAEMON_SET.key(&Name::new("default", "d"));
    let plan = DaemonSetController.reconcile(&key, &world, now());
    let line = |write: &Write| match write {
        Write::Create { kind, object, .. } if *kind == Kind::POD => {
            let made = Object::from_value(Kind::POD, object.clone());
            Some(format!("create on {}", node_of(&made).unwrap()))
        }
        Write::Delete { target, .. } => Some(format!("delete {}", target.name.name)),
        Write::Patch { patch, subresource: Some("status"), .. } => {
            let count = |field: &str| patch["status"][field].as_i64().unwrap_or_default();
            Some(format!(
                "desired {} current {} wrong {} ready {} updated {}",
                count("desiredNumberScheduled"),
                count("currentNumberScheduled"),
                count("numberMisscheduled"),
                count("numberReady"),
                count("updatedNumberScheduled"),
            ))
        }
        Write::Create { .. } | Write::Note(_) | Write::Patch { .. } | Write::Replace { .. } => None,
    };
    let lines: Vec<String> = plan.writes.iter().filter_map(line).collect();
    assert_eq!(lines, expect);
}

#[test]
fn every_node_that_fits_gets_a_pod() {
    let away = json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]);
    let foreign = json!([{"key": "gpu", "effect": "NoSchedule"}]);
    let evicting = json!([{"key": "gpu", "effect": "NoExecute"}]);
    let nodes = || {
        vec![
            node("a", json!({"disk": "ssd"}), json!([])),
            node("b", json!({}), away.clone()),
            node("c", json!({"disk": "ssd"}), foreign.clone()),
            node("e", json!({}), evicting.clone()),
        ]
    };
    let with = |set: (Kind, Value), pods: Vec<(Kind, Value)>| {
        let mut objects = nodes();
        objects.push(set);
        objects.extend(pods);
        objects
    };
    check(
        with(daemon(&[]), vec![]),
        &["create on a", "create on b", "desired 2 current 0 wrong 0 ready 0 updated 0"],
    );
    let ssd: &[(&[&str], Value)] =
        &[(&["spec", "template", "spec", "nodeSelector"], json!({"disk": "ssd"}))];
    check(
        with(daemon(ssd), vec![]),
        &["create on a", "desired 1 current 0 wrong 0 ready 0 updated 0"],
    );
    // What runs on a node that takes no new pods stays, but for a taint that evicts.
    let is = hash(&[daemon(&[])]);
    let pods = ["a", "b", "c", "e"].map(|it| pod(it, it, &is, true)).to_vec();
    check(with(daemon(&[]), pods), &["delete e", "desired 2 current 2 wrong 2 ready 2 updated 2"]);
}

#[test]
fn old_pods_are_replaced_a_few_at_a_time() {
    let nodes = || ["a", "b", "c"].map(|it| node(it, json!({}), json!([]))).to_vec();
    let is = hash(&[daemon(&[])]);
    let with = |set: (Kind, Value), pods: Vec<(Kind, Value)>| {
        let mut objects = nodes();
        objects.push(set);
        objects.extend(pods);
        objects
    };
    let old = |it: &str, ready: bool| pod(it, it, "old", ready);
    check(
        with(daemon(&[]), vec![old("a", true), old("b", true), old("c", true)]),
        &["delete a", "desired 3 current 3 wrong 0 ready 3 updated 0"],
    );
    // One that is away already goes first, and nothing else may be away then.
    check(
        with(daemon(&[]), vec![old("a", true), old("b", false), old("c", true)]),
        &["delete b", "desired 3 current 3 wrong 0 ready 2 updated 0"],
    );
    check(
        with(daemon(&[]), vec![pod("a", "a", &is, false), old("b", true), old("c", true)]),
        &["desired 3 current 3 wrong 0 ready 2 updated 1"],
    );
    let on_delete: &[(&[&str], Value)] =
        &[(&["spec", "updateStrategy"], json!({"type": "OnDelete"}))];
    check(
        with(daemon(on_delete), vec![old("a", true), old("b", true), old("c", true)]),
        &["desired 3 current 3 wrong 0 ready 3 updated 0"],
    );
    let surge: &[(&[&str], Value)] = &[(
        &["spec", "updateStrategy", "rollingUpdate"],
        json!({"maxSurge": 1, "maxUnavailable": 0}),
    )];
    let all = || vec![old("a", true), old("b", true), old("c", true)];
    check(
        with(daemon(surge), all()),
        &["create on a", "desired 3 current 3 wrong 0 ready 3 updated 0"],
    );
    let mut beside = all();
    beside.push(pod("new", "a", &is, true));
    check(
        with(daemon(surge), beside),
        &["delete a", "create on b", "desired 3 current 3 wrong 0 ready 3 updated 0"],
    );
}

#[test]
fn two_pods_and_failed_pods_of_a_node_do_not_stay() {
    let is = hash(&[daemon(&[])]);
    let mut failed = pod("f", "b", &is, false);
    failed.1["status"]["phase"] = json!("Failed");
    failed.1["metadata"]["creationTimestamp"] = json!("2026-11-20T07:00:00Z");
    check(
        vec![
            node("a", json!({}), json!([])),
            node("b", json!({}), json!([])),
            daemon(&[]),
            pod("x", "a", &is, true),
            pod("y", "a", &is, true),
            failed,
        ],
        &["delete y", "delete f", "desired 2 current 2 wrong 0 ready 1 updated 2"],
    );
}

#[test]
fn a_revision_that_nobody_owns_is_taken_over() {
    let world = world([daemon(&[])]);
    let key = Kind::DAEMON_SET.key(&Name::new("default", "d"));
    let plan = DaemonSetController.reconcile(&key, &world, now());
    let made = plan.writes.into_iter().find_map(|write| {
        let Write::Create { object, .. } = write else { return None };
        Some(object)
    });
    let mut made = made.unwrap();
    object_mut(&mut made["metadata"]).remove("ownerReferences");
    let world = crate::testing::world([daemon(&[]), (Kind::CONTROLLER_REVISION, made.clone())]);
    let text = crate::testing::plan(&DaemonSetController, &key, &world);
    assert!(text.starts_with("patch controllerrevisions.apps default/d-"), "{text}");
    assert!(!text.contains("create "), "{text}");

    let made = Object::from_value(Kind::CONTROLLER_REVISION, made);
    let change = Change { kind: made.kind, old: None, new: Some(&made) };
    assert_eq!(DaemonSetController.affected(&change, &world), [key]);
}
