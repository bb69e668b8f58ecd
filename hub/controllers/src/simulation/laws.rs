//! Convergence, safety of rolling updates, prefix safety and quiet.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

use super::cluster::{BROKEN, Cluster, Dice, deployment, template};
use crate::Propagation;
use crate::condition;
use crate::object::{Kind, Name, ObjectRef};
use crate::value::{at, int_at, list_at, str_at};

/// The same draws in every run; to look further, change the seed.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        cases,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn any_start_converges_and_comes_to_rest(seed: u64) {
        let mut cluster = Cluster::new(seed);
        messy_start(&mut cluster);
        for _ in 0..6 {
            for _ in 0..cluster.dice.below(120) {
                cluster.step();
            }
            disturb(&mut cluster);
        }
        cluster.settle(|_| {});
        check_goal(&cluster);
        check_quiet(&mut cluster);
    }

    #[test]
    fn rolling_updates_keep_their_limits(seed: u64) {
        let mut cluster = Cluster::new(seed);
        let replicas = 1 + number(cluster.dice.below(8));
        let surge = number(cluster.dice.below(4));
        let unavailable = number(cluster.dice.below(4));
        let rolling = json!({"maxSurge": surge, "maxUnavailable": unavailable});
        cluster.create(Kind::DEPLOYMENT, "default", deployment("web", replicas, "v1", rolling));
        cluster.settle(|_| {});
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        let limits = replicas - unavailable..=replicas + surge;
        for version in ["v2", BROKEN, "v3", "v2"] {
            let patch = json!({"spec": {"template": template("web", version)}});
            let patch = match version {
                BROKEN => patch,
                _ => json!({"spec": {"template": {
                    "metadata": {"annotations": null}, "spec": patch["spec"]["template"]["spec"],
                }}}),
            };
            cluster.patch(Kind::DEPLOYMENT, &Name::new("default", "web"), &patch);
            for _ in 0..cluster.dice.below(400) {
                cluster.step();
                check_limits(&cluster, limits.clone());
                if cluster.dice.below(60) == 0 {
                    cluster.crash();
                }
            }
        }
        cluster.settle(|cluster| check_limits(cluster, limits.clone()));
        check_goal(&cluster);
        check_quiet(&mut cluster);
    }

    #[test]
    fn a_crash_after_any_write_changes_nothing_in_the_end(seed: u64, life in 1..40_usize) {
        let mut cluster = Cluster::new(seed);
        messy_start(&mut cluster);
        for _ in 0..60 {
            for _ in 0..life {
                cluster.step();
            }
            cluster.crash();
        }
        cluster.settle(|_| {});
        check_goal(&cluster);
        check_quiet(&mut cluster);
    }

    #[test]
    fn deletion_takes_along_what_it_should(seed: u64, policy in 0..3_usize) {
        let policy = [Propagation::Background, Propagation::Foreground, Propagation::Orphan][policy];
        let mut cluster = Cluster::new(seed);
        cluster.create(Kind::DEPLOYMENT, "default", deployment("web", 3, "v1", json!({})));
        cluster.create(Kind::SERVICE, "default", service("web"));
        for _ in 0..cluster.dice.below(500) {
            cluster.step();
        }
        // What is made in the very moment of a deletion may be seen too late to be waited for.
        let is_foreground = policy == Propagation::Foreground;
        if policy != Propagation::Background {
            cluster.settle(|_| {});
        }
        let n_sets = cluster.store.list(Kind::REPLICA_SET).count();
        cluster.delete(&Kind::DEPLOYMENT.key(&Name::new("default", "web")), policy);
        cluster.delete(&Kind::SERVICE.key(&Name::new("default", "web")), Propagation::Background);
        cluster.settle(|cluster| {
            let count = |kind| cluster.store.list(kind).count();
            // The owner goes last.
            assert!(!is_foreground || count(Kind::DEPLOYMENT) > 0 || count(Kind::POD) == 0);
        });
        let count = |kind| cluster.store.list(kind).count();
        prop_assert_eq!(count(Kind::DEPLOYMENT), 0);
        prop_assert_eq!((count(Kind::ENDPOINT_SLICE), count(Kind::ENDPOINTS)), (0, 0));
        let left = if policy == Propagation::Orphan { n_sets } else { 0 };
        prop_assert_eq!(count(Kind::REPLICA_SET), left);
        prop_assert_eq!(count(Kind::POD), left * 3);
        check_quiet(&mut cluster);
    }

    #[test]
    fn a_deleted_namespace_is_emptied_and_goes(seed: u64) {
        let mut cluster = Cluster::new(seed);
        cluster.create(Kind::DEPLOYMENT, "other", deployment("web", 3, "v1", json!({})));
        cluster.create(Kind::SERVICE, "other", service("web"));
        cluster.create(Kind::DEPLOYMENT, "default", deployment("web", 2, "v1", json!({})));
        for _ in 0..cluster.dice.below(500) {
            cluster.step();
        }
        cluster.delete(&Kind::NAMESPACE.key(&Name::cluster("other")), Propagation::Background);
        cluster.settle(|_| {});
        let left: Vec<&ObjectRef> =
            cluster.store.objects.keys().filter(|key| key.name.namespace == "other").collect();
        prop_assert_eq!(left, Vec::<&ObjectRef>::new());
        prop_assert_eq!(cluster.store.list(Kind::NAMESPACE).count(), 1);
        check_goal(&cluster);
        check_quiet(&mut cluster);
    }
}

fn number(value: usize) -> i64 {
    i64::try_from(value).unwrap()
}

fn service(app: &str) -> Value {
    json!({
        "metadata": {"name": app, "labels": {"app": app}},
        "spec": {
            "clusterIP": "10.96.0.9",
            "selector": {"app": app},
            "ports": [{"port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    })
}

/// Deployments, services, and pods that nobody or nobody any more owns.
fn messy_start(cluster: &mut Cluster) {
    for app in ["web", "api"] {
        let replicas = number(cluster.dice.below(5));
        cluster.create(Kind::DEPLOYMENT, "default", deployment(app, replicas, "v1", json!({})));
        cluster.create(Kind::SERVICE, "default", service(app));
        for _ in 0..cluster.dice.below(3) {
            let mut pod = template(app, "v0");
            pod["metadata"]["generateName"] = json!("stray-");
            match cluster.dice.below(2) {
                0 => pod["metadata"]["labels"] = json!({"app": "stray"}),
                _ => {
                    pod["metadata"]["ownerReferences"] = json!([{
                        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "gone",
                        "uid": "gone", "controller": true,
                    }]);
                }
            }
            cluster.create(Kind::POD, "default", pod);
        }
    }
}

fn disturb(cluster: &mut Cluster) {
    let name = Name::new("default", "web");
    match cluster.dice.below(5) {
        0 => {
            let replicas = cluster.dice.below(6);
            cluster.patch(Kind::DEPLOYMENT, &name, &json!({"spec": {"replicas": replicas}}));
        }
        1 => {
            let version = format!("v{}", cluster.dice.below(4));
            let patch = json!({"spec": {"template": template("web", &version)}});
            cluster.patch(Kind::DEPLOYMENT, &name, &patch);
        }
        2 => {
            let pods: Vec<ObjectRef> =
                cluster.store.list(Kind::POD).map(|(key, _)| key.clone()).collect();
            if let Some(pod) = pods.get(cluster.dice.below(pods.len())) {
                cluster.delete(pod, Propagation::Background);
            }
        }
        3 => {
            let sets: Vec<ObjectRef> =
                cluster.store.list(Kind::REPLICA_SET).map(|(key, _)| key.clone()).collect();
            if let Some(set) = sets.get(cluster.dice.below(sets.len())) {
                cluster.delete(set, Propagation::Background);
            }
        }
        _ => cluster.crash(),
    }
}

/// Pods of a Deployment's app that are meant to stay.
fn active_pods<'a>(cluster: &'a Cluster, namespace: &'a str, app: &'a str) -> Vec<&'a Value> {
    let pods = cluster.store.list(Kind::POD).filter(|(key, pod)| {
        key.name.namespace == namespace
            && str_at(pod, &["metadata", "labels", "app"]) == app
            && at(pod, &["metadata", "deletionTimestamp"]).is_null()
    });
    pods.map(|(_, pod)| pod).collect()
}

fn is_ready(pod: &Value) -> bool {
    condition::state(at(pod, &["status"]), "Ready") == "True"
}

fn check_limits(cluster: &Cluster, limits: std::ops::RangeInclusive<i64>) {
    let pods = active_pods(cluster, "default", "web");
    let available = pods.iter().filter(|pod| is_ready(pod)).count();
    assert!(number(available) >= *limits.start(), "{available} available, {limits:?}");
    assert!(number(pods.len()) <= *limits.end(), "{} pods, {limits:?}", pods.len());
}

fn check_goal(cluster: &Cluster) {
    let mut networks = BTreeSet::new();
    for (key, node) in cluster.store.list(Kind::NODE) {
        let network = str_at(node, &["spec", "podCIDR"]);
        assert!(!network.is_empty() && networks.insert(network), "{key}");
    }
    for (key, deployment) in cluster.store.list(Kind::DEPLOYMENT) {
        let (namespace, app) = (key.name.namespace.as_str(), key.name.name.as_str());
        let pods = active_pods(cluster, namespace, app);
        let replicas = int_at(deployment, &["spec", "replicas"]);
        assert_eq!(number(pods.len()), replicas, "{key}");
        for pod in &pods {
            let wanted = at(deployment, &["spec", "template", "spec", "containers"]);
            assert_eq!(at(pod, &["spec", "containers"]), wanted);
        }
        let status = at(deployment, &["status"]);
        for field in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
            assert_eq!(int_at(status, &[field]), replicas, "{field} of {key}");
        }
        let progressing = condition::find(status, "Progressing").unwrap();
        assert_eq!(progressing["reason"], "NewReplicaSetAvailable", "{key}");
        let generation = int_at(deployment, &["metadata", "generation"]);
        assert_eq!(int_at(status, &["observedGeneration"]), generation, "{key}");
        check_history(cluster, key);
    }
    for (key, _) in cluster.store.list(Kind::SERVICE) {
        check_endpoints(cluster, &key.name);
    }
    for (key, _) in cluster.store.list(Kind::NAMESPACE) {
        let namespace = &key.name.name;
        let account = Kind::SERVICE_ACCOUNT.key(&Name::new(namespace, "default"));
        let ca = Kind::CONFIG_MAP.key(&Name::new(namespace, "kube-root-ca.crt"));
        assert!(cluster.store.objects.contains_key(&account));
        assert_eq!(cluster.store.objects[&ca]["data"]["ca.crt"], "CA");
    }
}

fn check_history(cluster: &Cluster, deployment: &ObjectRef) {
    let sets = cluster.store.list(Kind::REPLICA_SET).filter(|(key, set)| {
        key.name.namespace == deployment.name.namespace
            && list_at(set, &["metadata", "ownerReferences"])
                .iter()
                .any(|it| it["name"] == deployment.name.name.as_str())
    });
    let old = sets.filter(|(_, set)| int_at(set, &["spec", "replicas"]) == 0).count();
    assert!(old <= 3, "{old} old replica sets of {deployment}");
}

fn check_endpoints(cluster: &Cluster, service: &Name) {
    let wanted: BTreeSet<&str> = active_pods(cluster, &service.namespace, &service.name)
        .into_iter()
        .filter(|pod| is_ready(pod))
        .map(|pod| str_at(pod, &["status", "podIP"]))
        .collect();
    let slices: Vec<&Value> = cluster
        .store
        .list(Kind::ENDPOINT_SLICE)
        .filter(|(key, slice)| {
            let of = str_at(slice, &["metadata", "labels", "kubernetes.io/service-name"]);
            key.name.namespace == service.namespace && of == service.name
        })
        .map(|(_, slice)| slice)
        .collect();
    assert_eq!(slices.len(), 1, "slices of {service}");
    let endpoints = list_at(slices[0], &["endpoints"]).iter();
    let ready = endpoints.filter(|it| it["conditions"]["ready"] == true);
    let listed: BTreeSet<&str> = ready.map(|it| it["addresses"][0].as_str().unwrap()).collect();
    assert_eq!(listed, wanted, "slice of {service}");
    let classic = &cluster.store.objects[&Kind::ENDPOINTS.key(service)];
    let subsets = list_at(classic, &["subsets"]).iter();
    let addresses = subsets.flat_map(|it| list_at(it, &["addresses"]));
    let listed: BTreeSet<&str> = addresses.map(|it| str_at(it, &["ip"])).collect();
    assert_eq!(listed, wanted, "endpoints of {service}");
}

/// Nothing is written without a reason, not even by a hub that has just started.
fn check_quiet(cluster: &mut Cluster) {
    let n_writes = cluster.store.n_writes;
    cluster.settle(|_| {});
    cluster.crash();
    cluster.settle(|_| {});
    assert_eq!(cluster.store.n_writes, n_writes);
}

#[test]
fn dice_are_fair_enough() {
    let mut dice = Dice::new(7);
    let faces: BTreeSet<usize> = (0..100).map(|_| dice.below(6)).collect();
    assert_eq!(faces.len(), 6);
}
