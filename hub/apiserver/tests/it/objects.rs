//! The life of objects over HTTP.

use serde_json::{Value, json};

use crate::harness::World;

const CMS: &str = "/api/v1/namespaces/default/configmaps";

async fn three(world: &mut World) {
    for name in ["a", "b", "c"] {
        let body = json!({"metadata":{"name":name,"labels":{"odd":(name != "b").to_string()}}});
        assert_eq!(world.post(CMS, &body).await.code, 201);
    }
}

fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it["metadata"]["name"].as_str())
        .collect()
}

#[tokio::test]
async fn pages_are_one_snapshot() {
    let mut world = World::new().await;
    three(&mut world).await;
    let first = world.get(&format!("{CMS}?limit=1")).await.json();
    assert_eq!(names(&first), ["a"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
    assert_eq!(world.send("DELETE", &format!("{CMS}/b"), &[], "").await.code, 200);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = world.get(&format!("{CMS}?limit=5&continue={token}")).await.json();
    assert_eq!(names(&rest), ["b", "c"], "as it was when the first page was read");
    assert_eq!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert_eq!(rest["metadata"].get("continue"), None);
    let odd = world.get(&format!("{CMS}?limit=1&labelSelector=odd%3Dtrue")).await.json();
    assert_eq!(names(&odd), ["a"]);
    assert_eq!(odd["metadata"].get("remainingItemCount"), None);
    let token = odd["metadata"]["continue"].as_str().unwrap();
    let rest = world.get(&format!("{CMS}?limit=1&labelSelector=odd%3Dtrue&continue={token}")).await;
    assert_eq!(names(&rest.json()), ["c"]);
    let one = world
        .get("/api/v1/configmaps?fieldSelector=metadata.namespace%3Ddefault,metadata.name%3Dc")
        .await;
    assert_eq!(names(&one.json()), ["c"]);
    world.stop().await;
}

#[tokio::test]
async fn a_dry_run_stores_nothing() {
    let mut world = World::new().await;
    let before = world.registry.revision();
    let reply = world.post(&format!("{CMS}?dryRun=All"), &json!({"metadata":{"name":"dry"}})).await;
    assert_eq!(reply.code, 201);
    assert_eq!(reply.json()["metadata"].get("resourceVersion"), None);
    assert_eq!(world.registry.revision(), before);
    assert_eq!(world.get(&format!("{CMS}/dry")).await.code, 404);
    world.stop().await;
}

#[tokio::test]
async fn who_deletes_a_job_without_a_policy_is_told_that_its_pods_stay() {
    const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
    let mut world = World::new().await;
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]});
    let spec = json!({"template": {"spec": spec}});
    for (name, query) in [("a", ""), ("b", "?propagationPolicy=Background")] {
        let job = json!({"metadata": {"name": name}, "spec": spec});
        assert_eq!(world.post(JOBS, &job).await.code, 201);
        let gone = world.send("DELETE", &format!("{JOBS}/{name}{query}"), &[], "").await;
        assert_eq!(gone.code, 200);
        let told = gone.headers.get("warning").map(|it| it.to_str().unwrap().to_owned());
        assert_eq!(told.is_some_and(|it| it.contains("child pods are preserved")), name == "a");
        let left = world.get(&format!("{JOBS}/{name}")).await;
        assert_eq!(left.code, if name == "a" { 200 } else { 404 });
    }
    world.stop().await;
}

#[tokio::test]
async fn forms_are_as_accepted() {
    let mut world = World::new().await;
    three(&mut world).await;
    for (accept, kind, version) in [
        ("application/json;as=Table;v=v1;g=meta.k8s.io", "Table", "meta.k8s.io/v1"),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", "Table", "meta.k8s.io/v1beta1"),
        (
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            "PartialObjectMetadataList",
            "meta.k8s.io/v1",
        ),
        ("application/vnd.kubernetes.protobuf,application/json", "ConfigMapList", "v1"),
    ] {
        let list = world.send("GET", CMS, &[("accept", accept)], "").await.json();
        assert_eq!(
            (list["kind"].as_str(), list["apiVersion"].as_str()),
            (Some(kind), Some(version))
        );
    }
    let pretty = world.get(&format!("{CMS}/a?pretty=true")).await;
    assert!(pretty.body.starts_with(b"{\n  \"apiVersion\""));
    world.stop().await;
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_ask() {
    let mut world = World::new().await;
    let body = json!({"metadata":{"name":"large"},"data":{"a":"x".repeat(300_000)}});
    assert_eq!(world.post(CMS, &body).await.code, 201);
    let plain = world.get(CMS).await;
    let packed = world.send("GET", CMS, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    assert!(packed.body.len() * 10 < plain.body.len());
    let mut text = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(&*packed.body), &mut text).unwrap();
    assert_eq!(text, plain.body);
    world.stop().await;
}

#[tokio::test]
async fn discovery_and_openapi_are_versioned_documents() {
    let mut world = World::new().await;
    let accept =
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let groups = world.send("GET", "/apis", &[("accept", accept)], "").await;
    assert_eq!(
        groups.headers["content-type"],
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    assert_eq!(groups.json()["kind"], "APIGroupDiscoveryList");
    assert_eq!(world.get("/apis").await.json()["kind"], "APIGroupList");
    assert_eq!(world.get("/apis/apps").await.json()["kind"], "APIGroup");
    assert_eq!(world.get("/apis/apps/v1").await.json()["kind"], "APIResourceList");
    assert_eq!(world.get("/apis/apps/v9").await.code, 404);
    let openapi = world.get("/openapi/v2").await;
    assert_eq!(
        openapi.headers["content-type"],
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    );
    let etag = openapi.headers["etag"].to_str().unwrap().to_owned();
    let known = world.send("GET", "/openapi/v2", &[("if-none-match", &etag)], "").await;
    assert_eq!((known.code, known.body.len()), (304, 0));
    world.stop().await;
}
