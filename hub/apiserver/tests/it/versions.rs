//! One kind in several versions, over HTTP: each client sees its own, one of them is stored.

use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::harness::World;

const V1: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
const V2: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";

async fn patch(world: &mut World, path: &str, media: &str, body: &Value) -> Value {
    let reply = world.send("PATCH", path, &[("content-type", media)], &body.to_string()).await;
    assert_eq!(reply.code, 200, "{}", reply.json());
    reply.json()
}

#[tokio::test]
async fn an_older_version_is_a_view_of_the_newer() {
    let mut world = World::new().await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let made = world
        .post(V1, &json!({
            "metadata": {"name": "a"},
            "spec": {
                "maxReplicas": 3, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 70,
            },
        }))
        .await;
    assert_eq!(made.code, 201, "{}", made.json());
    let made = made.json();
    assert_eq!(made["apiVersion"], "autoscaling/v1");
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 70);
    assert_eq!(made["spec"]["minReplicas"], 1, "defaults are those of the stored version");

    let newer = world.get(&format!("{V2}/a")).await.json();
    assert_eq!(newer["apiVersion"], "autoscaling/v2");
    assert_eq!(newer["metadata"]["uid"], made["metadata"]["uid"]);
    let cpu = json!({"type": "Resource", "resource": {
        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70},
    }});
    assert_eq!(newer["spec"]["metrics"], json!([cpu]));

    // What the older version has no field for survives its writers.
    let memory = json!({"type": "Resource", "resource": {
        "name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"},
    }});
    let both = json!({"spec": {"metrics": [memory, cpu]}});
    patch(&mut world, &format!("{V2}/a"), "application/merge-patch+json", &both).await;
    let change = json!({"spec": {"maxReplicas": 5, "targetCPUUtilizationPercentage": 60}});
    let shown =
        patch(&mut world, &format!("{V1}/a"), "application/strategic-merge-patch+json", &change)
            .await;
    assert_eq!(shown["spec"]["maxReplicas"], 5);
    assert!(shown["metadata"]["annotations"][METRICS].as_str().unwrap().contains("memory"));
    let mut whole = world.get(&format!("{V1}/a")).await.json();
    whole["spec"]["maxReplicas"] = json!(6);
    let json_media = [("content-type", "application/json")];
    let reply = world.send("PUT", &format!("{V1}/a"), &json_media, &whole.to_string()).await;
    assert_eq!(reply.code, 200, "{}", reply.json());
    let newer = world.get(&format!("{V2}/a")).await.json();
    assert_eq!(newer["spec"]["maxReplicas"], 6);
    assert_eq!(newer["spec"]["metrics"][0], memory);
    assert_eq!(newer["spec"]["metrics"][1]["resource"]["target"]["averageUtilization"], 60);
    assert_eq!(newer["metadata"].get("annotations"), None);

    let wrong = json!({"spec": {"maxReplicas": 0}}).to_string();
    let media = [("content-type", "application/merge-patch+json")];
    let refused = world.send("PATCH", &format!("{V1}/a"), &media, &wrong).await;
    assert_eq!(refused.code, 422);
    assert_eq!(
        refused.json()["message"],
        "HorizontalPodAutoscaler.autoscaling \"a\" is invalid: [spec.maxReplicas: Invalid value: 0: must be greater than or equal to 1, spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`]"
    );
    world.stop().await;
}

#[tokio::test]
async fn lists_watches_and_tables_are_of_the_version_asked_for() {
    let mut world = World::new().await;
    let slice = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let older = "/apis/discovery.k8s.io/v1beta1/namespaces/default/endpointslices";
    let body = json!({
        "metadata": {"name": "s"}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "zone": "z"}],
    });
    assert_eq!(world.post(slice, &body).await.code, 201);

    let list = world.get(older).await.json();
    assert_eq!(list["kind"], "EndpointSliceList");
    assert_eq!(list["apiVersion"], "discovery.k8s.io/v1beta1");
    let topology = json!({"topology.kubernetes.io/zone": "z"});
    assert_eq!(list["items"][0]["endpoints"][0]["topology"], topology);
    assert_eq!(list["items"][0]["apiVersion"], "discovery.k8s.io/v1beta1");

    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let path = format!("{older}?includeObject=Object");
    let table = world.send("GET", &path, &accept, "").await.json();
    assert_eq!(table["rows"][0]["cells"][0], "s");
    assert_eq!(table["rows"][0]["object"]["apiVersion"], "discovery.k8s.io/v1beta1");
    assert_eq!(table["rows"][0]["object"]["endpoints"][0]["topology"], topology);

    let answer = world.open("GET", &format!("{older}?watch=true"), &[], "").await;
    let frame: Bytes = answer.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
    let event: Value = serde_json::from_slice(&frame).unwrap();
    assert_eq!(event["type"], "ADDED");
    assert_eq!(event["object"]["apiVersion"], "discovery.k8s.io/v1beta1");
    assert_eq!(event["object"]["endpoints"][0]["topology"], topology);

    let deleted = world.send("DELETE", &format!("{older}/s"), &[], "").await;
    assert_eq!(deleted.code, 200);
    assert_eq!(world.get(&format!("{slice}/s")).await.code, 404);
    world.stop().await;
}

#[tokio::test]
async fn discovery_lists_the_preferred_version_first() {
    let mut world = World::new().await;
    for (group, versions) in [("autoscaling", ["v2", "v1"]), ("batch", ["v1", "v1beta1"])] {
        let found = world.get(&format!("/apis/{group}")).await.json();
        let listed: Vec<&str> = found["versions"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|it| it["version"].as_str())
            .collect();
        assert_eq!(listed, versions);
        assert_eq!(found["preferredVersion"]["version"], versions[0]);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_pod_is_resized_and_bound_through_its_collection() {
    let mut world = World::new().await;
    let pods = "/api/v1/namespaces/default/pods";
    let resources = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}});
    let body = json!({
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i:1", "resources": resources}]},
    });
    assert_eq!(world.post(pods, &body).await.code, 201);
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let bound = world.post("/api/v1/namespaces/default/bindings", &binding).await;
    assert_eq!(bound.code, 201, "{}", bound.json());
    let patched = |cpu: &str| json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
    let media = "application/strategic-merge-patch+json";
    let path = format!("{pods}/p/resize");
    let resized = patch(&mut world, &path, media, &patched("1500m")).await;
    assert_eq!(resized["spec"]["nodeName"], "n");
    assert_eq!(resized["spec"]["containers"][0]["resources"]["requests"]["cpu"], "1500m");
    let headers = [("content-type", media)];
    let refused =
        world.send("PATCH", &format!("{pods}/p"), &headers, &patched("1700m").to_string()).await;
    assert_eq!(refused.code, 422, "only through the subresource");
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}});
    assert_eq!(world.post("/api/v1/namespaces/default/limitranges", &range).await.code, 201);
    let more =
        json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "3"}}}]}});
    let refused = world.send("PATCH", &path, &headers, &more.to_string()).await;
    assert_eq!(
        (refused.code, refused.json()["message"].as_str()),
        (
            403,
            Some("pods \"p\" is forbidden: maximum cpu usage per Container is 2, but limit is 3")
        )
    );
    world.stop().await;
}
