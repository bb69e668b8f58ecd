//! What is planned for a StatefulSet, case by case.

use serde_json::{Value, json};

use super::*;
use crate::testing::{now, world};
use crate::value::set as put;

fn stateful(changes: &[(&[&str], Value)]) -> (Kind, Value) {
    let mut object = json!({
        "metadata": {"name": "s", "generation": 1},
        "spec": {
            "replicas": 3,
            "serviceName": "svc",
            "selector": {"matchLabels": {"app": "s"}},
            "template": {"metadata": {"labels": {"app": "s"}}, "spec": {"containers": []}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        },
    });
    for (path, value) in changes {
        put(&mut object, path, value.clone());
    }
    (Kind::STATEFUL_SET, object)
}

fn pod(ordinal: i64, revision: &str, state: &str) -> (Kind, Value) {
    let mut pod = json!({
        "metadata": {"name": format!("s-{ordinal}"), "labels": {"app": "s", history::HASH: revision}, "ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "s", "uid": "s", "controller": true,
        }]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-20T07:00:00Z"}]},
    });
    match state {
        "ready" => {}
        "ending" => pod["metadata"]["deletionTimestamp"] = json!("2026-11-20T08:00:00Z"),
        "Failed" | "Pending" => pod["status"] = json!({"phase": state}),
        "fresh" => {
            pod["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-11-20T07:59:59Z");
        }
        _ => pod["status"]["conditions"][0]["status"] = json!("False"),
    }
    (Kind::POD, pod)
}

/// The name of the revision of the template that `stateful` has.
fn revision() -> String {
    let world = world([stateful(&[])]);
    let set = world.get(Kind::STATEFUL_SET, &Name::new("default", "s")).unwrap();
    history::of(set, &world).name
}

fn plan_of(objects: Vec<(Kind, Value)>) -> Plan {
    let world = world(objects);
    let key = Kind::STATEFUL_SET.key(&Name::new("default", "s"));
    StatefulSetController.reconcile(&key, &world, now())
}

/// Which pods and claims are made and deleted.
fn check(objects: Vec<(Kind, Value)>, expect: &[&str]) {
    let plan = plan_of(objects);
    let line = |write: &Write| match write {
        Write::Create { kind, object, .. } if *kind != Kind::CONTROLLER_REVISION => {
            Some(format!("create {} {}", kind.plural, object["metadata"]["name"].as_str().unwrap()))
        }
        Write::Delete { target, .. } => Some(format!("delete {}", target.name.name)),
        Write::Create { .. } | Write::Note(_) | Write::Patch { .. } | Write::Replace { .. } => None,
    };
    let lines: Vec<String> = plan.writes.iter().filter_map(line).collect();
    assert_eq!(lines, expect);
}

fn with(set: (Kind, Value), pods: &[(i64, &str, &str)]) -> Vec<(Kind, Value)> {
    let pods = pods.iter().map(|(ordinal, revision, state)| pod(*ordinal, revision, state));
    std::iter::once(set).chain(pods).collect()
}

#[test]
fn pods_come_one_after_the_other() {
    let new = revision();
    check(with(stateful(&[]), &[]), &["create pods s-0"]);
    check(with(stateful(&[]), &[(0, &new, "waiting")]), &[]);
    check(with(stateful(&[]), &[(0, &new, "ready")]), &["create pods s-1"]);
    check(with(stateful(&[]), &[(0, &new, "ready"), (2, &new, "ready")]), &["create pods s-1"]);
    check(with(stateful(&[]), &[(0, &new, "Failed")]), &["delete s-0"]);
    check(with(stateful(&[]), &[(0, &new, "ending")]), &[]);
    let parallel: &[(&[&str], Value)] = &[(&["spec", "podManagementPolicy"], json!("Parallel"))];
    check(
        with(stateful(parallel), &[]),
        &["create pods s-0", "create pods s-1", "create pods s-2"],
    );
    let late: &[(&[&str], Value)] = &[(&["spec", "ordinals"], json!({"start": 5}))];
    check(with(stateful(late), &[]), &["create pods s-5"]);
}

#[test]
fn pods_go_from_the_last() {
    let new = revision();
    let one: &[(&[&str], Value)] = &[(&["spec", "replicas"], json!(1))];
    let all = |a: &'static str, b: &'static str, c: &'static str| {
        with(stateful(one), &[(0, &new, a), (1, &new, b), (2, &new, c)])
    };
    check(all("ready", "ready", "ready"), &["delete s-2"]);
    check(all("ready", "ready", "ending"), &[]);
    check(all("ready", "waiting", "ready"), &["delete s-2"]);
    check(all("waiting", "ready", "ready"), &[]);
}

#[test]
fn updates_go_from_the_last_and_stop_at_the_partition() {
    let new = revision();
    let all = |set: (Kind, Value), revisions: [&str; 3], state: &str| {
        let [a, b, c] = revisions;
        with(set, &[(0, a, "ready"), (1, b, "ready"), (2, c, state)])
    };
    check(all(stateful(&[]), ["old", "old", "old"], "ready"), &["delete s-2"]);
    check(all(stateful(&[]), ["old", "old", &new], "waiting"), &[]);
    check(all(stateful(&[]), ["old", "old", &new], "ready"), &["delete s-1"]);
    let rolling = ["spec", "updateStrategy", "rollingUpdate"];
    let two: &[(&[&str], Value)] = &[(&rolling, json!({"partition": 2}))];
    check(all(stateful(two), ["old", "old", &new], "ready"), &[]);
    let wide: &[(&[&str], Value)] = &[(&rolling, json!({"maxUnavailable": 2}))];
    check(all(stateful(wide), ["old", "old", "old"], "ready"), &["delete s-2", "delete s-1"]);
    let by_hand: &[(&[&str], Value)] =
        &[(&["spec", "updateStrategy"], json!({"type": "OnDelete"}))];
    check(all(stateful(by_hand), ["old", "old", "old"], "ready"), &[]);
}

#[test]
fn parallel_updates_take_no_more_away_than_they_may() {
    fn set(changes: &[(&[&str], Value)]) -> (Kind, Value) {
        let (kind, mut set) = stateful(changes);
        put(&mut set, &["spec", "podManagementPolicy"], json!("Parallel"));
        (kind, set)
    }
    let (old, new) = ("old", revision());
    // The one that is made again is away as well.
    check(with(set(&[]), &[(0, old, "ready"), (1, old, "ready")]), &["create pods s-2"]);
    check(
        with(set(&[]), &[(0, old, "ready"), (1, old, "ready"), (2, &new, "ready")]),
        &["delete s-1"],
    );
    let slow = set(&[(&["spec", "minReadySeconds"], json!(10))]);
    check(with(slow.clone(), &[(0, old, "ready"), (1, old, "ready"), (2, &new, "fresh")]), &[]);
    // They serve, though none of them counts yet.
    check(with(slow, &[(0, old, "fresh"), (1, old, "fresh"), (2, old, "fresh")]), &[]);
    let rolling = ["spec", "updateStrategy", "rollingUpdate"];
    let part = set(&[(&rolling, json!({"partition": 1}))]);
    check(with(part, &[(0, old, "waiting"), (1, old, "ready"), (2, old, "ready")]), &[]);
    // Pods of a template that does not work make room for those of one that does.
    check(
        with(set(&[]), &[(0, old, "waiting"), (1, old, "ready"), (2, old, "waiting")]),
        &["delete s-2", "delete s-0"],
    );
    check(
        with(set(&[]), &[(0, old, "ready"), (1, old, "ready"), (2, old, "Failed")]),
        &["delete s-2"],
    );
}

#[test]
fn a_pod_below_the_partition_is_made_again_as_it_was() {
    let old = json!({"metadata": {"labels": {"app": "s"}}, "spec": {"containers": [], "old": true}, "$patch": "replace"});
    let stored = (
        Kind::CONTROLLER_REVISION,
        json!({
            "metadata": {"name": "s-before", "labels": {history::HASH: "before"}, "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "s", "uid": "s", "controller": true,
            }]},
            "data": {"spec": {"template": old}},
            "revision": 1,
        }),
    );
    let set = stateful(&[
        (&["spec", "updateStrategy", "rollingUpdate"], json!({"partition": 3})),
        (&["status", "currentRevision"], json!("s-before")),
    ]);
    let plan = plan_of(vec![set, stored]);
    let made = plan.writes.iter().find_map(|write| match write {
        Write::Create { kind, object, .. } if *kind == Kind::POD => Some(object),
        Write::Create { .. }
        | Write::Delete { .. }
        | Write::Note(_)
        | Write::Patch { .. }
        | Write::Replace { .. } => None,
    });
    let made = made.unwrap();
    assert_eq!(made["metadata"]["labels"][history::HASH], "s-before");
    assert_eq!(made["spec"]["old"], true);
    assert_eq!(
        (&made["spec"]["hostname"], &made["spec"]["subdomain"]),
        (&json!("s-0"), &json!("svc"))
    );
}

#[test]
fn claims_are_made_before_their_pod() {
    let claims =
        json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]);
    let set = stateful(&[(&["spec", "volumeClaimTemplates"], claims)]);
    check(vec![set.clone()], &["create persistentvolumeclaims data-s-0", "create pods s-0"]);
    let claim = (Kind::VOLUME_CLAIM, json!({"metadata": {"name": "data-s-0"}}));
    check(vec![set, claim], &["create pods s-0"]);
}

#[test]
fn the_status_counts_revisions_and_closes_an_update() {
    let new = revision();
    let status = |pods: &[(i64, &str, &str)]| {
        let mut objects =
            with(stateful(&[(&["status", "currentRevision"], json!("s-before"))]), pods);
        objects.push((
            Kind::CONTROLLER_REVISION,
            json!({"metadata": {"name": "s-before", "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "s", "uid": "s", "controller": true,
            }]}, "data": {}, "revision": 1}),
        ));
        let plan = plan_of(objects);
        plan.writes
            .iter()
            .find_map(|write| match write {
                Write::Patch { subresource: Some("status"), patch, .. } => {
                    Some(patch["status"].clone())
                }
                Write::Create { .. }
                | Write::Delete { .. }
                | Write::Note(_)
                | Write::Patch { .. }
                | Write::Replace { .. } => None,
            })
            .unwrap()
    };
    let half = status(&[(0, "s-before", "ready"), (1, "s-before", "ready"), (2, &new, "ready")]);
    assert_eq!(
        (&half["currentReplicas"], &half["updatedReplicas"], &half["updateRevision"]),
        (&json!(2), &json!(1), &json!(new))
    );
    assert_eq!(half.get("currentRevision"), None);
    assert_eq!(status(&[]).get("currentRevision"), None, "no pod is of any revision");
    let few = status(&[(0, &new, "ready"), (1, &new, "ready")]);
    assert_eq!(few.get("currentRevision"), None);
    let done = status(&[(0, &new, "ready"), (1, &new, "ready"), (2, &new, "ready")]);
    assert_eq!((&done["currentReplicas"], &done["currentRevision"]), (&json!(3), &json!(new)));
}

/// The revision of the template that `stateful` has, as it is left when its set goes without it.
fn left() -> (Kind, Value) {
    let made = plan_of(vec![stateful(&[])]).writes.into_iter().find_map(|write| {
        let Write::Create { kind: Kind::CONTROLLER_REVISION, object, .. } = write else {
            return None;
        };
        Some(object)
    });
    let mut made = made.unwrap();
    object_mut(&mut made["metadata"]).remove("ownerReferences");
    (Kind::CONTROLLER_REVISION, made)
}

#[test]
fn a_set_that_is_made_again_takes_over_what_it_left() {
    let name = revision();
    let objects = || {
        let mut pod = pod(0, &name, "ready");
        object_mut(&mut pod.1["metadata"]).remove("ownerReferences");
        vec![stateful(&[(&["spec", "replicas"], json!(1))]), left(), pod]
    };
    let text = crate::testing::text(&plan_of(objects()));
    assert!(text.contains(&format!("patch controllerrevisions.apps default/{name} ")), "{text}");
    assert!(text.contains("patch pods default/s-0 "), "{text}");
    assert!(!text.contains("create ") && !text.contains("delete "), "{text}");

    let world = world(objects());
    let (set, revision) = (Kind::STATEFUL_SET, Kind::CONTROLLER_REVISION);
    let found: &Object = world.get(revision, &Name::new("default", &name)).unwrap();
    let change = Change { kind: revision, old: None, new: Some(found) };
    let woken = StatefulSetController.affected(&change, &world);
    assert_eq!(woken, [set.key(&Name::new("default", "s"))]);

    // One that goes leaves them alone.
    let going = stateful(&[(&["metadata", "deletionTimestamp"], json!("2026-11-20T08:00:00Z"))]);
    let text = crate::testing::text(&plan_of(vec![going, left()]));
    assert!(!text.contains("controllerrevisions"), "{text}");
}

#[test]
fn a_name_that_is_taken_is_passed_over() {
    let made = |others: Vec<(Kind, Value)>| {
        let mut taken = left();
        taken.1["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "t", "uid": "t", "controller": true,
        }]);
        let mut objects = vec![stateful(&[]), taken];
        objects.extend(others);
        let plan = plan_of(objects);
        let name = plan.writes.iter().find_map(|write| match write {
            Write::Create { kind: Kind::CONTROLLER_REVISION, object, .. } => {
                Some(object["metadata"]["name"].as_str().unwrap().to_owned())
            }
            Write::Create { .. }
            | Write::Delete { .. }
            | Write::Note(_)
            | Write::Patch { .. }
            | Write::Replace { .. } => None,
        });
        let collisions = plan.writes.iter().find_map(|write| match write {
            Write::Patch { subresource: Some("status"), patch, .. } => {
                patch["status"]["collisionCount"].as_i64()
            }
            Write::Create { .. }
            | Write::Delete { .. }
            | Write::Note(_)
            | Write::Patch { .. }
            | Write::Replace { .. } => None,
        });
        (name.unwrap(), collisions)
    };
    let other = (Kind::STATEFUL_SET, json!({"metadata": {"name": "t"}}));
    let (name, collisions) = made(vec![other]);
    assert_ne!(name, revision());
    assert_eq!(collisions, Some(1));
    // What the garbage collector is about to remove is waited for.
    assert_eq!(made(Vec::new()), (revision(), Some(0)));
}
