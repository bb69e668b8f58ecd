//! What nodes may see and write.

use serde_json::{Value, json};

use crate::harness::World;

#[tokio::test]
async fn nodes_see_their_own_and_write_about_themselves() {
    let mut world = World::new().await;
    let core = "/api/v1/namespaces/default";
    for (node, pod) in [("n1", "p1"), ("n2", "p2")] {
        let made = world.post("/api/v1/nodes", &json!({"metadata": {"name": node}})).await;
        assert_eq!(made.code, 201);
        let secret = json!({"metadata": {"name": format!("{pod}-key")}});
        assert_eq!(world.post(&format!("{core}/secrets"), &secret).await.code, 201);
        let body = json!({
            "metadata": {"name": pod},
            "spec": {
                "nodeName": node,
                "containers": [{"name": "c", "image": "i"}],
                "volumes": [{"name": "v", "secret": {"secretName": format!("{pod}-key")}}],
            },
        });
        assert_eq!(world.post(&format!("{core}/pods"), &body).await.code, 201);
    }
    let node = |it: &'static str| [("impersonate-user", it), ("impersonate-group", "system:nodes")];
    for (path, code) in [
        ("/api/v1/namespaces/default/secrets/p1-key", 200),
        ("/api/v1/namespaces/default/secrets/p2-key", 403),
        ("/api/v1/namespaces/default/secrets", 403),
        ("/api/v1/secrets", 403),
        ("/api/v1/namespaces/default/pods/p1", 200),
        ("/api/v1/namespaces/default/pods/p2", 403),
        ("/api/v1/pods", 403),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", 200),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn2", 403),
        ("/api/v1/nodes/n1", 200),
        ("/api/v1/nodes/n2", 403),
    ] {
        let reply = world.send("GET", path, &node("system:node:n1"), "").await;
        assert_eq!(reply.code, code, "{path}: {}", String::from_utf8_lossy(&reply.body));
    }
    for (method, path, body, code) in [
        ("DELETE", "/api/v1/namespaces/default/pods/p2", json!({}), 403),
        ("DELETE", "/api/v1/nodes/n1", json!({}), 403),
        ("PATCH", "/api/v1/nodes/n1", json!({"metadata": {"labels": {"site": "a"}}}), 200),
        (
            "PATCH",
            "/api/v1/nodes/n1",
            json!({"metadata": {"labels": {"node-restriction.kubernetes.io/a": "a"}}}),
            403,
        ),
        ("PATCH", "/api/v1/nodes/n2", json!({"metadata": {"labels": {"site": "a"}}}), 403),
        (
            "PATCH",
            "/api/v1/namespaces/default/pods/p2/status",
            json!({"status": {"phase": "Failed"}}),
            403,
        ),
        (
            "PATCH",
            "/api/v1/namespaces/default/pods/p1/status",
            json!({"status": {"phase": "Running"}}),
            200,
        ),
    ] {
        let mut headers = node("system:node:n1").to_vec();
        if method == "PATCH" {
            headers.push(("content-type", "application/merge-patch+json"));
        }
        let text = if method == "PATCH" { body.to_string() } else { String::new() };
        let reply = world.send(method, path, &headers, &text).await;
        assert_eq!(reply.code, code, "{method} {path}: {}", reply.json());
    }
    world.stop().await;
}

/// A node that is not what it should be tries what it must not.
#[tokio::test]
async fn a_node_gets_no_further_than_its_own_pods() {
    let mut world = World::new().await;
    let mut uids = Vec::new();
    for node in ["n1", "n2"] {
        let made = world.post("/api/v1/nodes", &json!({"metadata": {"name": node}})).await;
        uids.push(made.json()["metadata"]["uid"].clone());
    }
    let core = "/api/v1/namespaces/default";
    let secret = json!({"metadata": {"name": "key"}});
    assert_eq!(world.post(&format!("{core}/secrets"), &secret).await.code, 201);
    let foreign = json!({
        "metadata": {"name": "foreign"},
        "spec": {"nodeName": "n2", "containers": [{"name": "c", "image": "i"}]},
    });
    assert_eq!(world.post(&format!("{core}/pods"), &foreign).await.code, 201);
    let node = [
        ("impersonate-user", "system:node:n1"),
        ("impersonate-group", "system:nodes"),
        ("content-type", "application/json"),
    ];
    // A selector lets it in, a name must not lead out of it.
    for (path, code) in [
        (
            format!(
                "{core}/pods/foreign?watch=true&timeoutSeconds=1&fieldSelector=spec.nodeName%3Dn1"
            ),
            200,
        ),
        (
            "/api/v1/nodes/n2?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Dn1"
                .to_owned(),
            403,
        ),
        ("/api/v1/nodes?fieldSelector=metadata.name%3Dn1".to_owned(), 200),
        ("/api/v1/nodes?fieldSelector=metadata.name!%3Dn1".to_owned(), 403),
    ] {
        let reply = world.send("GET", &path, &node, "").await;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert_eq!(reply.code, code, "{path}: {text}");
        assert!(!text.contains("ADDED"), "{path}: {text}");
    }
    let owner = |uid: &Value| json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": true}]);
    let mirror = json!({
        "metadata": {
            "name": "static-n1",
            "annotations": {"kubernetes.io/config.mirror": "x"},
            "ownerReferences": owner(&uids[0]),
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
    });
    for (pointer, value, why) in [
        (
            "/metadata/annotations",
            json!({}),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n1\" can only create mirror pods",
        ),
        (
            "/spec/nodeName",
            json!("n2"),
            "node \"n1\" can only create pods with spec.nodeName set to itself",
        ),
        (
            "/metadata/ownerReferences",
            json!([]),
            "node \"n1\" can only create pods with an owner reference set to itself",
        ),
        (
            "/metadata/ownerReferences",
            owner(&uids[1]),
            &format!(
                "node n1 UID mismatch: expected {} got {}",
                uids[0].as_str().unwrap(),
                uids[1].as_str().unwrap()
            ),
        ),
        (
            "/spec/volumes",
            json!([{"name": "v", "secret": {"secretName": "key"}}]),
            "node \"n1\" can not create pods that reference secrets",
        ),
        (
            "/spec/imagePullSecrets",
            json!([{"name": "key"}]),
            "node \"n1\" can not create pods that reference secrets",
        ),
    ] {
        let mut pod = mirror.clone();
        let (above, last) = pointer.rsplit_once('/').unwrap();
        pod.pointer_mut(above).unwrap()[last] = value;
        let refused = world.send("POST", &format!("{core}/pods"), &node, &pod.to_string()).await;
        assert_eq!(
            (refused.code, refused.json()["message"].as_str().unwrap()),
            (403, &*format!("pods \"static-n1\" is forbidden: {why}")),
            "{pointer}"
        );
    }
    let made = world.send("POST", &format!("{core}/pods"), &node, &mirror.to_string()).await;
    assert_eq!(made.code, 201, "{}", made.json());
    let merge = [node[0], node[1], ("content-type", "application/merge-patch+json")];
    // Whoever made it says nothing else of it later.
    let forget = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": null}}});
    let refused = world
        .send("PATCH", &format!("{core}/pods/static-n1/status"), &merge, &forget.to_string())
        .await;
    assert_eq!(refused.code, 422, "{}", refused.json());
    assert!(
        refused.json()["message"].as_str().unwrap().ends_with(
            "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation"
        ),
        "{}",
        refused.json()
    );
    let key = json!({"metadata": {"annotations": {"outbye.dev/key-hash": "mine"}}});
    let refused = world.send("PATCH", "/api/v1/nodes/n1", &merge, &key.to_string()).await;
    assert_eq!(refused.code, 403, "{}", refused.json());
    world.stop().await;
}

#[tokio::test]
async fn a_node_that_was_deleted_is_locked_out() {
    let mut world = World::new().await;
    let certificate = ("system:node:n1", "system:nodes");
    assert_eq!(world.get_h2("/api/v1/nodes/n1", certificate).await.code, 401, "before it joined");
    let made = world.post("/api/v1/nodes", &json!({"metadata": {"name": "n1"}})).await;
    assert_eq!(made.code, 201);
    assert_eq!(world.get_h2("/api/v1/nodes/n1", certificate).await.code, 200);
    let merge = [("content-type", "application/merge-patch+json")];
    let taken = json!({"metadata": {"annotations": {"outbye.dev/key-hash": "another's"}}});
    let reply = world.send("PATCH", "/api/v1/nodes/n1", &merge, &taken.to_string()).await;
    assert_eq!(reply.code, 200);
    assert_eq!(world.get_h2("/api/v1/nodes/n1", certificate).await.code, 401, "another machine");
    world.stop().await;
}
