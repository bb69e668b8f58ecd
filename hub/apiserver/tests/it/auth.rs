//! Who gets in.

use serde_json::{Value, json};

use crate::harness::World;

#[tokio::test]
async fn certificates_and_tokens_decide() {
    let mut world = World::new().await;
    for (authorization, path, code) in [
        ("", "/version", 200),
        ("", "/readyz", 200),
        ("", "/api", 401),
        ("", "/api/v1/pods", 401),
        ("Bearer wrong", "/version", 401),
        ("Bearer guest", "/api", 200),
        ("Bearer guest", "/metrics", 403),
        ("Bearer guest", "/api/v1/pods", 403),
        ("Bearer boss", "/api/v1/pods", 200),
        ("Bearer boss", "/metrics", 200),
    ] {
        let reply = world.send("GET", path, &[("authorization", authorization)], "").await;
        assert_eq!(reply.code, code, "{authorization} {path}");
    }
    let path = "/api/v1/namespaces/default/pods";
    assert_eq!(world.get_h2(path, ("root", "system:masters")).await.code, 200);
    let refused = world.get_h2(path, ("jane", "dev")).await;
    assert_eq!(
        refused.json()["message"],
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    world.stop().await;
}

#[tokio::test]
async fn masters_may_act_as_others_and_nobody_else_may() {
    let mut world = World::new().await;
    for (authorization, code, message) in [
        (
            "Bearer boss",
            403,
            "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" at the cluster scope",
        ),
        (
            "Bearer guest",
            403,
            "users \"jane\" is forbidden: User \"bob\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
        ),
    ] {
        let headers = [("authorization", authorization), ("impersonate-user", "jane")];
        let reply = world.send("GET", "/api/v1/pods", &headers, "").await;
        assert_eq!((reply.code, reply.json()["message"].as_str()), (code, Some(message)));
    }
    world.stop().await;
}

/// A request with a JSON body, as `Bearer <token>` or as somebody that the master acts as.
async fn as_user(
    world: &mut World,
    user: &str,
    method: &str,
    path: &str,
    body: &Value,
) -> crate::harness::Reply {
    let headers = [("impersonate-user", user), ("content-type", "application/json")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    world.send(method, path, &headers, &body).await
}

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Lets jane do that with the resource in the namespace default.
async fn allow(world: &mut World, name: &str, verbs: &[&str], group: &str, resources: &[&str]) {
    let role = json!({
        "metadata": {"name": name},
        "rules": [{"verbs": verbs, "apiGroups": [group], "resources": resources}],
    });
    let reply = world.post(&format!("{RBAC}/namespaces/default/roles"), &role).await;
    assert_eq!(reply.code, 201, "{}", reply.json());
    let binding = json!({
        "metadata": {"name": name},
        "roleRef": {"kind": "Role", "name": name},
        "subjects": [{"kind": "User", "name": "jane"}],
    });
    let reply = world.post(&format!("{RBAC}/namespaces/default/rolebindings"), &binding).await;
    assert_eq!(reply.code, 201, "{}", reply.json());
}

#[tokio::test]
async fn roles_and_bindings_decide_at_once() {
    let mut world = World::new().await;
    let pods = "/api/v1/namespaces/default/pods";
    let nothing = Value::Null;
    assert_eq!(as_user(&mut world, "jane", "GET", pods, &nothing).await.code, 403);
    allow(&mut world, "reader", &["get", "list"], "", &["pods"]).await;
    for (method, path, code) in [
        ("GET", pods, 200),
        ("GET", "/api/v1/namespaces/kube-system/pods", 403),
        ("GET", "/api/v1/pods", 403),
        ("DELETE", "/api/v1/namespaces/default/pods/x", 403),
        ("GET", "/api/v1/namespaces/default/pods/x", 404),
        ("GET", "/api/v1/namespaces/default/pods/x/log", 403),
    ] {
        let reply = as_user(&mut world, "jane", method, path, &nothing).await;
        assert_eq!(reply.code, code, "{method} {path}: {}", String::from_utf8_lossy(&reply.body));
    }
    // A role that is gone is told with the refusal.
    let role = format!("{RBAC}/namespaces/default/roles/reader");
    assert_eq!(world.send("DELETE", &role, &[], "").await.code, 200);
    let reply = as_user(&mut world, "jane", "GET", pods, &nothing).await;
    assert_eq!(
        reply.json()["message"],
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\": RBAC: role.rbac.authorization.k8s.io \"reader\" not found"
    );
    let binding = format!("{RBAC}/namespaces/default/rolebindings/reader");
    let change = json!({"roleRef": {"name": "other"}}).to_string();
    let headers = [("content-type", "application/merge-patch+json")];
    let reply = world.send("PATCH", &binding, &headers, &change).await;
    assert_eq!(reply.code, 422);
    assert!(reply.json()["message"].as_str().unwrap().ends_with("cannot change roleRef"));
    world.stop().await;
}

#[tokio::test]
async fn nobody_gives_what_they_do_not_have() {
    let mut world = World::new().await;
    let both = ["roles", "rolebindings"];
    allow(
        &mut world,
        "maker",
        &["create", "update", "patch", "get"],
        "rbac.authorization.k8s.io",
        &both,
    )
    .await;
    allow(&mut world, "reader", &["get"], "", &["pods"]).await;
    let roles = format!("{RBAC}/namespaces/default/roles");
    let role = |name: &str, verbs: &[&str]| {
        json!({
            "metadata": {"name": name},
            "rules": [{"verbs": verbs, "apiGroups": [""], "resources": ["pods"]}],
        })
    };
    let reply = as_user(&mut world, "jane", "POST", &roles, &role("a", &["get"])).await;
    assert_eq!(reply.code, 201, "{}", reply.json());
    let reply = as_user(&mut world, "jane", "POST", &roles, &role("b", &["get", "list"])).await;
    assert_eq!(reply.code, 403);
    assert_eq!(
        reply.json()["message"],
        "roles.rbac.authorization.k8s.io \"b\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\"]}"
    );
    // A patch is held to the same.
    let patch = json!([{"op": "add", "path": "/rules/0/verbs/-", "value": "watch"}]).to_string();
    let headers = [("impersonate-user", "jane"), ("content-type", "application/json-patch+json")];
    let reply = world.send("PATCH", &format!("{roles}/a"), &headers, &patch).await;
    assert_eq!(reply.code, 403, "{}", reply.json());
    // Bindings: to what she has, to what she has not, to what is not there, and with `bind`.
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let binding = |name: &str, kind: &str, role: &str| {
        json!({
            "metadata": {"name": name},
            "roleRef": {"kind": kind, "name": role},
            "subjects": [{"kind": "User", "name": "bob"}],
        })
    };
    for (name, kind, role, code) in [
        ("a", "Role", "reader", 201),
        ("b", "ClusterRole", "cluster-admin", 403),
        ("c", "Role", "none", 404),
    ] {
        let body = binding(name, kind, role);
        let reply = as_user(&mut world, "jane", "POST", &bindings, &body).await;
        assert_eq!(reply.code, code, "{}", reply.json());
    }
    allow(&mut world, "binder", &["bind"], "rbac.authorization.k8s.io", &["clusterroles"]).await;
    let body = binding("b", "ClusterRole", "cluster-admin");
    let reply = as_user(&mut world, "jane", "POST", &bindings, &body).await;
    assert_eq!(reply.code, 201, "{}", reply.json());
    world.stop().await;
}

#[tokio::test]
async fn questions_are_answered_and_not_stored() {
    let mut world = World::new().await;
    allow(&mut world, "reader", &["get"], "", &["pods"]).await;
    let before = world.registry.revision();
    let access = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let ask = |verb: &str| {
        json!({"spec": {"resourceAttributes":
            {"namespace": "default", "verb": verb, "resource": "pods"}}})
    };
    let reply = as_user(&mut world, "jane", "POST", access, &ask("get")).await;
    assert_eq!(reply.code, 201, "{}", reply.json());
    assert_eq!(
        reply.json()["status"],
        json!({"allowed": true, "reason":
            "RBAC: allowed by RoleBinding \"reader/default\" of Role \"reader\" to User \"jane\""})
    );
    let reply = as_user(&mut world, "jane", "POST", access, &ask("list")).await;
    assert_eq!(reply.json()["status"], json!({"allowed": false}));
    let reply = as_user(&mut world, "jane", "POST", access, &json!({"spec": {}})).await;
    assert_eq!(reply.code, 422, "{}", reply.json());
    let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let reply = as_user(&mut world, "jane", "POST", who, &json!({})).await;
    let groups = json!(["system:authenticated"]);
    assert_eq!(reply.json()["status"]["userInfo"], json!({"username": "jane", "groups": groups}));
    let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let body = json!({"spec": {"namespace": "default"}});
    let reply = as_user(&mut world, "jane", "POST", rules, &body).await.json();
    let own = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
    assert!(reply["status"]["resourceRules"].as_array().unwrap().contains(&own), "{reply}");
    assert_eq!(reply["status"]["incomplete"], false);
    let local = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews";
    let mut body = ask("get");
    body["spec"]["user"] = json!("jane");
    let reply = world.post(local, &body).await;
    assert_eq!(reply.json()["status"]["allowed"], true, "{}", reply.json());
    assert_eq!(as_user(&mut world, "jane", "POST", local, &body).await.code, 403);
    assert_eq!(world.registry.revision(), before);
    world.stop().await;
}

#[tokio::test]
async fn questions_about_a_selection_are_about_no_more_than_that() {
    let mut world = World::new().await;
    let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let both = json!({"rawSelector": "spec.nodeName=n1",
        "requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]});
    let own = |operator: &str, values: &[&str]| json!({"requirements": [{"key": "spec.nodeName", "operator": operator, "values": values}]});
    for (fields, code, allowed) in [
        (Value::Null, 201, false),
        (json!({"rawSelector": "spec.nodeName=n1"}), 201, true),
        (json!({"rawSelector": "spec.nodeName=n2"}), 201, false),
        (json!({"rawSelector": "spec.nodeName=n1,what"}), 201, false),
        (own("In", &["n1"]), 201, true),
        (own("In", &["n1", "n2"]), 201, false),
        (own("NotIn", &["n1"]), 201, false),
        (both, 422, false),
        (json!({}), 422, false),
    ] {
        let mut body = json!({"spec": {"user": "system:node:n1", "groups": ["system:nodes"],
            "resourceAttributes": {"verb": "list", "resource": "pods",
                "labelSelector": {"rawSelector": "app"}}}});
        if !fields.is_null() {
            body["spec"]["resourceAttributes"]["fieldSelector"] = fields;
        }
        let reply = world.post(reviews, &body).await;
        assert_eq!(reply.code, code, "{body}: {}", reply.json());
        if code == 201 {
            assert_eq!(reply.json()["status"]["allowed"], allowed, "{body}: {}", reply.json());
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn acting_as_others_needs_each_part_of_them() {
    let mut world = World::new().await;
    let role = json!({
        "metadata": {"name": "actor"},
        "rules": [
            {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["jane"]},
            {"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"]},
        ],
    });
    assert_eq!(world.post(&format!("{RBAC}/clusterroles"), &role).await.code, 201);
    let binding = json!({
        "metadata": {"name": "actor"},
        "roleRef": {"kind": "ClusterRole", "name": "actor"},
        "subjects": [{"kind": "User", "name": "bob"}],
    });
    assert_eq!(world.post(&format!("{RBAC}/clusterrolebindings"), &binding).await.code, 201);
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    for (header, value, refused) in [
        ("impersonate-extra-scopes", "a", None),
        (
            "impersonate-extra-other",
            "a",
            Some(
                "userextras.authentication.k8s.io \"a\" is forbidden: User \"bob\" cannot impersonate resource \"userextras/other\" in API group \"authentication.k8s.io\" at the cluster scope",
            ),
        ),
        (
            "impersonate-group",
            "dev",
            Some(
                "groups \"dev\" is forbidden: User \"bob\" cannot impersonate resource \"groups\" in API group \"\" at the cluster scope",
            ),
        ),
        (
            "impersonate-uid",
            "1",
            Some(
                "uids.authentication.k8s.io \"1\" is forbidden: User \"bob\" cannot impersonate resource \"uids\" in API group \"authentication.k8s.io\" at the cluster scope",
            ),
        ),
    ] {
        let headers = [
            ("authorization", "Bearer guest"),
            ("impersonate-user", "jane"),
            (header, value),
            ("content-type", "application/json"),
        ];
        let reply = world.send("POST", path, &headers, "{}").await.json();
        match refused {
            Some(message) => assert_eq!(reply["message"], message),
            None => assert_eq!(
                reply["status"]["userInfo"],
                json!({"username": "jane", "groups": ["system:authenticated"], "extra": {"scopes": ["a"]}})
            ),
        }
    }
    let headers = [
        ("impersonate-user", "system:serviceaccount:default:a"),
        ("content-type", "application/json"),
    ];
    let reply = world.send("POST", path, &headers, "{}").await.json();
    assert_eq!(
        reply["status"]["userInfo"]["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
    world.stop().await;
}

#[tokio::test]
async fn tokens_live_as_long_as_what_they_are_bound_to() {
    let mut world = World::new().await;
    let core = "/api/v1/namespaces/default";
    let account = json!({"metadata": {"name": "robot"}});
    assert_eq!(world.post(&format!("{core}/serviceaccounts"), &account).await.code, 201);
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {"serviceAccountName": "robot", "containers": [{"name": "c", "image": "i"}]},
    });
    let made = world.post(&format!("{core}/pods"), &pod).await;
    assert_eq!(made.code, 201, "{}", made.json());
    let uid = made.json()["metadata"]["uid"].clone();
    let path = format!("{core}/serviceaccounts/robot/token");
    for (spec, code) in [
        (json!({"expirationSeconds": 599}), 422),
        (json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "q"}}), 404),
        (
            json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "x"}}),
            409,
        ),
        (json!({"boundObjectRef": {"apiVersion": "v1", "kind": "ConfigMap", "name": "p"}}), 400),
    ] {
        let reply = world.post(&path, &json!({"spec": spec})).await;
        assert_eq!(reply.code, code, "{spec}: {}", reply.json());
    }
    let bound = json!({"spec": {
        "expirationSeconds": 600,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid},
    }});
    let reply = world.post(&path, &bound).await;
    assert_eq!(reply.code, 201, "{}", reply.json());
    let token = reply.json()["status"]["token"].as_str().unwrap().to_owned();
    let reply = world.post(&path, &json!({"spec": {"audiences": ["elsewhere"]}})).await;
    let elsewhere = reply.json()["status"]["token"].as_str().unwrap().to_owned();

    let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let ask = |token: &str| format!("Bearer {token}");
    let json_body = ("content-type", "application/json");
    let reply = world.send("POST", who, &[("authorization", &ask(&token)), json_body], "{}").await;
    let info = reply.json()["status"]["userInfo"].clone();
    assert_eq!(info["username"], "system:serviceaccount:default:robot");
    assert_eq!(info["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(info["extra"]["authentication.kubernetes.io/pod-uid"], json!([uid]));
    // One letter of the claims changed; another's audience.
    let mut forged = token.clone();
    let at = token.find('.').unwrap() + 3;
    forged.replace_range(at..=at, if &token[at..=at] == "A" { "B" } else { "A" });
    for bad in [&forged, &elsewhere, &format!("{token}A")] {
        let reply = world.send("POST", who, &[("authorization", &ask(bad)), json_body], "{}").await;
        assert_eq!(reply.code, 401);
    }
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let review = json!({"spec": {"token": elsewhere, "audiences": ["elsewhere", "x"]}});
    let reply = world.post(reviews, &review).await.json();
    assert_eq!(reply["status"]["authenticated"], true, "{reply}");
    assert_eq!(reply["status"]["audiences"], json!(["elsewhere"]));
    let reply = world.post(reviews, &json!({"spec": {"token": elsewhere}})).await.json();
    assert_eq!(reply["status"]["authenticated"], Value::Null, "{reply}");

    let gone = world.send("DELETE", &format!("{core}/pods/p?gracePeriodSeconds=0"), &[], "").await;
    assert_eq!(gone.code, 200);
    let reply = world.send("POST", who, &[("authorization", &ask(&token)), json_body], "{}").await;
    assert_eq!(reply.code, 401);
    let reply = world.post(&path, &json!({})).await;
    let token = reply.json()["status"]["token"].as_str().unwrap().to_owned();
    let sent = [("authorization", ask(&token))];
    let sent: Vec<(&'static str, &str)> = sent.iter().map(|(k, v)| (*k, v.as_str())).collect();
    assert_eq!(world.send("GET", "/api", &sent, "").await.code, 200);
    world.clock.advance(3700);
    assert_eq!(world.send("GET", "/api", &sent, "").await.code, 401);
    world.stop().await;
}

#[tokio::test]
async fn others_can_verify_tokens() {
    let mut world = World::new().await;
    let reply = world.get("/.well-known/openid-configuration").await.json();
    assert_eq!(reply["issuer"], "https://issuer.test");
    assert!(reply["jwks_uri"].as_str().unwrap().ends_with("/openid/v1/jwks"));
    let reply = world.get("/openid/v1/jwks").await;
    assert_eq!(reply.headers["content-type"], "application/jwk-set+json");
    assert_eq!(reply.json()["keys"][0]["alg"], "ES256");
    let refused =
        world.send("GET", "/openid/v1/jwks", &[("authorization", "Bearer guest")], "").await;
    assert_eq!(refused.code, 403);
    world.stop().await;
}

#[tokio::test]
async fn what_an_update_makes_must_be_allowed_and_be_what_was_named() {
    let mut world = World::new().await;
    let group = "coordination.k8s.io";
    allow(&mut world, "holder", &["get", "update", "patch"], group, &["leases"]).await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = json!({"metadata": {"name": "a"}});
    let refusal = "leases.coordination.k8s.io \"a\" is forbidden: User \"jane\" cannot create resource \"leases\" in API group \"coordination.k8s.io\" in the namespace \"default\"";
    let refused = as_user(&mut world, "jane", "PUT", &format!("{leases}/a"), &lease).await;
    assert_eq!((refused.code, &refused.json()["message"]), (403, &json!(refusal)));
    let headers = [("impersonate-user", "jane"), ("content-type", "application/apply-patch+yaml")];
    let whole =
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}});
    let path = format!("{leases}/a?fieldManager=m");
    let refused = world.send("PATCH", &path, &headers, &whole.to_string()).await;
    assert_eq!((refused.code, &refused.json()["message"]), (403, &json!(refusal)));
    // Not even who may create everything makes one by the name of another.
    let headers = [("content-type", "application/json")];
    let refused = world.send("PUT", &format!("{leases}/b"), &headers, &lease.to_string()).await;
    assert_eq!(
        (refused.code, &refused.json()["message"]),
        (400, &json!("the name of the object (a) does not match the name on the URL (b)"))
    );
    assert_eq!(world.get(&format!("{leases}/a")).await.code, 404);
    let made = world.send("PUT", &format!("{leases}/a"), &headers, &lease.to_string()).await;
    assert_eq!(made.code, 201, "{}", made.json());
    let updated = as_user(&mut world, "jane", "PUT", &format!("{leases}/a"), &lease).await;
    assert_eq!(updated.code, 200, "{}", updated.json());
    world.stop().await;
}

#[tokio::test]
async fn who_may_see_one_object_may_select_it_by_its_name() {
    let mut world = World::new().await;
    let role = json!({"metadata": {"name": "one"}, "rules": [
        {"verbs": ["list", "watch"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"]},
    ]});
    assert_eq!(world.post(&format!("{RBAC}/namespaces/default/roles"), &role).await.code, 201);
    let binding = json!({
        "metadata": {"name": "one"},
        "roleRef": {"kind": "Role", "name": "one"},
        "subjects": [{"kind": "User", "name": "jane"}],
    });
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    assert_eq!(world.post(&bindings, &binding).await.code, 201);
    let maps = "/api/v1/namespaces/default/configmaps";
    for name in ["a", "b"] {
        assert_eq!(world.post(maps, &json!({"metadata": {"name": name}})).await.code, 201);
    }
    for (query, code) in [
        ("", 403),
        ("?fieldSelector=metadata.name%3Da", 200),
        ("?fieldSelector=metadata.name%3D%3Da,metadata.namespace%3Ddefault", 200),
        ("?fieldSelector=metadata.name!%3Da", 403),
        ("?fieldSelector=metadata.name%3Db", 403),
        ("?fieldSelector=metadata.name%3Da&watch=1&timeoutSeconds=1", 200),
        ("?labelSelector=metadata.name%3Da", 403),
    ] {
        let reply =
            as_user(&mut world, "jane", "GET", &format!("{maps}{query}"), &Value::Null).await;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert_eq!(reply.code, code, "{query}: {text}");
        assert!(code != 200 || !text.contains("\"name\":\"b\""), "{query}: {text}");
    }
    world.stop().await;
}

#[tokio::test]
async fn tokens_that_are_for_nobody_else_are_so_for_reviewers() {
    let mut world = World::new().await;
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    for (audiences, status) in [
        (json!([]), json!([true, ["https://issuer.test"]])),
        (json!(["vault", "https://issuer.test"]), json!([true, ["https://issuer.test"]])),
        (json!(["vault"]), json!([null, null])),
    ] {
        let review = json!({"spec": {"token": "guest", "audiences": audiences}});
        let reply = world.post(path, &review).await.json();
        let found = &reply["status"];
        assert_eq!(json!([found["authenticated"], found["audiences"]]), status, "{reply}");
    }
    world.stop().await;
}

#[tokio::test]
async fn approving_needs_the_signer() {
    use base64::Engine as _;
    let mut world = World::new().await;
    let request = |group: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "jane");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        json!({"metadata": {"name": group.replace(':', "-")}, "spec": {
            "request": base64::engine::general_purpose::STANDARD.encode(pem),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
            "username": "somebody else",
        }})
    };
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let reply = world.post(path, &request("system:masters")).await;
    assert_eq!(reply.code, 403, "{}", reply.json());
    let reply = world.post(path, &request("dev")).await;
    assert_eq!(reply.code, 201, "{}", reply.json());
    assert_eq!(reply.json()["spec"]["username"], "admin");
    let role = json!({"metadata": {"name": "csr"}, "rules": [
        {"verbs": ["get", "update", "patch"], "apiGroups": ["certificates.k8s.io"],
         "resources": ["certificatesigningrequests", "certificatesigningrequests/approval", "certificatesigningrequests/status"]},
    ]});
    assert_eq!(world.post(&format!("{RBAC}/clusterroles"), &role).await.code, 201);
    let binding = json!({
        "metadata": {"name": "csr"},
        "roleRef": {"kind": "ClusterRole", "name": "csr"},
        "subjects": [{"kind": "User", "name": "jane"}],
    });
    assert_eq!(world.post(&format!("{RBAC}/clusterrolebindings"), &binding).await.code, 201);
    let mut approved = reply.json();
    approved["status"]["conditions"] =
        json!([{"type": "Approved", "status": "True", "reason": "x"}]);
    let one = format!("{path}/dev/approval");
    let refused = as_user(&mut world, "jane", "PUT", &one, &approved).await;
    assert_eq!(refused.code, 403);
    assert!(
        refused.json()["message"].as_str().unwrap().ends_with(
            "user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\""
        ),
        "{}",
        refused.json()
    );
    let done = world
        .send("PUT", &one, &[("content-type", "application/json")], &approved.to_string())
        .await;
    assert_eq!(done.code, 200, "{}", done.json());
    assert!(done.json()["status"]["conditions"][0]["lastUpdateTime"].is_string());
    let mut signed = done.json();
    signed["status"]["certificate"] = json!("eA==");
    let refused = as_user(&mut world, "jane", "PUT", &format!("{path}/dev/status"), &signed).await;
    assert_eq!(refused.code, 403, "{}", refused.json());
    world.stop().await;
}

#[tokio::test]
async fn the_audit_log_tells_who_did_what_and_no_secrets() {
    let mut world = World::new().await;
    let core = "/api/v1/namespaces/default";
    let config = json!({"metadata": {"name": "c"}, "data": {"a": "open"}});
    let id = ("audit-id", "11111111-2222-3333-4444-555555555555");
    let json_body = ("content-type", "application/json");
    let path = format!("{core}/configmaps");
    let reply = world.send("POST", &path, &[id, json_body], &config.to_string()).await;
    assert_eq!(reply.headers["audit-id"], id.1);
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"a": "hidden"}});
    assert_eq!(world.post(&format!("{core}/secrets"), &secret).await.code, 201);
    world.get(&format!("{core}/secrets/s")).await;
    // The refusal of a patch shows what came of it.
    let merge = [("content-type", "application/merge-patch+json")];
    let path = format!("{core}/secrets/s");
    let refused = world.send("PATCH", &path, &merge, r#"{"data":{"b":{}}}"#).await;
    assert!(String::from_utf8_lossy(&refused.body).contains("aGlkZGVu"));
    world.get(&format!("{core}/pods")).await;
    let as_jane = [("impersonate-user", "jane")];
    world.send("DELETE", &format!("{core}/pods/x"), &as_jane, "").await;
    let log = world.audit_log().await;
    let told: Vec<(&str, &str, i64)> = log
        .iter()
        .map(|it| {
            let text = |path: &str| it.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let code = it["responseStatus"]["code"].as_i64().unwrap();
            (text("/verb"), text("/objectRef/resource"), code)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("create", "configmaps", 201),
            ("create", "secrets", 201),
            ("get", "secrets", 200),
            ("patch", "secrets", 422),
            ("delete", "pods", 403),
        ]
    );
    assert_eq!(log[0]["auditID"], id.1);
    assert_eq!(log[0]["level"], "RequestResponse");
    assert_eq!(log[0]["requestObject"]["data"]["a"], "open");
    assert_eq!(log[0]["responseObject"]["metadata"]["name"], "c");
    assert_eq!(log[1]["level"], "Metadata");
    assert_eq!(log[4]["user"]["username"], "admin");
    assert_eq!(log[4]["impersonatedUser"]["username"], "jane");
    assert_eq!(log[4]["annotations"]["authorization.k8s.io/decision"], "forbid");
    let text = serde_json::to_string(&log).unwrap();
    assert!(!text.contains("hidden") && !text.contains("aGlkZGVu"));
}
