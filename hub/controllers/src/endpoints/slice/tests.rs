//! What stands in EndpointSlices, and how little of it changes.

use expect_test::{Expect, expect};

use super::*;
use crate::testing;

fn service(changes: Value) -> (Kind, Value) {
    let mut spec = json!({
        "clusterIP": "10.96.0.9", "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}],
    });
    for (field, value) in changes.as_object().unwrap() {
        spec[field] = value.clone();
    }
    (Kind::SERVICE, json!({"metadata": {"name": "web", "labels": {"team": "a"}}, "spec": spec}))
}

fn pod(place: usize, port: u16) -> (Kind, Value) {
    let container = json!({"ports": [{"name": "web", "containerPort": port}]});
    (
        Kind::POD,
        json!({
            "metadata": {"name": format!("p{place:03}"), "labels": {"app": "web"}},
            "spec": {"nodeName": "n", "containers": [container]},
            "status": {
                "phase": "Running",
                "podIP": format!("10.42.{}.{}", place / 250, place % 250),
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }),
    )
}

fn plan(world: &World) -> Vec<Write> {
    let key = Kind::SERVICE.key(&Name::new("default", "web"));
    EndpointSliceController.reconcile(&key, world, testing::now()).writes
}

fn check(objects: Vec<(Kind, Value)>, expect: Expect) {
    let plan = Plan::from(plan(&testing::world(objects)));
    expect.assert_eq(&testing::text(&plan));
}

/// Performs the writes, and tells for each how many endpoints it leaves in which slice.
fn apply(world: &mut World) -> Vec<String> {
    let mut texts = Vec::new();
    for write in plan(world) {
        let count = |value: &Value| value["endpoints"].as_array().map_or(0, Vec::len);
        match write {
            Write::Create { mut object, .. } => {
                let name = format!("web-{}", world.list(Kind::ENDPOINT_SLICE).count());
                texts.push(format!("create {name} {}", count(&object)));
                object["metadata"]["name"] = json!(name);
                object["metadata"]["uid"] = json!(name);
                world.put(Object::from_value(Kind::ENDPOINT_SLICE, object), testing::now());
            }
            Write::Patch { target, patch, .. } => {
                texts.push(format!("patch {} {}", target.name.name, count(&patch)));
                let mut object = world.find(&target).unwrap().value().clone();
                object["endpoints"] = patch["endpoints"].clone();
                world.put(Object::from_value(Kind::ENDPOINT_SLICE, object), testing::now());
            }
            Write::Delete { target, .. } => {
                texts.push(format!("delete {}", target.name.name));
                world.remove(&target, 0, testing::now());
            }
            Write::Replace { .. } | Write::Note(_) => unreachable!("not for slices"),
        }
    }
    texts
}

#[test]
fn a_slice_says_what_kubernetes_says() {
    check(
        vec![service(json!({})), pod(1, 8080)],
        expect![[r#"
        create endpointslices.discovery.k8s.io {"addressType":"IPv4","apiVersion":"discovery.k8s.io/v1","endpoints":[{"addresses":["10.42.0.1"],"conditions":{"ready":true,"serving":true,"terminating":false},"nodeName":"n","targetRef":{"kind":"Pod","name":"p001","namespace":"default","uid":"p001"}}],"kind":"EndpointSlice","metadata":{"generateName":"web-","labels":{"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"web","team":"a"},"namespace":"default","ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":true,"controller":true,"kind":"Service","name":"web","uid":"web"}]},"ports":[{"name":"http","port":8080,"protocol":"TCP"}]}
    "#]],
    );
    // Somebody looks after a Service without pods too.
    check(
        vec![service(json!({"clusterIP": "None"}))],
        expect![[r#"
        create endpointslices.discovery.k8s.io {"addressType":"IPv4","apiVersion":"discovery.k8s.io/v1","endpoints":[],"kind":"EndpointSlice","metadata":{"generateName":"web-","labels":{"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"web","service.kubernetes.io/headless":"","team":"a"},"namespace":"default","ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":true,"controller":true,"kind":"Service","name":"web","uid":"web"}]},"ports":[]}
    "#]],
    );
    check(vec![service(json!({"selector": null})), pod(1, 8080)], expect![[""]]);
    check(vec![service(json!({"type": "ExternalName"})), pod(1, 8080)], expect![[""]]);
}

#[test]
fn conditions_follow_readiness_and_deletion() {
    let conditions = |change: &dyn Fn(&mut Value), service_change: Value| {
        let (_, mut pod) = pod(1, 8080);
        change(&mut pod);
        let writes = plan(&testing::world([service(service_change), (Kind::POD, pod)]));
        let Write::Create { object, .. } = &writes[0] else { panic!("{writes:?}") };
        object["endpoints"][0]["conditions"].to_string()
    };
    let not_ready = |pod: &mut Value| pod["status"]["conditions"] = json!([]);
    let going = |pod: &mut Value| pod["metadata"]["deletionTimestamp"] = json!("x");
    let ready = r#"{"ready":true,"serving":true,"terminating":false}"#;
    assert_eq!(conditions(&|_| {}, json!({})), ready);
    let waiting = r#"{"ready":false,"serving":false,"terminating":false}"#;
    assert_eq!(conditions(&not_ready, json!({})), waiting);
    let leaving = r#"{"ready":false,"serving":true,"terminating":true}"#;
    assert_eq!(conditions(&going, json!({})), leaving);
    let published = r#"{"ready":true,"serving":false,"terminating":false}"#;
    let publish = json!({"publishNotReadyAddresses": true});
    assert_eq!(conditions(&not_ready, publish), published);
    // No address yet, or no more.
    let no_address = |pod: &mut Value| pod["status"]["podIP"] = json!("");
    assert_eq!(conditions(&no_address, json!({})), "null");
    let ended = |pod: &mut Value| pod["status"]["phase"] = json!("Succeeded");
    assert_eq!(conditions(&ended, json!({})), "null");
}

#[test]
fn slices_hold_a_hundred_and_change_little() {
    let pods = (0..250).map(|place| pod(place, 8080));
    let mut world = testing::world(pods.chain([service(json!({}))]));
    assert_eq!(apply(&mut world), ["create web-0 100", "create web-1 100", "create web-2 50"]);
    assert_eq!(apply(&mut world), Vec::<String>::new());
    // One pod more, or less, changes one slice.
    let (kind, mut more) = pod(250, 8080);
    more["metadata"]["namespace"] = json!("default");
    more["metadata"]["uid"] = json!("p250");
    world.put(Object::from_value(kind, more), testing::now());
    assert_eq!(apply(&mut world), ["patch web-2 51"]);
    world.remove(&Kind::POD.key(&Name::new("default", "p005")), 0, testing::now());
    assert_eq!(apply(&mut world), ["patch web-0 99"]);
    // Pods that serve the port elsewhere stand in a slice of their own.
    let (kind, mut other) = pod(6, 9090);
    other["metadata"]["namespace"] = json!("default");
    other["metadata"]["uid"] = json!("p006");
    other["metadata"]["resourceVersion"] = json!("8");
    world.put(Object::from_value(kind, other), testing::now());
    assert_eq!(apply(&mut world), ["create web-3 1", "patch web-0 98"]);
    for place in 200..=250 {
        let name = format!("p{place:03}");
        world.remove(&Kind::POD.key(&Name::new("default", &name)), 0, testing::now());
    }
    assert_eq!(apply(&mut world), ["delete web-2"]);
}
