//! Tokens that a node asks for over HTTPS.

use serde_json::{Value, json};

use crate::harness::World;

const CORE: &str = "/api/v1/namespaces/default";

/// A pod of node `n1` that names two tokens, and a volume whose driver is handed a third.
async fn put_pod(world: &mut World) -> Value {
    let made = world.post("/api/v1/nodes", &json!({"metadata": {"name": "n1"}})).await;
    assert_eq!(made.code, 201);
    let account = json!({"metadata": {"name": "robot"}});
    assert_eq!(world.post(&format!("{CORE}/serviceaccounts"), &account).await.code, 201);
    let driver = json!({
        "metadata": {"name": "csi.example.test"},
        "spec": {"tokenRequests": [{"audience": "store"}], "volumeLifecycleModes": ["Ephemeral"]},
    });
    let made = world.post("/apis/storage.k8s.io/v1/csidrivers", &driver).await;
    assert_eq!(made.code, 201, "{}", made.json());
    let token = |path: &str, audience: &str, seconds: u32| {
        let mut source = json!({"path": path, "expirationSeconds": seconds});
        if !audience.is_empty() {
            source["audience"] = json!(audience);
        }
        json!({"serviceAccountToken": source})
    };
    let sources = json!([token("own", "", 7200), token("vault", "vault", 900)]);
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {
            "nodeName": "n1",
            "serviceAccountName": "robot",
            "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "i"}],
            "volumes": [
                {"name": "tokens", "projected": {"sources": sources}},
                {"name": "store", "csi": {"driver": "csi.example.test"}},
            ],
        },
    });
    let made = world.post(&format!("{CORE}/pods"), &pod).await;
    assert_eq!(made.code, 201, "{}", made.json());
    made.json()["metadata"]["uid"].clone()
}

/// Lets nodes ask for tokens for the audience `registry`.
async fn allow_registry(world: &mut World) {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let verb = "request-serviceaccounts-token-audience";
    let role = json!({
        "metadata": {"name": "pulling"},
        "rules": [{"apiGroups": [""], "resources": ["registry"], "verbs": [verb]}],
    });
    assert_eq!(world.post(&format!("{rbac}/clusterroles"), &role).await.code, 201);
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "metadata": {"name": "pulling"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "pulling"},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": "system:nodes"}],
    });
    assert_eq!(world.post(&format!("{rbac}/clusterrolebindings"), &binding).await.code, 201);
}

#[tokio::test]
async fn a_node_asks_for_what_its_pods_name_and_for_nothing_else() {
    let mut world = World::new().await;
    let uid = put_pod(&mut world).await;
    allow_registry(&mut world).await;
    let node = [
        ("impersonate-user", "system:node:n1"),
        ("impersonate-group", "system:nodes"),
        ("content-type", "application/json"),
    ];
    for (audiences, seconds, code) in [
        (json!([]), 7200, 201),
        (json!(["vault"]), 900, 201),
        (json!(["store"]), 600, 201),
        (json!(["registry"]), 600, 201),
        // A life that the pod does not name, parts of two, two at once, what nobody named.
        (json!([]), 86_400, 403),
        (json!(["vault"]), 7200, 403),
        (json!(["vault", "bank"]), 900, 403),
        (json!(["bank"]), 900, 403),
    ] {
        let request = json!({"spec": {
            "audiences": audiences,
            "expirationSeconds": seconds,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid},
        }});
        let path = format!("{CORE}/serviceaccounts/robot/token");
        let reply = world.send("POST", &path, &node, &request.to_string()).await;
        assert_eq!(reply.code, code, "{audiences} {seconds}: {}", reply.json());
    }
    world.stop().await;
}
