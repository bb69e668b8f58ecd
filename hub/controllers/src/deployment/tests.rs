//! What is planned for a Deployment, case by case.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::testing::{plan, world};
use crate::value::set;

/// A Deployment that has been observed and tells nothing yet, with changes.
fn deployment(changes: &[(&[&str], Value)]) -> (Kind, Value) {
    let mut object = json!({
        "metadata": {"name": "web", "generation": 1},
        "spec": {
            "replicas": 10,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template("new"),
            "strategy": {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}},
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": 600,
        },
        "status": {"observedGeneration": 1},
    });
    for (path, value) in changes {
        set(&mut object, path, value.clone());
    }
    (Kind::DEPLOYMENT, object)
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"image": image}})
}

/// A replica set of the Deployment: name, image, desired, available and when it was made.
fn set_of(name: &str, image: &str, desired: i64, available: i64, revision: i64) -> (Kind, Value) {
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "web",
        "controller": true,
    });
    let annotations = json!({
        REVISION: revision.to_string(),
        "deployment.kubernetes.io/desired-replicas": "10",
        "deployment.kubernetes.io/max-replicas": "13",
    });
    let mut labels = template(image)["metadata"]["labels"].clone();
    labels[template::HASH_LABEL] = json!(name);
    let object = json!({
        "metadata": {
            "name": name, "labels": labels, "ownerReferences": [owner], "generation": 1,
            "annotations": annotations,
            "creationTimestamp": format!("2026-11-20T07:00:0{revision}Z"),
        },
        "spec": {
            "replicas": desired,
            "template": template::with_hash(&template(image), name),
        },
        "status": {
            "observedGeneration": 1, "replicas": desired, "readyReplicas": available,
            "availableReplicas": available,
        },
    });
    (Kind::REPLICA_SET, object)
}

/// Checks the sizes that are given and what becomes of the sets; conditions are left out.
fn check(objects: Vec<(Kind, Value)>, expect: Expect) {
    let world = world(objects);
    let key = Kind::DEPLOYMENT.key(&Name::new("default", "web"));
    let plan = DeploymentController.reconcile(&key, &world, crate::testing::now());
    let lines = plan.writes.iter().filter_map(|write| match write {
        Write::Create { object, .. } => {
            Some(format!("create {} of {}", object["metadata"]["name"], object["spec"]["replicas"]))
        }
        Write::Patch { target, subresource: None, patch } => {
            Some(format!("{} {}", target.name.name, patch))
        }
        Write::Delete { target, .. } => Some(format!("delete {}", target.name.name)),
        Write::Note(note) => Some(note.message.clone()),
        Write::Patch { .. } | Write::Replace { .. } => None,
    });
    expect.assert_eq(&lines.map(|line| line + "\n").collect::<String>());
}

/// Checks the condition of this type that is reported.
fn check_condition(objects: Vec<(Kind, Value)>, kind: &str, expect: Expect) {
    let world = world(objects);
    let key = Kind::DEPLOYMENT.key(&Name::new("default", "web"));
    let plan = DeploymentController.reconcile(&key, &world, crate::testing::now());
    let status = plan.writes.iter().find_map(|write| match write {
        Write::Patch { subresource: Some("status"), patch, .. } => Some(&patch["status"]),
        Write::Create { .. }
        | Write::Patch { .. }
        | Write::Replace { .. }
        | Write::Delete { .. }
        | Write::Note(_) => None,
    });
    let condition = status.and_then(|status| crate::condition::find(status, kind));
    expect.assert_eq(&condition.map(ToString::to_string).unwrap_or_default());
}

#[test]
fn a_new_deployment_gets_its_first_set() {
    let objects = vec![deployment(&[(&["metadata", "annotations"], json!({"note": "x"}))])];
    let world = world(objects);
    let key = Kind::DEPLOYMENT.key(&Name::new("default", "web"));
    expect![[r#"
        create replicasets.apps {"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"10","deployment.kubernetes.io/max-replicas":"13","deployment.kubernetes.io/revision":"1","note":"x"},"labels":{"app":"web","pod-template-hash":"5f984f664"},"name":"web-5f984f664","namespace":"default","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"Deployment","name":"web","uid":"web"}]},"spec":{"replicas":10,"selector":{"matchLabels":{"app":"web","pod-template-hash":"5f984f664"}},"template":{"metadata":{"labels":{"app":"web","pod-template-hash":"5f984f664"}},"spec":{"image":"new"}}}}
        note ScalingReplicaSet: Scaled up replica set web-5f984f664 from 0 to 10
        patch deployments.apps default/web/status {"metadata":{"annotations":{"deployment.kubernetes.io/revision":"1"},"uid":"web"},"status":{"conditions":[{"lastTransitionTime":"2026-11-20T08:00:00Z","lastUpdateTime":"2026-11-20T08:00:00Z","message":"Created new replica set \"web-5f984f664\"","reason":"NewReplicaSetCreated","status":"True","type":"Progressing"},{"lastTransitionTime":"2026-11-20T08:00:00Z","lastUpdateTime":"2026-11-20T08:00:00Z","message":"Deployment does not have minimum availability.","reason":"MinimumReplicasUnavailable","status":"False","type":"Available"}],"unavailableReplicas":10}}
        recheck at 2026-11-20T08:10:01Z
    "#]].assert_eq(&plan(&DeploymentController, &key, &world));
}

#[test]
fn rolling_updates_step_within_their_limits() {
    check(
        vec![deployment(&[]), set_of("old", "old", 10, 10, 1)],
        expect![[r#"
        create "web-5f984f664" of 3
        old {"metadata":{"uid":"old"},"spec":{"replicas":8}}
        Scaled up replica set web-5f984f664 from 0 to 3
        Scaled down replica set old from 10 to 8
    "#]],
    );
    check(
        vec![deployment(&[]), set_of("old", "old", 8, 8, 1), set_of("new", "new", 5, 2, 2)],
        expect![[r#"
            old {"metadata":{"uid":"old"},"spec":{"replicas":6}}
            Scaled down replica set old from 8 to 6
        "#]],
    );
    // Broken old pods go first.
    check(
        vec![deployment(&[]), set_of("old", "old", 8, 4, 1), set_of("new", "new", 5, 5, 2)],
        expect![[r#"
            old {"metadata":{"uid":"old"},"spec":{"replicas":3}}
            Scaled down replica set old from 8 to 4
            Scaled down replica set old from 4 to 3
        "#]],
    );
    // Nothing moves while a new size has not been taken up.
    let mut late = set_of("old", "old", 8, 8, 1);
    late.1["metadata"]["generation"] = json!(2);
    check(vec![deployment(&[]), late, set_of("new", "new", 3, 3, 2)], expect![[""]]);
    // What is being removed still counts.
    let mut shrinking = set_of("old", "old", 8, 8, 1);
    shrinking.1["status"]["replicas"] = json!(10);
    check(vec![deployment(&[]), shrinking, set_of("new", "new", 3, 0, 2)], expect![[""]]);
}

#[test]
fn recreate_empties_the_old_before_the_new() {
    let recreate: (&[&str], Value) = (&["spec", "strategy"], json!({"type": "Recreate"}));
    let change = &[recreate];
    check(
        vec![deployment(change), set_of("old", "old", 10, 10, 1)],
        expect![[r#"
        old {"metadata":{"annotations":{"deployment.kubernetes.io/max-replicas":"10"},"uid":"old"},"spec":{"replicas":0}}
        Scaled down replica set old from 10 to 0
    "#]],
    );
    check(
        vec![deployment(change), set_of("old", "old", 0, 0, 1)],
        expect![[r#"
        create "web-5f984f664" of 10
        Scaled up replica set web-5f984f664 from 0 to 10
    "#]],
    );
    let owner = json!([{"kind": "ReplicaSet", "uid": "old", "controller": true}]);
    let pod =
        json!({"metadata": {"name": "p", "ownerReferences": owner, "deletionTimestamp": "x"}});
    check(vec![deployment(change), set_of("old", "old", 0, 0, 1), (Kind::POD, pod)], expect![[""]]);
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_proportional() {
    let replicas =
        |count: i64| -> (&'static [&'static str], Value) { (&["spec", "replicas"], json!(count)) };
    let sets = || vec![set_of("old", "old", 8, 8, 1), set_of("new", "new", 5, 2, 2)];
    check(
        [vec![deployment(&[replicas(20)])], sets()].concat(),
        expect![[r#"
        new {"metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"20","deployment.kubernetes.io/max-replicas":"23"},"uid":"new"},"spec":{"replicas":9}}
        old {"metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"20","deployment.kubernetes.io/max-replicas":"23"},"uid":"old"},"spec":{"replicas":14}}
        Scaled up replica set old from 8 to 14
        Scaled up replica set new from 5 to 9
    "#]],
    );
    check(
        [vec![deployment(&[replicas(5)])], sets()].concat(),
        expect![[r#"
        new {"metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"5","deployment.kubernetes.io/max-replicas":"8"},"uid":"new"},"spec":{"replicas":3}}
        old {"metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"5","deployment.kubernetes.io/max-replicas":"8"},"uid":"old"},"spec":{"replicas":5}}
        Scaled down replica set old from 8 to 5
        Scaled down replica set new from 5 to 3
    "#]],
    );
    check(
        [vec![deployment(&[replicas(0)])], sets()].concat(),
        expect![[r#"
        new {"metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"0","deployment.kubernetes.io/max-replicas":"3"},"uid":"new"},"spec":{"replicas":0}}
        old {"metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"0","deployment.kubernetes.io/max-replicas":"3"},"uid":"old"},"spec":{"replicas":0}}
        Scaled down replica set old from 8 to 0
        Scaled down replica set new from 5 to 0
    "#]],
    );
    check(
        vec![deployment(&[replicas(4)]), set_of("new", "new", 10, 10, 1)],
        expect![[r#"
            new {"metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"4","deployment.kubernetes.io/max-replicas":"7"},"uid":"new"},"spec":{"replicas":4}}
            Scaled down replica set new from 10 to 4
        "#]],
    );
}

#[test]
fn a_paused_deployment_scales_and_does_not_roll() {
    let paused: (&[&str], Value) = (&["spec", "paused"], json!(true));
    let old = || set_of("old", "old", 10, 10, 1);
    check(vec![deployment(std::slice::from_ref(&paused)), old()], expect![[""]]);
    let replicas: (&[&str], Value) = (&["spec", "replicas"], json!(12));
    check(
        vec![deployment(&[paused.clone(), replicas]), old()],
        expect![[r#"
        old {"metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"12","deployment.kubernetes.io/max-replicas":"15"},"uid":"old"},"spec":{"replicas":12}}
        Scaled up replica set old from 10 to 12
    "#]],
    );
    check_condition(
        vec![deployment(&[paused]), old()],
        "Progressing",
        expect![[
            r#"{"lastTransitionTime":"2026-11-20T08:00:00Z","lastUpdateTime":"2026-11-20T08:00:00Z","message":"Deployment is paused","reason":"DeploymentPaused","status":"Unknown","type":"Progressing"}"#
        ]],
    );
}

#[test]
fn going_back_takes_the_old_set_under_a_new_revision() {
    let objects =
        vec![deployment(&[]), set_of("first", "new", 0, 0, 1), set_of("second", "old", 10, 10, 2)];
    check(
        objects,
        expect![[r#"
        first {"metadata":{"annotations":{"deployment.kubernetes.io/revision":"3","deployment.kubernetes.io/revision-history":"1"},"uid":"first"},"spec":{"replicas":3}}
        Scaled up replica set first from 0 to 3
    "#]],
    );
}

#[test]
fn old_sets_beyond_the_history_are_removed() {
    let objects = vec![
        deployment(&[]),
        set_of("a", "a", 0, 0, 1),
        set_of("b", "b", 0, 0, 2),
        set_of("c", "c", 0, 0, 3),
        set_of("new", "new", 10, 10, 4),
    ];
    check(
        objects,
        expect![[r#"
        delete a
        delete b
    "#]],
    );
}

#[test]
fn a_name_that_is_taken_is_not_taken_again() {
    let (_, object) = deployment(&[]);
    let name = format!("web-{}", template::hash(&object["spec"]["template"], None));
    let foreign = json!({"metadata": {"name": name}, "spec": {"template": {}}});
    let world = world(vec![deployment(&[]), (Kind::REPLICA_SET, foreign)]);
    let key = Kind::DEPLOYMENT.key(&Name::new("default", "web"));
    let plan = DeploymentController.reconcile(&key, &world, crate::testing::now());
    let Write::Create { object, .. } = &plan.writes[0] else { panic!("{plan:?}") };
    assert_ne!(object["metadata"]["name"], name);
    let Some(Write::Patch { patch, .. }) = plan.writes.last() else { panic!("{plan:?}") };
    assert_eq!(patch["status"]["collisionCount"], 1);
}

#[test]
fn progress_is_told_in_kubernetes_words() {
    let progressing = |reason: &str, updated: &str| -> (&'static [&'static str], Value) {
        let condition = json!({
            "type": "Progressing", "status": "True", "reason": reason, "message": "",
            "lastUpdateTime": updated, "lastTransitionTime": updated,
        });
        (&["status", "conditions"], json!([condition]))
    };
    let counted: (&[&str], Value) = (
        &["status"],
        json!({
            "observedGeneration": 1, "replicas": 13, "updatedReplicas": 5, "readyReplicas": 10,
            "availableReplicas": 10,
        }),
    );
    let sets = || vec![set_of("old", "old", 8, 8, 1), set_of("new", "new", 5, 2, 2)];
    let check = |changes: &[(&[&str], Value)], sets: Vec<(Kind, Value)>, expect| {
        check_condition([vec![deployment(changes)], sets].concat(), "Progressing", expect);
    };
    check(
        &[],
        sets(),
        expect![[
            r#"{"lastTransitionTime":"2026-11-20T08:00:00Z","lastUpdateTime":"2026-11-20T08:00:00Z","message":"ReplicaSet \"new\" is progressing.","reason":"ReplicaSetUpdated","status":"True","type":"Progressing"}"#
        ]],
    );
    check(
        &[progressing("NewReplicaSetCreated", "2026-11-20T07:59:00Z")],
        vec![set_of("new", "new", 10, 10, 1)],
        expect![[
            r#"{"lastTransitionTime":"2026-11-20T07:59:00Z","lastUpdateTime":"2026-11-20T08:00:00Z","message":"ReplicaSet \"new\" has successfully progressed.","reason":"NewReplicaSetAvailable","status":"True","type":"Progressing"}"#
        ]],
    );
    check(
        &[counted.clone(), progressing("ReplicaSetUpdated", "2026-11-20T07:40:00Z")],
        sets(),
        expect![[
            r#"{"lastTransitionTime":"2026-11-20T08:00:00Z","lastUpdateTime":"2026-11-20T08:00:00Z","message":"ReplicaSet \"new\" has timed out progressing.","reason":"ProgressDeadlineExceeded","status":"False","type":"Progressing"}"#
        ]],
    );
    let available = |set: (Kind, Value)| {
        check_condition(
            vec![deployment(&[]), set],
            "Available",
            expect![[
                r#"{"lastTransitionTime":"2026-11-20T08:00:00Z","lastUpdateTime":"2026-11-20T08:00:00Z","message":"Deployment has minimum availability.","reason":"MinimumReplicasAvailable","status":"True","type":"Available"}"#
            ]],
        );
    };
    available(set_of("new", "new", 10, 8, 1));
}
