//! Writes with what the server makes of them.

use serde_json::{Value, json};

use super::*;
use crate::object;
use crate::resources;
use crate::status::Status;

const UID: &str = "11111111-2222-3333-4444-555555555555";

fn context(plural: &str, name: Option<&'static str>) -> WriteContext<'static> {
    let resource = resources::builtin().iter().find(|it| it.plural == plural).unwrap();
    WriteContext {
        resource,
        namespace: resource.namespaced.then_some("default"),
        name,
        now: "2026-11-20T08:00:00Z".parse().unwrap(),
        uid: UID,
        suffix: "x7x7x",
    }
}

fn pod() -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "c", "image": "web:1"}]},
    })
}

fn created(plural: &str, object: Value) -> Value {
    create(object, &context(plural, None)).unwrap()
}

fn text(status: &Status) -> String {
    format!("{} {}: {}", status.code, status.reason, status.message)
}

#[test]
fn a_created_pod_has_all_that_the_server_decides() {
    let object = created("pods", pod());
    assert_eq!(
        object["metadata"],
        json!({
            "name": "web", "namespace": "default", "uid": UID,
            "creationTimestamp": "2026-11-20T08:00:00Z", "generation": 1,
        })
    );
    assert_eq!(object["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(object["spec"]["securityContext"], json!({}));
    // Account, priority and tolerations are admission's to say.
    assert_eq!(object["spec"].get("serviceAccountName"), None);
    assert_eq!((&object["apiVersion"], &object["kind"]), (&json!("v1"), &json!("Pod")));
}

#[test]
fn what_clients_may_not_decide_is_dropped_on_create() {
    let object = created(
        "configmaps",
        json!({
            "metadata": {
                "name": "a", "uid": "other", "generation": 7, "selfLink": "/x",
                "creationTimestamp": "2020-01-01T00:00:00Z",
                "deletionTimestamp": "2020-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0,
                "labels": {}, "annotations": null,
            },
            "data": {"k": "v"},
        }),
    );
    assert_eq!(
        object,
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "a", "namespace": "default", "uid": UID,
                "creationTimestamp": "2026-11-20T08:00:00Z",
            },
            "data": {"k": "v"},
        })
    );
}

#[test]
fn names_are_generated_and_checked_against_the_path() {
    let generated = created("configmaps", json!({"metadata": {"generateName": "job-"}}));
    assert_eq!(generated["metadata"]["name"], "job-x7x7x");
    let long = created("configmaps", json!({"metadata": {"generateName": "a".repeat(70)}}));
    assert_eq!(long["metadata"]["name"].as_str().unwrap().len(), 63);

    let wrong = create(
        json!({"metadata": {"name": "a", "namespace": "other"}}),
        &context("configmaps", None),
    );
    assert_eq!(
        text(&wrong.unwrap_err()),
        "400 BadRequest: the namespace of the provided object does not match the namespace sent on the request"
    );
    let wrong = create(json!({"metadata": {"name": "a"}}), &context("configmaps", Some("b")));
    assert_eq!(
        text(&wrong.unwrap_err()),
        "400 BadRequest: the name of the object (a) does not match the name on the URL (b)"
    );
    let none = create(json!({}), &context("configmaps", None)).unwrap_err();
    assert_eq!(
        text(&none),
        "422 Invalid: ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
}

#[test]
fn namespaces_are_created_active_and_held_by_their_finalizer() {
    let object = created("namespaces", json!({"metadata": {"name": "n"}}));
    assert_eq!(object["spec"], json!({"finalizers": ["kubernetes"]}));
    assert_eq!(object["status"], json!({"phase": "Active"}));
    assert_eq!(object["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "n"}));

    let context = context("namespaces", Some("n"));
    let Deletion::Mark(marked) = delete(&object, &DeleteOptions::default(), &context).unwrap()
    else {
        panic!("a namespace is emptied before it goes");
    };
    assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-11-20T08:00:00Z");
    assert_eq!(marked["status"], json!({"phase": "Terminating"}));
    assert!(!is_gone(&marked, &context));
    let again = delete(&marked, &DeleteOptions::default(), &context).unwrap();
    assert_eq!(again, Deletion::Pending);

    let mut emptied = marked.clone();
    emptied["spec"] = json!({"finalizers": []});
    emptied["status"] = json!({"phase": "Active"});
    let finalized = finalize(emptied, &marked, &context).unwrap();
    assert_eq!(finalized["status"], json!({"phase": "Terminating"}));
    assert!(is_gone(&finalized, &context));
}

#[test]
fn an_update_keeps_what_the_server_decides_and_the_status() {
    let old = created(
        "deployments",
        json!({
            "metadata": {"name": "web"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": "web:1"}]},
                },
            },
        }),
    );
    let context = context("deployments", Some("web"));
    let mut new = old.clone();
    new["metadata"] = json!({"name": "web", "labels": {"a": "b"}, "resourceVersion": "7"});
    new["status"] = json!({"replicas": 9});
    let same = update(new.clone(), &old, &context).unwrap();
    assert_eq!(
        same["metadata"],
        json!({
            "name": "web", "namespace": "default", "uid": UID, "labels": {"a": "b"},
            "creationTimestamp": "2026-11-20T08:00:00Z", "generation": 1,
        })
    );
    assert_eq!(same["status"], json!({}));
    new["spec"]["replicas"] = json!(3);
    let scaled = update(new.clone(), &old, &context).unwrap();
    assert_eq!(scaled["metadata"]["generation"], 2);

    new["metadata"]["uid"] = json!("other");
    assert_eq!(
        text(&update(new, &old, &context).unwrap_err()),
        format!(
            "409 Conflict: Operation cannot be fulfilled on deployments.apps \"web\": Precondition failed: UID in precondition: other, UID in object meta: {UID}"
        )
    );

    let mut status = old.clone();
    status["spec"]["replicas"] = json!(9);
    status["metadata"]["annotations"] = json!({"a": "b"});
    status["status"] = json!({"replicas": 1, "observedGeneration": 1});
    let written = update_status(status, &old, &context).unwrap();
    assert_eq!(written["spec"], old["spec"]);
    assert_eq!(written["metadata"]["generation"], 1);
    assert_eq!(written["metadata"]["annotations"], json!({"a": "b"}));
    assert_eq!(written["status"], json!({"replicas": 1, "observedGeneration": 1}));
}

#[test]
fn scale_shows_and_sets_replicas() {
    let mut old = created(
        "replicasets",
        json!({
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": "web:1"}]},
                },
            },
        }),
    );
    old["status"] = json!({"replicas": 1});
    let mut scale = get_scale(&old).unwrap();
    assert_eq!(
        scale,
        json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {
                "name": "web", "namespace": "default", "uid": UID,
                "creationTimestamp": "2026-11-20T08:00:00Z",
            },
            "spec": {"replicas": 2},
            "status": {"replicas": 1, "selector": "app=web"},
        })
    );
    let context = context("replicasets", Some("web"));
    scale["spec"]["replicas"] = json!(5);
    let new = put_scale(&scale, &old, &context).unwrap();
    assert_eq!((&new["spec"]["replicas"], &new["metadata"]["generation"]), (&json!(5), &json!(2)));
    assert_eq!(new["status"], old["status"]);
    scale["spec"]["replicas"] = json!("0");
    assert_eq!(put_scale(&scale, &old, &context).unwrap_err().code, 400);
    scale["spec"]["replicas"] = json!(-1);
    assert_eq!(
        text(&put_scale(&scale, &old, &context).unwrap_err()),
        "422 Invalid: Scale.autoscaling \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
}

/// What became of a deletion, in one line.
fn deleted(object: &Value, options: Value) -> String {
    let plural = if object["kind"] == "Pod" { "pods" } else { "configmaps" };
    let options = DeleteOptions::from_value(&options).unwrap();
    match delete(object, &options, &context(plural, None)) {
        Err(status) => text(&status),
        Ok(Deletion::Remove) => "removed".to_owned(),
        Ok(Deletion::Pending) => "pending".to_owned(),
        Ok(Deletion::Mark(it)) => {
            let meta = &it["metadata"];
            let time = meta["deletionTimestamp"].as_str().unwrap();
            let finalizers = &meta["finalizers"];
            format!("{} grace {} {finalizers}", &time[11..19], meta["deletionGracePeriodSeconds"])
        }
    }
}

#[test]
fn pods_are_deleted_with_grace() {
    let idle = created("pods", pod());
    let mut running = idle.clone();
    running["spec"]["nodeName"] = json!("n");
    let mut finished = running.clone();
    finished["status"]["phase"] = json!("Succeeded");
    let mut held = running.clone();
    held["metadata"]["finalizers"] = json!(["a/b"]);
    let mut terminating = running.clone();
    terminating["metadata"]["deletionTimestamp"] = json!("2026-11-20T08:00:30Z");
    terminating["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    for (object, options, expected) in [
        (&idle, json!({}), "removed"),
        (&finished, json!({"gracePeriodSeconds": 30}), "removed"),
        (&running, json!({}), "08:00:30 grace 30 null"),
        (&running, json!({"gracePeriodSeconds": 5}), "08:00:05 grace 5 null"),
        (&running, json!({"gracePeriodSeconds": -5}), "08:00:01 grace 1 null"),
        (&running, json!({"gracePeriodSeconds": 0}), "removed"),
        (&held, json!({"gracePeriodSeconds": 0}), "08:00:00 grace 0 [\"a/b\"]"),
        (&held, json!({}), "08:00:30 grace 30 [\"a/b\"]"),
        (&terminating, json!({}), "pending"),
        (&terminating, json!({"gracePeriodSeconds": 60}), "pending"),
        (&terminating, json!({"gracePeriodSeconds": 10}), "08:00:10 grace 10 null"),
        (&terminating, json!({"gracePeriodSeconds": 0}), "removed"),
    ] {
        assert_eq!(deleted(object, options.clone()), expected, "{options}");
    }
}

#[test]
fn finalizers_and_preconditions_hold_a_deletion() {
    let plain = created("configmaps", json!({"metadata": {"name": "a"}}));
    let mut held = plain.clone();
    held["metadata"]["finalizers"] = json!(["a/b"]);
    let mut orphaned = plain.clone();
    orphaned["metadata"]["finalizers"] = json!(["orphan"]);
    for (object, options, expected) in [
        (&plain, json!({}), "removed"),
        (&plain, json!({"propagationPolicy": "Background"}), "removed"),
        (
            &plain,
            json!({"propagationPolicy": "Foreground"}),
            "08:00:00 grace 0 [\"foregroundDeletion\"]",
        ),
        (&plain, json!({"propagationPolicy": "Orphan"}), "08:00:00 grace 0 [\"orphan\"]"),
        (&held, json!({}), "08:00:00 grace 0 [\"a/b\"]"),
        (&orphaned, json!({}), "08:00:00 grace 0 [\"orphan\"]"),
        (&orphaned, json!({"propagationPolicy": "Background"}), "removed"),
        (&plain, json!({"preconditions": {"uid": UID}}), "removed"),
        (
            &plain,
            json!({"preconditions": {"uid": "x"}}),
            &*format!(
                "409 Conflict: Operation cannot be fulfilled on configmaps \"a\": Precondition failed: UID in precondition: x, UID in object meta: {UID}"
            ),
        ),
    ] {
        assert_eq!(deleted(object, options.clone()), expected, "{options}");
    }
}

#[test]
fn what_is_being_deleted_takes_no_new_finalizers_and_goes_with_the_last() {
    let mut old = created("configmaps", json!({"metadata": {"name": "a"}}));
    old["metadata"]["finalizers"] = json!(["a/b", "c/d"]);
    old["metadata"]["deletionTimestamp"] = json!("2026-11-20T08:00:00Z");
    old["metadata"]["deletionGracePeriodSeconds"] = json!(0);
    let context = context("configmaps", Some("a"));
    let with = |finalizers: Value| {
        let mut new = old.clone();
        new["metadata"]["finalizers"] = finalizers;
        new["metadata"].as_object_mut().unwrap().remove("deletionTimestamp");
        update(new, &old, &context)
    };
    assert!(!is_gone(&with(json!(["a/b"])).unwrap(), &context));
    assert!(is_gone(&with(json!([])).unwrap(), &context));
    assert_eq!(
        text(&with(json!(["a/b", "e/f"])).unwrap_err()),
        "422 Invalid: ConfigMap \"a\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"e/f\"}"
    );
}

/// `jobStrategy` and `rcStrategy` of Kubernetes' registries.
#[test]
fn jobs_and_replication_controllers_leave_their_pods_unless_told_otherwise() {
    for (plural, before, options, expected) in [
        ("jobs", json!([]), json!({}), json!(["orphan"])),
        ("replicationcontrollers", json!([]), json!({}), json!(["orphan"])),
        ("replicasets", json!([]), json!({}), json!([])),
        ("cronjobs", json!([]), json!({}), json!([])),
        ("jobs", json!([]), json!({"propagationPolicy": "Background"}), json!([])),
        ("jobs", json!([]), json!({"orphanDependents": false}), json!([])),
        ("jobs", json!(["foregroundDeletion"]), json!({}), json!(["foregroundDeletion"])),
        ("jobs", json!(["a/b"]), json!({}), json!(["a/b", "orphan"])),
    ] {
        let object = json!({"metadata": {"name": "a", "uid": "u", "finalizers": before}});
        let options = DeleteOptions::from_value(&options).unwrap();
        let finalizers = match delete(&object, &options, &context(plural, None)).unwrap() {
            Deletion::Mark(it) => it["metadata"]["finalizers"].clone(),
            Deletion::Remove => json!([]),
            Deletion::Pending => panic!("nothing was deleted before"),
        };
        assert_eq!(finalizers, expected, "{plural} with {before}");
    }
}

#[test]
fn delete_options_are_checked() {
    for (options, expected) in [
        (
            json!({"propagationPolicy": "Foo"}),
            "422 Invalid: DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"Foo\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
        ),
        (
            json!({"dryRun": ["Some"]}),
            "422 Invalid: DeleteOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"",
        ),
    ] {
        assert_eq!(text(&DeleteOptions::from_value(&options).unwrap_err()), expected);
    }
    let wrong_type = json!({"apiVersion": "policy/v1", "gracePeriodSeconds": "0"});
    assert_eq!(DeleteOptions::from_value(&wrong_type).unwrap_err().code, 400);
    let options = json!({"kind": "DeleteOptions", "dryRun": ["All"], "orphanDependents": true});
    let options = DeleteOptions::from_value(&options).unwrap();
    assert!(options.dry_run);
    assert_eq!(options.propagation_policy, Some(Propagation::Orphan));
}

#[test]
fn a_pod_is_bound_once() {
    let pod = created("pods", pod());
    let context = context("pods", Some("web"));
    let bound = bind(&pod, "n1", &context).unwrap();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(object::text(&bound["status"]["conditions"][0], "type"), "PodScheduled");
    assert_eq!(
        text(&bind(&bound, "n2", &context).unwrap_err()),
        "409 Conflict: Operation cannot be fulfilled on pods/binding \"web\": pod web is already assigned to node \"n1\""
    );
    // An agent's ordinary update of the bound pod changes nothing that may not change.
    assert_eq!(update(bound.clone(), &bound, &context).unwrap(), bound);
}

#[test]
fn a_service_keeps_its_address_and_node_ports() {
    let mut old = created(
        "services",
        json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}),
    );
    crate::defaults::service::set_cluster_ip(&mut old, "10.96.0.7");
    old["spec"]["ports"][0]["nodePort"] = json!(30080);
    let context = context("services", Some("s"));
    let new =
        json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let kept = update(new, &old, &context).unwrap();
    assert_eq!(kept["spec"], old["spec"]);

    let mut plain = old.clone();
    plain["spec"]["type"] = json!("ClusterIP");
    let plain = update(plain, &old, &context).unwrap();
    assert_eq!(plain["spec"]["ports"], json!([{"port": 80, "protocol": "TCP", "targetPort": 80}]));
    assert_eq!(plain["spec"]["clusterIP"], "10.96.0.7");

    let mut moved = old.clone();
    crate::defaults::service::set_cluster_ip(&mut moved, "10.96.0.8");
    assert_eq!(
        text(&update(moved, &old, &context).unwrap_err()),
        "422 Invalid: Service \"s\" is invalid: spec.clusterIPs[0]: Invalid value: [\"10.96.0.8\"]: may not change once set"
    );
}

#[test]
fn ephemeral_containers_are_only_added() {
    let old = created("pods", pod());
    let context = context("pods", Some("web"));
    let mut new = old.clone();
    new["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "tools:1"}]);
    new["spec"]["nodeName"] = json!("ignored");
    let added = update_ephemeral_containers(new, &old, &context).unwrap();
    assert_eq!(object::text(&added["spec"]["ephemeralContainers"][0], "name"), "debug");
    assert!(added["spec"].get("nodeName").is_none());
    assert_eq!(
        text(&update_ephemeral_containers(old.clone(), &added, &context).unwrap_err()),
        "422 Invalid: Pod \"web\" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may not be removed\n"
    );
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("restartPolicyRules", json!([{"action": "Restart"}])),
        ("resizePolicy", json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}])),
    ] {
        let mut new = old.clone();
        new["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "tools:1"}]);
        new["spec"]["ephemeralContainers"][0][field] = value;
        assert_eq!(
            text(&update_ephemeral_containers(new, &old, &context).unwrap_err()),
            format!(
                "422 Invalid: Pod \"web\" is invalid: spec.ephemeralContainers[0].{field}: Forbidden: cannot be set for an Ephemeral Container"
            )
        );
    }
    let mut mirror = old.clone();
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    let mut new = mirror.clone();
    new["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "tools:1"}]);
    assert_eq!(
        text(&update_ephemeral_containers(new, &mirror, &context).unwrap_err()),
        "422 Invalid: Pod \"web\" is invalid: []: Forbidden: static pods do not support ephemeral containers"
    );
}
