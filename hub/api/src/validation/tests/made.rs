//! What a server stores of the least that a client may say: one row a kind.

use serde_json::{Value, json};

use super::context;
use crate::write::create;

/// What is stored of `object`, without the metadata that every object gets.
fn made(plural: &str, object: &Value) -> Value {
    let mut made = create(object.clone(), &context(plural)).unwrap();
    let map = made.as_object_mut().unwrap();
    let generation = map["metadata"].get("generation").cloned();
    for key in ["apiVersion", "kind", "metadata"] {
        map.remove(key);
    }
    if let Some(generation) = generation {
        map.insert("generation".to_owned(), generation);
    }
    made
}

/// A kind, the least that a client may say, and what is stored of it.
type Case = (&'static str, Value, Value);

#[test]
fn the_least_of_every_kind_is_filled_in() {
    for (plural, object, expected) in cases() {
        assert_eq!(made(plural, &object), expected, "{plural}");
    }
}

/// The least that a client may say of each kind.
pub(crate) fn least() -> impl Iterator<Item = (&'static str, Value)> {
    cases().into_iter().map(|(plural, object, _)| (plural, object))
}

fn cases() -> Vec<Case> {
    let named = |name: &str, mut object: Value| {
        object["metadata"] = json!({"name": name});
        object
    };
    let devices = |allocation: Value| json!({"requests": [{"name": "gpu", "exactly": allocation}]});
    let asked = json!({"deviceClassName": "gpu.example.com"});
    let pod_request = json!({"spec": {
        "signerName": "a.io/b", "podName": "p", "podUID": "1", "serviceAccountName": "s",
        "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3", "stubPKCS10Request": "YQ==",
    }});
    let filled =
        json!({"deviceClassName": "gpu.example.com", "allocationMode": "ExactCount", "count": 1});
    vec![
        (
            "poddisruptionbudgets",
            named(
                "a",
                json!({"spec": {"minAvailable": "50%", "selector": {}}, "status": {"expectedPods": 3}}),
            ),
            json!({
                "generation": 1,
                "spec": {"minAvailable": "50%", "selector": {}},
                "status": {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0},
            }),
        ),
        (
            "networkpolicies",
            named("a", json!({"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}})),
            json!({
                "generation": 1,
                "spec": {
                    "podSelector": {},
                    "egress": [{"ports": [{"port": 53, "protocol": "TCP"}]}],
                    "policyTypes": ["Ingress", "Egress"],
                },
            }),
        ),
        (
            "ingresses",
            named(
                "a",
                json!({"spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}}),
            ),
            json!({
                "generation": 1,
                "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
                "status": {"loadBalancer": {}},
            }),
        ),
        (
            "ingressclasses",
            named(
                "a",
                json!({"spec": {"controller": "a.io/b", "parameters": {"kind": "K", "name": "n"}}}),
            ),
            json!({
                "generation": 1,
                "spec": {"controller": "a.io/b", "parameters": {"kind": "K", "name": "n", "scope": "Cluster"}},
            }),
        ),
        (
            "ipaddresses",
            named(
                "10.0.0.1",
                json!({"spec": {"parentRef": {"resource": "services", "name": "a", "namespace": "b"}}}),
            ),
            json!({"spec": {"parentRef": {"resource": "services", "name": "a", "namespace": "b"}}}),
        ),
        (
            "servicecidrs",
            named("a", json!({"spec": {"cidrs": ["10.0.0.0/16", "fd00::/112"]}})),
            json!({"spec": {"cidrs": ["10.0.0.0/16", "fd00::/112"]}, "status": {}}),
        ),
        (
            "storageclasses",
            named("a", json!({"provisioner": "a.io/b"})),
            json!({"provisioner": "a.io/b", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
        ),
        (
            "csidrivers",
            named("a.io", json!({"spec": {}})),
            json!({"spec": {
                "attachRequired": true,
                "fsGroupPolicy": "ReadWriteOnceWithFSType",
                "podInfoOnMount": false,
                "requiresRepublish": false,
                "seLinuxMount": false,
                "storageCapacity": false,
                "volumeLifecycleModes": ["Persistent"],
            }}),
        ),
        ("csinodes", named("a", json!({"spec": {}})), json!({"spec": {"drivers": []}})),
        (
            "csistoragecapacities",
            named("a", json!({"storageClassName": "fast", "capacity": "1024Mi"})),
            json!({"storageClassName": "fast", "capacity": "1Gi"}),
        ),
        (
            "volumeattachments",
            named(
                "a",
                json!({"spec": {"attacher": "a.io", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}),
            ),
            json!({
                "spec": {"attacher": "a.io", "nodeName": "n", "source": {"persistentVolumeName": "v"}},
                "status": {"attached": false},
            }),
        ),
        (
            "volumeattributesclasses",
            named("a", json!({"driverName": "a.io", "parameters": {"iops": "5"}})),
            json!({"driverName": "a.io", "parameters": {"iops": "5"}}),
        ),
        (
            "runtimeclasses",
            named("a", json!({"handler": "kata", "overhead": {"podFixed": {"cpu": "1000m"}}})),
            json!({"handler": "kata", "overhead": {"podFixed": {"cpu": "1"}}}),
        ),
        (
            "priorityclasses",
            named("a", json!({"value": 5})),
            json!({"generation": 1, "value": 5, "preemptionPolicy": "PreemptLowerPriority"}),
        ),
        (
            "flowschemas",
            named("a", json!({"spec": {"priorityLevelConfiguration": {"name": "b"}}})),
            json!({
                "generation": 1,
                "spec": {"matchingPrecedence": 1000, "priorityLevelConfiguration": {"name": "b"}},
                "status": {},
            }),
        ),
        (
            "prioritylevelconfigurations",
            named(
                "a",
                json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}}),
            ),
            json!({
                "generation": 1,
                "spec": {"type": "Limited", "limited": {
                    "lendablePercent": 0,
                    "nominalConcurrencyShares": 30,
                    "limitResponse": {"type": "Queue", "queuing": {"queues": 64, "handSize": 8, "queueLengthLimit": 50}},
                }},
                "status": {},
            }),
        ),
        ("deviceclasses", named("a", json!({"spec": {}})), json!({"generation": 1, "spec": {}})),
        (
            "devicetaintrules",
            named("a", json!({"spec": {"taint": {"key": "k", "effect": "NoSchedule"}}})),
            json!({"generation": 1, "spec": {"taint": {
                "key": "k", "effect": "NoSchedule", "timeAdded": "2026-11-20T08:00:00Z",
            }}}),
        ),
        (
            "resourceclaims",
            named("a", json!({"spec": {"devices": devices(asked.clone())}})),
            json!({"spec": {"devices": devices(filled.clone())}, "status": {}}),
        ),
        (
            "resourceclaimtemplates",
            named("a", json!({"spec": {"spec": {"devices": devices(asked)}}})),
            json!({"spec": {"spec": {"devices": devices(filled)}}}),
        ),
        (
            "resourceslices",
            named(
                "a",
                json!({"spec": {"driver": "a.io", "nodeName": "n", "pool": {"name": "n", "resourceSliceCount": 1}}}),
            ),
            json!({"generation": 1, "spec": {"driver": "a.io", "nodeName": "n", "pool": {"name": "n", "resourceSliceCount": 1}}}),
        ),
        (
            "apiservices",
            named(
                "v1.a.io",
                json!({"spec": {
                    "group": "a.io", "version": "v1", "groupPriorityMinimum": 10, "versionPriority": 10,
                    "service": {"name": "a", "namespace": "b"},
                }}),
            ),
            json!({
                "spec": {
                    "group": "a.io", "version": "v1", "groupPriorityMinimum": 10, "versionPriority": 10,
                    "service": {"name": "a", "namespace": "b", "port": 443},
                },
                "status": {},
            }),
        ),
        (
            "clustertrustbundles",
            named(
                "a.io:b:c",
                json!({"spec": {"signerName": "a.io/b", "trustBundle": "-----BEGIN CERTIFICATE-----"}}),
            ),
            json!({"spec": {"signerName": "a.io/b", "trustBundle": "-----BEGIN CERTIFICATE-----"}}),
        ),
        ("podcertificaterequests", named("a", pod_request.clone()), {
            let mut made = pod_request;
            made["spec"]["maxExpirationSeconds"] = json!(86400);
            made["status"] = json!({});
            made
        }),
    ]
}

#[test]
fn mandatory_flow_rules_are_valid_and_fixed() {
    use crate::resources::flowcontrol;
    let schemas =
        flowcontrol::mandatory_schemas().into_iter().chain(flowcontrol::suggested_schemas());
    let levels = flowcontrol::mandatory_levels().into_iter().chain(flowcontrol::suggested_levels());
    for object in schemas {
        create(object, &context("flowschemas")).unwrap();
    }
    for object in levels {
        create(object, &context("prioritylevelconfigurations")).unwrap();
    }
    let mut changed = flowcontrol::mandatory_schemas().remove(1);
    changed["spec"]["matchingPrecedence"] = json!(9999);
    let refused = create(changed, &context("flowschemas")).unwrap_err();
    assert!(refused.message.contains("spec of 'catch-all' must equal the fixed value"));
}
