//! Admission as clients see it: plugins, quotas under concurrency, webhooks over real TLS, policies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hub_api::{DeleteOptions, object, resources};
use hub_apiserver::WriteOptions;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::harness::{Reply, World, registry};

pub(crate) fn configmap(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": "v"}})
}

fn pod(name: &str, container: Value) -> Value {
    let mut made = json!({"name": "a", "image": "i"});
    made.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    json!({"metadata": {"name": name}, "spec": {"containers": [made]}})
}

pub(crate) const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

pub(crate) fn message(reply: &Reply) -> String {
    object::text(&reply.json(), "message").to_owned()
}

fn warnings(reply: &Reply) -> Vec<String> {
    let all = reply.headers.get_all("warning").iter();
    all.map(|it| it.to_str().unwrap().to_owned()).collect()
}

/// A webhook that answers as its path says.
pub(crate) struct Webhook {
    pub(crate) port: u16,
    /// PEM in base64.
    pub(crate) ca: String,
    pub(crate) connections: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

pub(crate) fn issue(
    names: Vec<String>,
) -> (rcgen::CertifiedIssuer<'static, rcgen::KeyPair>, rustls::ServerConfig) {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca =
        rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    (ca, config)
}

impl Webhook {
    pub(crate) async fn new() -> Self {
        let (ca, config) = issue(vec!["localhost".to_owned(), "s.default.svc".to_owned()]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut clients = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(tls) = acceptor.accept(stream).await else { continue };
                counted.fetch_add(1, Ordering::Relaxed);
                clients.spawn(async move {
                    let service = service_fn(answer);
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(tls), service).await;
                });
            }
        });
        Self { port, ca: STANDARD.encode(ca.pem()), connections, _serving: serving }
    }

    pub(crate) fn settings(&self, path: &str, more: Value) -> Value {
        let mut settings = json!({
            "name": "hook.example.com",
            "clientConfig": {"url": format!("https://localhost:{}/{path}", self.port), "caBundle": self.ca},
            "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 1,
        });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settings
    }
}

async fn answer(
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<Full<Bytes>>, std::convert::Infallible> {
    assert_eq!(request.uri().query(), Some("timeout=1s"));
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let asked = &review["request"];
    let mut response = json!({"uid": asked["uid"], "allowed": true});
    match path.as_str() {
        "/deny" => {
            response["allowed"] = json!(false);
            response["status"] =
                json!({"message": format!("no {}", object::text(asked, "operation")), "code": 403});
            response["warnings"] = json!(["beware"]);
        }
        "/mutate" => {
            let patch =
                json!([{"op": "add", "path": "/data/by", "value": asked["userInfo"]["username"]}]);
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(STANDARD.encode(patch.to_string()));
        }
        "/tell" => {
            let seen = json!([
                asked["resource"]["version"],
                asked["requestResource"]["version"],
                asked["object"]["apiVersion"],
                asked["object"]["spec"],
                asked["oldObject"]["spec"],
            ]);
            response["allowed"] = json!(false);
            response["status"] = json!({"message": seen.to_string(), "code": 403});
        }
        "/move" => {
            let patch = json!([{"op": "replace", "path": "/spec/hostPort", "value": "b:2"}]);
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(STANDARD.encode(patch.to_string()));
        }
        "/needs-old" => response["allowed"] = json!(asked["oldObject"]["data"]["k"] == "v"),
        "/hang" => std::future::pending().await,
        "/big" => return Ok(http::Response::new(Full::new(vec![b' '; 4 << 20].into()))),
        "/garbage" => return Ok(http::Response::new(Full::new("what?".into()))),
        _ => {}
    }
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Ok(http::Response::new(Full::new(review.to_string().into())))
}

pub(crate) async fn configure(world: &mut World, kind: &str, settings: Value) -> Reply {
    let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations");
    world.send("DELETE", &format!("{path}/w"), &[], "").await;
    let reply =
        world.post(&path, &json!({"metadata": {"name": "w"}, "webhooks": [settings]})).await;
    assert!(reply.code == 201 || reply.code == 422, "{}", message(&reply));
    reply
}

#[tokio::test]
async fn a_hub_makes_what_it_begins_with_although_nobody_answers_yet() {
    let mut world = World::new().await;
    let class = "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical";
    assert_eq!(world.send("DELETE", class, &[], "").await.code, 200);
    let hook = json!({
        "name": "hook.example.com",
        "clientConfig": {"service": {"namespace": "default", "name": "not-yet"}},
        "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    });
    assert_eq!(configure(&mut world, "validating", hook.clone()).await.code, 201);
    assert_eq!(configure(&mut world, "mutating", hook).await.code, 201);
    assert_eq!(world.post(CONFIGMAPS, &configmap("a")).await.code, 500);
    world.registry.bootstrap().await.unwrap_err();
    world.registry.unquestioned().bootstrap().await.unwrap();
    assert_eq!(world.get(class).await.code, 200);
    world.stop().await;
}

#[tokio::test]
async fn webhooks_deny_change_and_fail_as_configured() {
    let mut world = World::new().await;
    let hook = Webhook::new().await;
    let call = format!(
        "failed calling webhook \"hook.example.com\": failed to call webhook: Post \"https://localhost:{}",
        hook.port
    );
    let (other, _) = issue(vec!["localhost".to_owned()]);
    let url = json!({"url": format!("https://localhost:{}/ok", hook.port), "caBundle": STANDARD.encode(other.pem())});
    let nowhere = json!({"service": {"namespace": "default", "name": "none"}});
    for (name, path, more, code, want) in [
        ("a", "ok", json!({}), 201, String::new()),
        (
            "b",
            "deny",
            json!({}),
            403,
            "admission webhook \"hook.example.com\" denied the request: no CREATE".to_owned(),
        ),
        ("c", "deny", json!({"failurePolicy": "Ignore"}), 403, "denied the request".to_owned()),
        (
            "d",
            "hang",
            json!({}),
            500,
            format!("{call}/hang?timeout=1s\": context deadline exceeded"),
        ),
        ("e", "hang", json!({"failurePolicy": "Ignore"}), 201, String::new()),
        ("f", "big", json!({}), 500, "webhook response is too large".to_owned()),
        ("g", "garbage", json!({}), 500, "received invalid webhook response".to_owned()),
        (
            "h",
            "ok",
            json!({"clientConfig": url}),
            500,
            "tls: failed to verify certificate: x509: certificate signed by unknown authority"
                .to_owned(),
        ),
        ("i", "ok", json!({"clientConfig": nowhere}), 500, "service \"none\" not found".to_owned()),
        ("j", "deny", json!({"objectSelector": {"matchLabels": {"x": "y"}}}), 201, String::new()),
        (
            "k",
            "deny",
            json!({"namespaceSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}}),
            201,
            String::new(),
        ),
        (
            "l",
            "deny",
            json!({"matchConditions": [{"name": "c", "expression": "object.metadata.name != 'l'"}]}),
            201,
            String::new(),
        ),
    ] {
        assert_eq!(configure(&mut world, "validating", hook.settings(path, more)).await.code, 201);
        let reply = world.post(CONFIGMAPS, &configmap(name)).await;
        assert_eq!(reply.code, code, "{name}: {}", message(&reply));
        if reply.code >= 400 {
            assert!(message(&reply).contains(&want), "{name}: {}", message(&reply));
        }
        if name == "b" {
            assert_eq!(warnings(&reply), ["299 - \"beware\""]);
        }
    }
    let wrong =
        hook.settings("ok", json!({"matchConditions": [{"name": "c", "expression": "nonsense("}]}));
    assert_eq!(configure(&mut world, "validating", wrong).await.code, 422);
    // DELETE and UPDATE bring the old object.
    configure(&mut world, "validating", hook.settings("needs-old", json!({"rules": [{"operations": ["DELETE", "UPDATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]}))).await;
    assert_eq!(world.send("DELETE", &format!("{CONFIGMAPS}/a"), &[], "").await.code, 200);
    configure(&mut world, "validating", hook.settings("deny", json!({}))).await;
    let refused = world.send("DELETE", &format!("{CONFIGMAPS}/e"), &[], "").await;
    assert_eq!((refused.code, message(&refused).ends_with("no DELETE")), (403, true));
    configure(&mut world, "validating", hook.settings("ok", json!({}))).await;
    configure(&mut world, "mutating", hook.settings("mutate", json!({}))).await;
    let made = world.post(CONFIGMAPS, &configmap("m")).await;
    assert_eq!(made.json()["data"]["by"], "admin", "{}", message(&made));
    let before = hook.connections.load(Ordering::Relaxed);
    world.post(CONFIGMAPS, &configmap("n")).await;
    assert_eq!(hook.connections.load(Ordering::Relaxed), before, "connections are kept");
    // What may have side effects is not asked in a dry run.
    configure(
        &mut world,
        "mutating",
        hook.settings("mutate", json!({"sideEffects": "NoneOnDryRun"})),
    )
    .await;
    let dry = world.post(&format!("{CONFIGMAPS}?dryRun=All"), &configmap("o")).await;
    assert_eq!(dry.json()["data"]["by"], "admin");
    world.stop().await;
}

#[tokio::test]
async fn policies_in_cel_deny_warn_and_change() {
    let mut world = World::new().await;
    let group = "/apis/admissionregistration.k8s.io/v1";
    let rules = json!({"resourceRules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]});
    world.post(CONFIGMAPS, &json!({"metadata": {"name": "limits"}, "data": {"most": "2"}})).await;
    let policy = json!({"metadata": {"name": "few"}, "spec": {
        "matchConstraints": rules,
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "variables": [{"name": "n", "expression": "has(object.data) ? object.data.size() : 0"}],
        "validations": [
            {"expression": "variables.n <= int(params.data.most)", "messageExpression": "'too many: ' + string(variables.n)", "reason": "Forbidden"},
            {"expression": "!request.name.startsWith('bad')", "message": "bad name"},
        ],
    }});
    let reply = world.post(&format!("{group}/validatingadmissionpolicies"), &policy).await;
    assert_eq!(reply.code, 201, "{}", message(&reply));
    let binding = |actions: Value| {
        json!({"metadata": {"name": "b"}, "spec": {"policyName": "few",
        "validationActions": actions,
        "paramRef": {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"}}})
    };
    let bindings = format!("{group}/validatingadmissionpolicybindings");
    let reply = world.post(&bindings, &binding(json!(["Deny"]))).await;
    assert_eq!(reply.code, 201, "{}", message(&reply));
    let many = json!({"metadata": {"name": "many"}, "data": {"a": "1", "b": "2", "c": "3"}});
    let refused = world.post(CONFIGMAPS, &many).await;
    assert_eq!(
        (refused.code, message(&refused).as_str()),
        (
            403,
            "configmaps \"many\" is forbidden: ValidatingAdmissionPolicy 'few' with binding 'b' denied request: too many: 3"
        )
    );
    let refused = world.post(CONFIGMAPS, &configmap("bad")).await;
    assert_eq!(
        (refused.code, message(&refused).ends_with("denied request: bad name")),
        (422, true),
        "{}",
        message(&refused)
    );
    world.send("DELETE", &format!("{bindings}/b"), &[], "").await;
    world.post(&bindings, &binding(json!(["Warn", "Audit"]))).await;
    let warned = world.post(CONFIGMAPS, &many).await;
    assert_eq!((warned.code, warnings(&warned)), (201, vec!["299 - \"Validation failed for ValidatingAdmissionPolicy 'few' with binding 'b': too many: 3\"".to_owned()]));
    let wrong = json!({"metadata": {"name": "x"}, "spec": {"matchConstraints": rules, "validations": [{"expression": "object.("}]}});
    assert_eq!(world.post(&format!("{group}/validatingadmissionpolicies"), &wrong).await.code, 422);

    let change = json!({"metadata": {"name": "mark"}, "spec": {
        "matchConstraints": rules, "reinvocationPolicy": "Never",
        "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{metadata: Object.metadata{labels: {'made-by': request.userInfo.username}}}"}},
            {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'add', path: '/data/z', value: 'end'}]"}},
        ],
    }});
    let reply = world.post(&format!("{group}/mutatingadmissionpolicies"), &change).await;
    assert_eq!(reply.code, 201, "{}", message(&reply));
    let bound = json!({"metadata": {"name": "mark"}, "spec": {"policyName": "mark"}});
    assert_eq!(
        world.post(&format!("{group}/mutatingadmissionpolicybindings"), &bound).await.code,
        201
    );
    let made = world.post(CONFIGMAPS, &configmap("marked")).await;
    assert_eq!(
        (&made.json()["metadata"]["labels"]["made-by"], &made.json()["data"]),
        (&json!("admin"), &json!({"k": "v", "z": "end"})),
        "{}",
        message(&made)
    );
    world.stop().await;
}

#[tokio::test]
async fn expressions_ask_what_the_requester_may_do() {
    let mut world = World::new().await;
    let group = "/apis/admissionregistration.k8s.io/v1";
    let rights = "/apis/rbac.authorization.k8s.io/v1";
    let role = |verbs: &[&str]| {
        json!({"metadata": {"name": "writer"}, "rules": [
            {"verbs": verbs, "apiGroups": [""], "resources": ["configmaps"]}]})
    };
    world.post(&format!("{rights}/clusterroles"), &role(&["create"])).await;
    let bound = json!({"metadata": {"name": "writer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "writer"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]});
    world.post(&format!("{rights}/clusterrolebindings"), &bound).await;
    let policy = |message: &str| {
        json!({"metadata": {"name": "blessed"}, "spec": {
            "matchConstraints": {"resourceRules": [{"operations": ["CREATE"], "apiGroups": [""],
                "apiVersions": ["v1"], "resources": ["configmaps"]}]},
            "matchConditions": [{"name": "ours",
                "expression": "!authorizer.path('/metrics').check('get').allowed()"}],
            "validations": [{
                "expression": "authorizer.requestResource.check('bless').allowed()",
                "messageExpression": message}]}})
    };
    let policies = format!("{group}/validatingadmissionpolicies");
    let refused =
        world.post(&policies, &policy("authorizer.path('/').check('get').reason()")).await;
    assert_eq!(refused.code, 422, "a message asks nobody");
    assert_eq!(world.post(&policies, &policy("'who are you?'")).await.code, 201);
    let binding = json!({"metadata": {"name": "b"},
        "spec": {"policyName": "blessed", "validationActions": ["Deny"]}});
    let bindings = format!("{group}/validatingadmissionpolicybindings");
    assert_eq!(world.post(&bindings, &binding).await.code, 201);

    assert_eq!(world.post(CONFIGMAPS, &configmap("masters")).await.code, 201);
    let bob = [("authorization", "Bearer guest"), ("content-type", "application/json")];
    let body = configmap("bobs").to_string();
    let refused = world.send("POST", CONFIGMAPS, &bob, &body).await;
    assert_eq!(refused.code, 422);
    assert!(message(&refused).ends_with("denied request: who are you?"), "{}", message(&refused));
    let path = format!("{rights}/clusterroles/writer");
    let header = [("content-type", "application/json")];
    world.send("PUT", &path, &header, &role(&["create", "bless"]).to_string()).await;
    let made = world.send("POST", CONFIGMAPS, &bob, &body).await;
    assert_eq!(made.code, 201, "{}", message(&made));
    world.stop().await;
}

#[tokio::test]
async fn namespaces_bound_what_pods_may_do() {
    let mut world = World::new().await;
    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"}}});
    let merge = [("content-type", "application/merge-patch+json")];
    world.send("PATCH", "/api/v1/namespaces/default", &merge, &labels.to_string()).await;
    let refused =
        world.post(PODS, &pod("p", json!({"securityContext": {"privileged": true}}))).await;
    assert_eq!(
        (refused.code, message(&refused).as_str()),
        (
            403,
            "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (container \"a\" must not set securityContext.privileged=true)"
        )
    );
    let made = world.post(PODS, &pod("q", json!({}))).await;
    assert_eq!(made.code, 201, "{}", message(&made));
    assert!(
        warnings(&made)[0].contains(
            "would violate PodSecurity \\\"restricted:latest\\\": allowPrivilegeEscalation != false"
        ),
        "{:?}",
        warnings(&made)
    );
    for (spec, want) in [
        (
            json!({"serviceAccountName": "nobody"}),
            "pods \"r\" is forbidden: error looking up service account default/nobody: serviceaccount \"nobody\" not found",
        ),
        (
            json!({"priorityClassName": "none"}),
            "pods \"r\" is forbidden: no PriorityClass with name none was found",
        ),
        (
            json!({"runtimeClassName": "none"}),
            "pods \"r\" is forbidden: pod rejected: RuntimeClass \"none\" not found",
        ),
    ] {
        let mut wanted = pod("r", json!({}));
        wanted["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let refused = world.post(PODS, &wanted).await;
        assert_eq!((refused.code, message(&refused).as_str()), (403, want));
    }
    world.stop().await;
}

#[tokio::test]
async fn a_quota_is_exact_under_concurrency() {
    let (registry, _dir) = registry();
    registry.bootstrap().await.unwrap();
    let options = WriteOptions::default();
    let find = |plural: &str| resources::find("", "v1", plural).unwrap();
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": "7"}}});
    registry.create(find("resourcequotas"), Some("default"), quota, &options).await.unwrap();
    registry.count_quotas(false).await;
    let mut tasks = JoinSet::new();
    for n in 0..30 {
        let (registry, resource) = (registry.clone(), find("configmaps"));
        tasks.spawn(async move {
            let made = configmap(&format!("c{n}"));
            registry.create(resource, Some("default"), made, &WriteOptions::default()).await
        });
    }
    let (mut made, mut refused) = (Vec::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        match done.unwrap() {
            Ok(written) => made.push(object::name(&written.value()).to_owned()),
            Err(status) => refused.push(status.message),
        }
    }
    assert_eq!(made.len(), 7, "{refused:?}");
    assert!(refused[0].ends_with("is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=7, limited: configmaps=7"), "{}", refused[0]);
    let used = || {
        let entry = registry.get(find("resourcequotas"), Some("default"), "q").unwrap();
        entry.value()["status"]["used"]["configmaps"].clone()
    };
    assert_eq!(used(), "7");
    let mut tasks = JoinSet::new();
    for name in made.drain(..3) {
        let (registry, resource) = (registry.clone(), find("configmaps"));
        tasks.spawn(async move {
            registry.delete(resource, Some("default"), &name, &DeleteOptions::default()).await
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(used(), "4");
}
