//! The registry under concurrency, without HTTP.

use std::collections::BTreeSet;

use hub_api::{DeleteOptions, object, resources};
use hub_apiserver::{ListOptions, PatchKind, Registry, WriteOptions, Written, auth::rbac::policy};
use serde_json::{Value, json};

use crate::harness::{registry, registry_and_clock};

async fn make(
    registry: &Registry,
    plural: &str,
    object: Value,
) -> Result<Written, hub_api::Status> {
    let resource = resources::find("", "v1", plural).unwrap();
    let namespace = resource.namespaced.then_some("default");
    registry.create(resource, namespace, object, &WriteOptions::default()).await
}

#[tokio::test]
async fn patches_that_meet_are_all_applied() {
    let (registry, _dir) = registry();
    registry.bootstrap().await.unwrap();
    make(&registry, "configmaps", json!({"metadata":{"name":"a"}})).await.unwrap();
    let resource = resources::find("", "v1", "configmaps").unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..24 {
        let registry = registry.clone();
        tasks.spawn(async move {
            let patch = json!({"data": {(format!("k{n}")): "v"}});
            let options = WriteOptions::default();
            registry
                .patch(resource, Some("default"), "a", PatchKind::Merge, &patch, None, &options)
                .await
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    let stored = registry.get(resource, Some("default"), "a").unwrap();
    assert_eq!(stored.value()["data"].as_object().unwrap().len(), 24);
}

/// One store, two APIs: what one writes the other shows.
#[tokio::test]
async fn events_are_the_same_in_both_groups() {
    let (registry, _dir) = registry();
    registry.bootstrap().await.unwrap();
    let core = resources::find("", "v1", "events").unwrap();
    let newer = resources::find("events.k8s.io", "v1", "events").unwrap();
    let event = json!({
        "metadata": {"name": "e"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "note": "it happened",
        "reason": "Happened",
        "action": "Do",
        "type": "Normal",
        "eventTime": "2026-11-20T08:00:00.000000Z",
        "reportingController": "a.io/b",
        "reportingInstance": "b-0",
    });
    let options = WriteOptions::default();
    registry.create(newer, Some("default"), event, &options).await.unwrap();
    let stored = registry.get(core, Some("default"), "e").unwrap();
    assert_eq!(stored.value()["involvedObject"]["name"], "p");
    assert_eq!(stored.value()["message"], "it happened");
    let shown = newer.show(registry.get(newer, Some("default"), "e").unwrap().decode());
    assert_eq!(shown["apiVersion"], "events.k8s.io/v1");
    assert_eq!(shown["note"], "it happened");
    assert_eq!(shown.get("message"), None);
    let fields = hub_api::selector::FieldSelector::parse("regarding.name=p", newer).unwrap();
    let list = registry
        .list(
            newer,
            None,
            &ListOptions {
                selection: hub_apiserver::Selection { fields, ..Default::default() },
                ..Default::default()
            },
        )
        .unwrap();
    assert_eq!(list.entries.len(), 1);
}

/// What every cluster has is there after the first start, and stays as it must be.
#[tokio::test]
async fn what_every_cluster_has_is_made_and_kept() {
    let (registry, _dir) = registry();
    registry.bootstrap().await.unwrap();
    let at_first = registry.revision();
    registry.bootstrap().await.unwrap();
    assert_eq!(registry.revision(), at_first, "a second start changes nothing");

    let row = |group, plural| resources::find(group, "v1", plural).unwrap();
    let class = row("scheduling.k8s.io", "priorityclasses");
    let critical = registry.get(class, None, "system-node-critical").unwrap();
    assert_eq!(critical.value()["value"], 2_000_001_000);
    let range = registry.get(row("networking.k8s.io", "servicecidrs"), None, "kubernetes").unwrap();
    assert_eq!(range.value()["status"]["conditions"][0]["type"], "Ready");

    let apis = row("apiregistration.k8s.io", "apiservices");
    let api = registry.get(apis, None, "v1.networking.k8s.io").unwrap();
    assert_eq!(api.value()["status"]["conditions"][0]["reason"], "Local");
    let levels = row("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations");
    let patch = |annotations: Value| {
        json!({
            "metadata": {"annotations": annotations},
            "spec": {"limited": {"nominalConcurrencyShares": 7}},
        })
    };
    let options = WriteOptions::default();
    for (name, annotations, expected) in [
        ("workload-low", json!({}), 100),
        ("workload-high", json!({"apf.kubernetes.io/autoupdate-spec": "false"}), 7),
    ] {
        let patch = patch(annotations);
        registry.patch(levels, None, name, PatchKind::Merge, &patch, None, &options).await.unwrap();
        registry.bootstrap().await.unwrap();
        let level = registry.get(levels, None, name).unwrap();
        assert_eq!(
            level.value()["spec"]["limited"]["nominalConcurrencyShares"],
            expected,
            "{name}"
        );
    }
    registry.delete(levels, None, "catch-all", &DeleteOptions::default()).await.unwrap();
    registry.bootstrap().await.unwrap();
    assert!(registry.get(levels, None, "catch-all").is_ok());
}

#[tokio::test]
async fn rights_that_were_taken_away_come_back_at_the_next_start() {
    let (registry, _dir) = registry();
    registry.bootstrap().await.unwrap();
    registry.ensure_unordered(&policy::seeds()).await.unwrap();
    let at_first = registry.revision();
    registry.ensure_unordered(&policy::seeds()).await.unwrap();
    assert_eq!(registry.revision(), at_first, "a second start changes nothing");

    let row = |plural| resources::find("rbac.authorization.k8s.io", "v1", plural).unwrap();
    let (roles, bindings) = (row("clusterroles"), row("clusterrolebindings"));
    let options = WriteOptions::default();
    let name = "system:controller:replicaset-controller";
    let wanted = registry.get(roles, None, name).unwrap().value()["rules"].clone();
    let own = json!({"apiGroups": ["a.io"], "resources": ["things"], "verbs": ["get"]});
    // The word of the operator counts, also if it came later.
    for (word, n_restored) in [("true", 4), ("false", 0)] {
        let annotations = json!({"rbac.authorization.kubernetes.io/autoupdate": word});
        let patch = json!({"metadata": {"annotations": annotations}, "rules": [own]});
        registry.patch(roles, None, name, PatchKind::Merge, &patch, None, &options).await.unwrap();
        registry.ensure_unordered(&policy::seeds()).await.unwrap();
        let mut expected = vec![own.clone()];
        expected.extend(wanted.as_array().unwrap().iter().take(n_restored).cloned());
        let role = registry.get(roles, None, name).unwrap();
        assert_eq!(role.value()["rules"], json!(expected), "{word}");
    }
    let nodes = json!([{
        "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes",
    }]);
    let patch = json!({"subjects": nodes});
    let kind = PatchKind::Merge;
    registry.patch(bindings, None, "system:node", kind, &patch, None, &options).await.unwrap();
    registry.delete(bindings, None, name, &DeleteOptions::default()).await.unwrap();
    registry.ensure_unordered(&policy::seeds()).await.unwrap();
    let binding = registry.get(bindings, None, "system:node").unwrap();
    assert_eq!(binding.value()["subjects"], nodes, "what was added stays");
    assert!(registry.get(bindings, None, name).is_ok());
}

#[tokio::test]
async fn evictions_are_paid_by_the_budget() {
    let (registry, _dir) = registry();
    registry.bootstrap().await.unwrap();
    let options = WriteOptions::default();
    let budgets = resources::find("policy", "v1", "poddisruptionbudgets").unwrap();
    let pods = resources::find("", "v1", "pods").unwrap();
    let budget = |name: &str| json!({"metadata": {"name": name}, "spec": {"minAvailable": 1, "selector": {}}});
    registry.create(budgets, Some("default"), budget("b"), &options).await.unwrap();
    let status = async |plural: &'static hub_api::Resource, name: &str, status: Value| {
        let patch = json!({"status": status});
        let kind = PatchKind::Merge;
        registry
            .patch(plural, Some("default"), name, kind, &patch, Some("status"), &options)
            .await
            .unwrap();
    };
    for name in ["p", "q", "r"] {
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": "web"}, "finalizers": ["a.io/keep"]},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        });
        make(&registry, "pods", pod).await.unwrap();
    }
    for name in ["p", "q"] {
        let ready = json!([{"type": "Ready", "status": "True"}]);
        status(pods, name, json!({"phase": "Running", "conditions": ready})).await;
    }
    status(budgets, "b", json!({"observedGeneration": 1, "disruptionsAllowed": 1, "desiredHealthy": 1, "currentHealthy": 2})).await;
    let evict = async |name: &str, dry_run: bool| {
        let options = DeleteOptions { dry_run, ..DeleteOptions::default() };
        registry.evict("default", name, &options).await.map(drop)
    };
    let allowed = || {
        let budget = registry.get(budgets, Some("default"), "b").unwrap();
        object::int(&budget.value(), "status.disruptionsAllowed").unwrap()
    };
    evict("p", true).await.unwrap();
    assert_eq!(allowed(), 1, "a dry run costs nothing");
    evict("p", false).await.unwrap();
    assert_eq!(allowed(), 0);
    let evicted = registry.get(pods, Some("default"), "p").unwrap();
    assert!(object::is_terminating(&evicted.value()));
    let evicted = evicted.value();
    let conditions = object::list(&evicted, "status.conditions");
    assert!(conditions.iter().any(|it| it["reason"] == "EvictionByEvictionAPI"));
    let budget_now = registry.get(budgets, Some("default"), "b").unwrap();
    assert!(budget_now.value()["status"]["disruptedPods"]["p"].is_string());

    let refused = evict("q", false).await.unwrap_err();
    assert_eq!((refused.code, &*refused.reason), (429, "TooManyRequests"));
    evict("p", false).await.unwrap();
    evict("r", false).await.unwrap();
    registry.create(budgets, Some("default"), budget("c"), &options).await.unwrap();
    assert_eq!(evict("q", false).await.unwrap_err().code, 500);
}

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata":{"name":name},"spec":spec})
}

#[tokio::test]
async fn services_never_share_an_address() {
    let (registry, _dir) = registry();
    registry.bootstrap().await.unwrap();
    let ports = json!([{"port": 80}]);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..40 {
        let (registry, ports) = (registry.clone(), ports.clone());
        tasks.spawn(async move {
            make(&registry, "services", service(&format!("s{n}"), json!({"ports":ports}))).await
        });
    }
    let mut taken = BTreeSet::new();
    while let Some(done) = tasks.join_next().await {
        let written = done.unwrap().unwrap();
        taken.insert(object::text(&written.value(), "spec.clusterIP").to_owned());
    }
    assert_eq!(taken.len(), 40);
    let wanted = json!({"clusterIP":"10.96.0.7","ports":ports});
    make(&registry, "services", service("named", wanted.clone())).await.unwrap();
    let refused = make(&registry, "services", service("thief", wanted.clone())).await.unwrap_err();
    assert!(
        refused
            .message
            .contains("failed to allocate IP 10.96.0.7: provided IP is already allocated")
    );
    let outside = json!({"clusterIP":"192.168.0.1","ports":ports});
    let refused = make(&registry, "services", service("far", outside)).await.unwrap_err();
    assert!(
        refused
            .message
            .contains("is not in the valid range. The range of valid IPs is 10.96.0.0/24")
    );
    let resource = resources::find("", "v1", "services").unwrap();
    registry.delete(resource, Some("default"), "named", &DeleteOptions::default()).await.unwrap();
    make(&registry, "services", service("heir", wanted)).await.unwrap();
    let headless =
        make(&registry, "services", service("none", json!({"clusterIP":"None","ports":ports})))
            .await;
    assert_eq!(object::text(&headless.unwrap().value(), "spec.clusterIP"), "None");
}

#[tokio::test]
async fn a_namespace_goes_when_its_last_finalizer_does() {
    let (registry, _dir) = registry();
    registry.bootstrap().await.unwrap();
    let namespaces = resources::find("", "v1", "namespaces").unwrap();
    let configmaps = resources::find("", "v1", "configmaps").unwrap();
    let options = WriteOptions::default();
    make(&registry, "namespaces", json!({"metadata":{"name":"x"}})).await.unwrap();
    registry.delete(namespaces, None, "x", &DeleteOptions::default()).await.unwrap();
    let refused = registry
        .create(configmaps, Some("x"), json!({"metadata":{"name":"late"}}), &options)
        .await
        .unwrap_err();
    assert_eq!(refused.code, 403);
    assert_eq!(refused.details.unwrap().causes[0].reason, "NamespaceTerminating");
    let mut namespace = registry.get(namespaces, None, "x").unwrap().decode();
    namespace["spec"] = json!({});
    let written =
        registry.update(namespaces, None, "x", namespace, Some("finalize"), &options).await;
    assert!(matches!(written.unwrap(), Written::Removed(_)));
    assert_eq!(registry.get(namespaces, None, "x").unwrap_err().code, 404);
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_gone() {
    let (registry, _dir) = registry();
    registry.bootstrap().await.unwrap();
    let resource = resources::find("", "v1", "configmaps").unwrap();
    let held = json!({"metadata":{"name":"a","finalizers":["example.com/hold"]}});
    make(&registry, "configmaps", held).await.unwrap();
    let options = DeleteOptions::default();
    registry.delete(resource, Some("default"), "a", &options).await.unwrap();
    let marked = registry.get(resource, Some("default"), "a").unwrap();
    assert!(object::is_terminating(&marked.value()));
    let patch = json!({"metadata":{"finalizers":null}});
    let (written, _) = registry
        .patch(
            resource,
            Some("default"),
            "a",
            PatchKind::Merge,
            &patch,
            None,
            &WriteOptions::default(),
        )
        .await
        .unwrap();
    assert!(matches!(written, Written::Removed(_)));
    assert_eq!(registry.get(resource, Some("default"), "a").unwrap_err().code, 404);
}

#[tokio::test]
async fn a_pod_is_bound_once_and_goes_when_its_node_says_so() {
    let (registry, _dir) = registry();
    registry.bootstrap().await.unwrap();
    let pods = resources::find("", "v1", "pods").unwrap();
    let pod = json!({"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}});
    let made = make(&registry, "pods", pod).await.unwrap();
    let uid = object::uid(&made.value()).to_owned();
    let options = WriteOptions::default();
    registry.bind("default", "p", "n1", Some(&uid), &options).await.unwrap();
    assert_eq!(registry.bind("default", "p", "n2", None, &options).await.unwrap_err().code, 409);
    registry.delete(pods, Some("default"), "p", &DeleteOptions::default()).await.unwrap();
    let marked = registry.get(pods, Some("default"), "p").unwrap();
    assert_eq!(object::int(&marked.value(), "metadata.deletionGracePeriodSeconds"), Some(30));
    let by_node = |uid: &str| {
        let preconditions =
            hub_api::write::Preconditions { uid: Some(uid.to_owned()), ..Default::default() };
        DeleteOptions { grace_period_seconds: Some(0), preconditions, ..DeleteOptions::default() }
    };
    let other = registry.delete(pods, Some("default"), "p", &by_node("other")).await.unwrap_err();
    assert_eq!(other.code, 409);
    registry.delete(pods, Some("default"), "p", &by_node(&uid)).await.unwrap();
    assert_eq!(registry.get(pods, Some("default"), "p").unwrap_err().code, 404);
}

#[tokio::test]
async fn events_are_forgotten_after_a_while() {
    let (registry, clock, _dir) = registry_and_clock();
    registry.bootstrap().await.unwrap();
    let event = |name: &str, last: &str| {
        json!({
            "metadata": {"name": name},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
            "firstTimestamp": "2020-01-01T00:00:00Z",
            "lastTimestamp": last,
        })
    };
    let later = hub_api::time::format(registry.now() + jiff::SignedDuration::from_mins(50));
    make(&registry, "events", event("from-the-past", "2020-01-01T00:00:00Z")).await.unwrap();
    make(&registry, "events", event("repeated", &later)).await.unwrap();
    let ttl = std::time::Duration::from_hours(1);
    assert_eq!(registry.expire_events(ttl).await, 0, "it arrived just now");
    clock.advance(3700);
    make(&registry, "events", event("new", "2020-01-01T00:00:00Z")).await.unwrap();
    assert_eq!(registry.expire_events(ttl).await, 1);
    let resource = resources::find("", "v1", "events").unwrap();
    let left = registry.list(resource, None, &ListOptions::default()).unwrap().entries;
    let left: Vec<&str> = left.iter().map(|it| it.key.name()).collect();
    assert_eq!(left, ["new", "repeated"]);
}
