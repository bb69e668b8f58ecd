//! Laws of all kinds, on objects drawn from their schemas.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::decode::{FieldValidation, Media, conform, decode};
use crate::resources;
use crate::schema::{Schema, Type, lookup};
use crate::write::{DeleteOptions, Deletion, WriteContext, create, delete, update, update_status};

/// Draws values from a seed: small, repeatable, good enough to reach odd corners.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let at = self.below(u64::try_from(from.len()).unwrap());
        from[usize::try_from(at).unwrap()].clone()
    }

    fn text(&mut self, format: Option<&str>) -> Value {
        let pool: &[&str] = match format {
            Some("quantity") => &["0", "1", "500m", "1Gi", "1e3"],
            Some("byte") => &["", "YQ==", "e30="],
            Some("date-time") => &["2026-11-20T08:00:00Z", "1999-01-01T00:00:00.5+02:00"],
            Some("int-or-string") => &["http", "25%", "0%"],
            _ => &[
                "",
                "a",
                "web:1",
                "a/b",
                "..",
                "/x",
                "TCP",
                "Always",
                "Never",
                "None",
                "Exists",
                "Equal",
                "NoExecute",
                "10.0.0.1",
                "10.0.0.0/24",
                "IPv4",
                "v1",
                "ClusterIP",
                "NodePort",
                "metadata.name",
                "limits.cpu",
                "Localhost",
                "In",
            ],
        };
        json!(self.pick(pool))
    }

    /// A value of the schema; rarely none at all, or one of another type.
    fn value(&mut self, schema: &'static Schema, depth: u32, clean: bool) -> Value {
        let schema = schema.resolved();
        if !clean && self.below(60) == 0 {
            return self.pick(&[
                json!(null),
                json!("x"),
                json!(1),
                json!([]),
                json!({}),
                json!(true),
            ]);
        }
        match schema.ty {
            None => json!({"any": [1, null]}),
            Some(_) if schema.open => json!({"any": [1, null]}),
            Some(Type::Boolean) => json!(self.below(2) == 0),
            Some(Type::Integer) => json!(self.pick(&[-1, 0, 1, 5, 80, 30080, 70000])),
            Some(Type::Number) => json!(1.5),
            Some(Type::String) => self.text(schema.format.as_deref()),
            Some(Type::Array) => {
                let item = schema.items.as_deref().unwrap();
                let count = if depth == 0 { 0 } else { self.below(3) };
                (0..count).map(|_| self.value(item, depth - 1, clean)).collect()
            }
            Some(Type::Object) => self.object(schema, depth, clean),
        }
    }

    fn object(&mut self, schema: &'static Schema, depth: u32, clean: bool) -> Value {
        let mut out = Map::new();
        if depth == 0 {
            return Value::Object(out);
        }
        if let Some(values) = schema.additional_properties.as_deref() {
            for _ in 0..self.below(3) {
                let key = self.pick(&["a", "cpu", "memory", "b/c", "-"]);
                out.insert(key.to_owned(), self.value(values, depth - 1, clean));
            }
        }
        let n_fields = schema.properties.len();
        for (name, field) in &schema.properties {
            let wanted = schema.required.contains(name) || n_fields < 6 || self.below(6) == 0;
            if wanted && !matches!(name.as_str(), "kind" | "apiVersion") {
                out.insert(name.clone(), self.value(field, depth - 1, clean));
            }
        }
        Value::Object(out)
    }
}

fn context<'a>(plural: &str, name: Option<&'a str>) -> WriteContext<'a> {
    let resource = resources::builtin().iter().find(|it| it.plural == plural).unwrap();
    WriteContext {
        resource,
        namespace: resource.namespaced.then_some("default"),
        name,
        now: "2026-11-20T08:00:00Z".parse().unwrap(),
        uid: "11111111-2222-3333-4444-555555555555",
        suffix: "x7x7x",
    }
}

fn drawn(seed: u64, plural: &str, clean: bool) -> Value {
    let resource = context(plural, None).resource;
    let mut draw = Draw(seed | 1);
    let mut object = draw.value(lookup(&resource.schema).unwrap(), 9, clean);
    if let Some(map) = object.as_object_mut() {
        map.insert("metadata".to_owned(), json!({"name": "a", "labels": {"app": "web"}}));
    }
    object
}

fn plurals() -> impl Strategy<Value = &'static str> {
    let all: Vec<&str> = resources::builtin().iter().map(|it| &*it.plural).collect();
    prop::sample::select(all)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever a client sends is refused or written, and nothing panics on the way.
    #[test]
    fn every_body_is_refused_or_written(seed: u64, plural in plurals()) {
        let context = context(plural, Some("a"));
        let body = drawn(seed, plural, false).to_string();
        let Ok(decoded) =
            decode(context.resource, body.as_bytes(), Media::Json, FieldValidation::Strict)
        else {
            return Ok(());
        };
        if let Ok(made) = create(decoded.object.clone(), &context) {
            let marked =
                ["namespaces", "customresourcedefinitions", "jobs", "replicationcontrollers"];
            let deletion = delete(&made, &DeleteOptions::default(), &context).unwrap();
            prop_assert!(deletion == Deletion::Remove || marked.contains(&plural));
        }
        // As an update of something else: only refusals and results, no panic.
        let old = json!({"metadata": {"name": "a", "namespace": "default", "uid": "u"}});
        let _ = update(decoded.object.clone(), &old, &context);
        let _ = update_status(decoded.object, &old, &context);
    }

    /// What was decoded decodes to itself.
    #[test]
    fn decoding_is_idempotent(seed: u64, plural in plurals()) {
        let resource = context(plural, None).resource;
        let object = drawn(seed, plural, true);
        let once = conform(resource, &object, FieldValidation::Strict).unwrap();
        prop_assert_eq!(&once.warnings, &Vec::<String>::new());
        let twice = conform(resource, &once.object, FieldValidation::Strict).unwrap();
        prop_assert_eq!(&twice.object, &once.object);
        let body = once.object.to_string();
        let read = decode(resource, body.as_bytes(), Media::Json, FieldValidation::Strict).unwrap();
        prop_assert_eq!(&read.object, &once.object);
        let yaml = decode(resource, body.as_bytes(), Media::Yaml, FieldValidation::Strict).unwrap();
        prop_assert_eq!(&yaml.object, &once.object);
    }

    /// Defaults fill in once.
    #[test]
    fn defaulting_is_idempotent(seed: u64, plural in plurals()) {
        let resource = context(plural, None).resource;
        let object = drawn(seed, plural, true);
        let mut once = conform(resource, &object, FieldValidation::Strict).unwrap().object;
        resource.strategy.default(&mut once);
        let mut twice = once.clone();
        resource.strategy.default(&mut twice);
        prop_assert_eq!(&twice, &once);
        // Defaults are no surprise to the schema.
        let conformed = conform(resource, &once, FieldValidation::Strict).unwrap();
        prop_assert_eq!(conformed.warnings, Vec::<String>::new());
    }
}

/// Good objects of every kind, as short as they may be.
fn good() -> Vec<(&'static str, Value)> {
    let template = json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "web:1"}]},
    });
    let mut job = json!({"template": template});
    job["template"]["spec"]["restartPolicy"] = json!("Never");
    let replicas = json!({"selector": {"matchLabels": {"app": "web"}}, "template": template});
    let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
    let role = json!({"kind": "ClusterRole", "name": "view"});
    let user = json!({"kind": "User", "name": "jane"});
    let pods = json!({"resourceRules": [{
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
    }]});
    let webhook = json!({
        "name": "a.example.com", "clientConfig": {"url": "https://example.com/"},
        "sideEffects": "None", "admissionReviewVersions": ["v1"],
    });
    vec![
        ("configmaps", json!({"data": {"a": "b"}})),
        (
            "endpoints",
            json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1}]}]}),
        ),
        ("events", json!({"involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}})),
        ("namespaces", json!({})),
        ("nodes", json!({"status": {"capacity": {"cpu": "4000m"}}})),
        ("pods", json!({"spec": template["spec"]})),
        ("secrets", json!({"stringData": {"a": "b"}})),
        ("serviceaccounts", json!({})),
        ("services", json!({"spec": {"ports": [{"port": 80}]}})),
        ("deployments", json!({"spec": replicas})),
        ("replicasets", json!({"spec": replicas})),
        ("bindings", json!({"target": {"kind": "Node", "name": "n"}})),
        ("componentstatuses", json!({})),
        ("limitranges", json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}})),
        (
            "persistentvolumeclaims",
            json!({"spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
            }}),
        ),
        (
            "persistentvolumes",
            json!({"spec": {
                "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
                "hostPath": {"path": "/x"},
            }}),
        ),
        ("podtemplates", json!({"template": template})),
        ("replicationcontrollers", json!({"spec": {"template": template}})),
        ("resourcequotas", json!({"spec": {"hard": {"pods": "5"}}})),
        ("controllerrevisions", json!({"data": {"spec": {}}, "revision": 1})),
        ("daemonsets", json!({"spec": replicas})),
        ("statefulsets", json!({"spec": replicas})),
        ("cronjobs", json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job}}})),
        ("jobs", json!({"spec": job})),
        (
            "horizontalpodautoscalers",
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}}),
        ),
        ("leases", json!({"spec": {"holderIdentity": "n", "leaseDurationSeconds": 40}})),
        (
            "endpointslices",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]}),
        ),
        (
            "customresourcedefinitions",
            json!({
                "metadata": {"name": "things.x.io"},
                "spec": {
                    "group": "x.io", "scope": "Cluster",
                    "names": {"plural": "things", "kind": "Thing"},
                    "versions": [{"name": "v1", "served": true, "storage": true,
                                  "schema": {"openAPIV3Schema": {"type": "object"}}}],
                },
            }),
        ),
        (
            "mutatingadmissionpolicies",
            json!({"spec": {
                "matchConstraints": pods, "reinvocationPolicy": "Never",
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}],
            }}),
        ),
        ("mutatingadmissionpolicybindings", json!({"spec": {"policyName": "p"}})),
        ("mutatingwebhookconfigurations", json!({"webhooks": [webhook]})),
        (
            "validatingadmissionpolicies",
            json!({"spec": {"matchConstraints": pods, "validations": [{"expression": "true"}]}}),
        ),
        (
            "validatingadmissionpolicybindings",
            json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}}),
        ),
        ("validatingwebhookconfigurations", json!({"webhooks": [webhook]})),
        ("clusterroles", json!({"rules": [rule]})),
        ("roles", json!({"rules": [rule]})),
        ("clusterrolebindings", json!({"roleRef": role, "subjects": [user]})),
        ("rolebindings", json!({"roleRef": role, "subjects": [user]})),
        (
            "certificatesigningrequests",
            json!({"spec": {"request": "eA==", "signerName": "a.io/b", "usages": ["client auth"]}}),
        ),
        ("storageversionmigrations", json!({"spec": {"resource": {"resource": "secrets"}}})),
    ]
}

#[test]
fn writing_back_what_was_read_changes_nothing() {
    let good: Vec<_> = good().into_iter().chain(crate::validation::tests::made::least()).collect();
    // Questions are answered, not stored; nor is what is measured.
    let is_stored = |it: &&crate::Resource| it.is_stored();
    let mut tried: Vec<&str> = good.iter().map(|it| it.0).collect();
    let mut stored: Vec<&str> =
        resources::builtin().iter().filter(is_stored).map(|it| &*it.plural).collect();
    // A binding is carried out, not stored.
    tried.retain(|it| *it != "bindings");
    tried.sort_unstable();
    stored.sort_unstable();
    assert_eq!(tried, stored);
    for (plural, mut object) in good {
        if object.get("metadata").is_none() {
            object["metadata"] = json!({"name": "a"});
        }
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let context = context(plural, Some(&name));
        let made = create(object, &context).unwrap();
        assert_eq!(update(made.clone(), &made, &context).unwrap(), made, "{plural}");
        assert_eq!(update_status(made.clone(), &made, &context).unwrap(), made, "{plural}");
        let read = conform(context.resource, &made, FieldValidation::Strict).unwrap().object;
        assert_eq!(update(read, &made, &context).unwrap(), made, "{plural}, read by a client");
    }
}

/// What stock clients send to create things, and one thing that must come of it.
#[test]
fn bodies_of_kubectl_are_accepted() {
    let nothing = Value::Null;
    for (plural, body, pointer, expected) in [
        (
            "deployments",
            r#"{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"dd","creationTimestamp":null,"labels":{"app":"dd"}},"spec":{"replicas":1,"selector":{"matchLabels":{"app":"dd"}},"template":{"metadata":{"creationTimestamp":null,"labels":{"app":"dd"}},"spec":{"containers":[{"name":"nginx","image":"nginx","resources":{}}]}},"strategy":{}},"status":{}}"#,
            "/spec/strategy/type",
            json!("RollingUpdate"),
        ),
        (
            "namespaces",
            r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"creationTimestamp":null,"name":"foo"},"spec":{},"status":{}}"#,
            "/status/phase",
            json!("Active"),
        ),
        (
            "services",
            r#"{"apiVersion":"v1","kind":"Service","metadata":{"creationTimestamp":null,"labels":{"app":"x"},"name":"sx"},"spec":{"ports":[{"port":80,"protocol":"TCP","targetPort":80}],"selector":{"app":"x"}},"status":{"loadBalancer":{}}}"#,
            "/spec/type",
            json!("ClusterIP"),
        ),
        (
            "pods",
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"r1","creationTimestamp":null,"labels":{"run":"r1"}},"spec":{"containers":[{"name":"r1","image":"nginx","resources":{}}],"restartPolicy":"Always","dnsPolicy":"ClusterFirst"},"status":{}}"#,
            "/spec/containers/0/imagePullPolicy",
            json!("Always"),
        ),
        (
            "pods",
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"node-debugger-n1-jqxs2","creationTimestamp":null},"spec":{"volumes":[{"name":"host-root","hostPath":{"path":"/"}}],"containers":[{"name":"debugger","image":"busybox","resources":{},"volumeMounts":[{"name":"host-root","mountPath":"/host"}],"terminationMessagePolicy":"File"}],"restartPolicy":"Never","nodeName":"n1","hostNetwork":true,"hostPID":true,"hostIPC":true},"status":{}}"#,
            "/spec/securityContext",
            json!({}),
        ),
        (
            "secrets",
            r#"{"apiVersion":"v1","data":{"a":"Yg=="},"kind":"Secret","metadata":{"creationTimestamp":null,"name":"s"}}"#,
            "/type",
            json!("Opaque"),
        ),
        (
            "configmaps",
            r#"{"data":{"a":"b"},"metadata":{"name":"without-kind"}}"#,
            "/kind",
            json!("ConfigMap"),
        ),
    ] {
        let context = context(plural, None);
        let decoded =
            decode(context.resource, body.as_bytes(), Media::Json, FieldValidation::Strict)
                .unwrap();
        let made = create(decoded.object, &context).unwrap();
        assert_eq!(*made.pointer(pointer).unwrap_or(&nothing), expected, "{body}");
    }
}
