//! Good objects, one change at a time, and what is wrong then.

use serde_json::{Value, json};

use crate::resources;
use crate::write::{WriteContext, create, update};

mod groups;
mod infrastructure;
pub(crate) mod made;
mod volumes;
mod workloads;

fn context(plural: &str) -> WriteContext<'static> {
    let resource = resources::builtin().iter().find(|it| it.plural == plural).unwrap();
    WriteContext {
        resource,
        namespace: resource.namespaced.then_some("default"),
        name: None,
        now: "2026-11-20T08:00:00Z".parse().unwrap(),
        uid: "11111111-2222-3333-4444-555555555555",
        suffix: "x7x7x",
    }
}

/// What is wrong with a new object, one line each.
fn wrong(plural: &str, object: &Value) -> Vec<String> {
    causes(create(object.clone(), &context(plural)))
}

fn causes(result: Result<Value, crate::Status>) -> Vec<String> {
    match result {
        Ok(_) => Vec::new(),
        Err(status) => {
            let details = status.details.unwrap();
            details.causes.iter().map(|it| format!("{}: {}", it.field, it.message)).collect()
        }
    }
}

/// Sets the value at a JSON pointer, making what lies above it.
fn put(object: &mut Value, pointer: &str, value: Value) {
    let (above, last) = pointer.rsplit_once('/').unwrap();
    let parent = if above.is_empty() { object } else { object.pointer_mut(above).unwrap() };
    if let Some(items) = parent.as_array_mut() {
        items[last.parse::<usize>().unwrap()] = value;
    } else {
        parent[last] = value;
    }
}

/// Changes one place of a good object and tells what is wrong then.
fn check(plural: &str, good: &Value, cases: &[(&str, Value, &[&str])]) {
    assert_eq!(wrong(plural, good), Vec::<String>::new());
    for (pointer, value, expected) in cases {
        let mut object = good.clone();
        put(&mut object, pointer, value.clone());
        assert_eq!(wrong(plural, &object), *expected, "{pointer} = {value}");
    }
}

fn pod() -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "containers": [{
                "name": "c",
                "image": "web:1",
                "ports": [{"containerPort": 80}],
                "env": [{"name": "A", "value": "b"}],
                "resources": {"limits": {"cpu": "1"}},
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                "livenessProbe": {"httpGet": {"port": "http"}},
            }],
            "volumes": [{"name": "v"}],
        },
    })
}

#[test]
fn metadata() {
    let good = json!({"metadata": {"name": "a"}});
    check(
        "configmaps",
        &good,
        &[
            (
                "/metadata/labels",
                json!({"-a": "b"}),
                &[
                    "metadata.labels: Invalid value: \"-a\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                ],
            ),
            ("/metadata/annotations", json!({"A/b": "x y"}), &[]),
            (
                "/metadata/annotations",
                json!({"a": "x".repeat(262_144)}),
                &["metadata.annotations: Too long: may not be more than 262144 bytes"],
            ),
            (
                "/metadata/ownerReferences",
                json!([{"apiVersion": "v1", "kind": "Pod", "name": "p"}]),
                &["metadata.ownerReferences[0].uid: Invalid value: \"\": must not be empty"],
            ),
            (
                "/metadata/finalizers",
                json!(["orphan", "foregroundDeletion"]),
                &[
                    "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and foregroundDeletion cannot be both set",
                ],
            ),
        ],
    );
}

#[test]
fn containers() {
    check(
        "pods",
        &pod(),
        &[
            ("/spec/containers", json!([]), &["spec.containers: Required value"]),
            ("/spec/containers/0/name", json!(""), &["spec.containers[0].name: Required value"]),
            ("/spec/containers/0/image", json!(""), &["spec.containers[0].image: Required value"]),
            (
                "/spec/initContainers",
                json!([{"name": "c", "image": "i"}]),
                &["spec.initContainers[0].name: Duplicate value: \"c\""],
            ),
            (
                "/spec/initContainers",
                json!([{"name": "i", "image": "i", "livenessProbe": {"exec": {"command": ["x"]}}}]),
                &[
                    "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
                ],
            ),
            (
                "/spec/containers/0/imagePullPolicy",
                json!("Now"),
                &[
                    "spec.containers[0].imagePullPolicy: Unsupported value: \"Now\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
                ],
            ),
            (
                "/spec/containers/0/ports/0/containerPort",
                json!(70000),
                &[
                    "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                "/spec/containers/0/ports",
                json!([{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]),
                &["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//9\""],
            ),
            (
                "/spec/containers/0/ports",
                json!([{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]),
                &["spec.containers[0].ports[1].name: Duplicate value: \"a\""],
            ),
            (
                "/spec/containers/0/env/0/name",
                json!("A=B"),
                &[
                    "spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='",
                ],
            ),
            (
                "/spec/containers/0/env/0/valueFrom",
                json!({"secretKeyRef": {"name": "s", "key": "k"}}),
                &[
                    "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
                ],
            ),
            (
                "/spec/containers/0/volumeMounts/0/name",
                json!("nope"),
                &["spec.containers[0].volumeMounts[0].name: Not found: \"nope\""],
            ),
            (
                "/spec/containers/0/volumeMounts/0/subPath",
                json!("a/../../b"),
                &[
                    "spec.containers[0].volumeMounts[0].subPath: Invalid value: \"a/../../b\": must not contain '..'",
                ],
            ),
            (
                "/spec/containers/0/resources/requests",
                json!({"cpu": "2"}),
                &[
                    "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
                ],
            ),
            (
                "/spec/containers/0/resources/limits",
                json!({"cpu": "-1"}),
                &[
                    "spec.containers[0].resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                    "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                ],
            ),
            (
                "/spec/containers/0/livenessProbe",
                json!({}),
                &["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
            ),
            (
                "/spec/containers/0/livenessProbe",
                json!({"exec": {"command": ["x"]}, "successThreshold": 2}),
                &["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"],
            ),
            (
                "/spec/containers/0/securityContext",
                json!({"runAsUser": -1}),
                &[
                    "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                ],
            ),
        ],
    );
}

#[test]
fn pods() {
    check(
        "pods",
        &pod(),
        &[
            (
                "/spec/restartPolicy",
                json!("Maybe"),
                &[
                    "spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"OnFailure\", \"Never\"",
                ],
            ),
            (
                "/spec/volumes",
                json!([{"name": "v"}, {"name": "v"}]),
                &["spec.volumes[1].name: Duplicate value: \"v\""],
            ),
            (
                "/spec/volumes/0",
                json!({"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}),
                &["spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type"],
            ),
            (
                "/spec/volumes/0",
                json!({"name": "v", "hostPath": {"path": "/a/../b"}}),
                &[
                    "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
                ],
            ),
            (
                "/spec/volumes/0",
                json!({"name": "v", "secret": {}}),
                &["spec.volumes[0].secret.secretName: Required value"],
            ),
            (
                "/spec/ephemeralContainers",
                json!([{"name": "debug", "image": "tools:1"}]),
                &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
            ),
            (
                "/spec/activeDeadlineSeconds",
                json!(0),
                &[
                    "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
                ],
            ),
            (
                "/spec/tolerations",
                json!([{"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 1}]),
                &[
                    "spec.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set",
                ],
            ),
            (
                "/spec/dnsPolicy",
                json!("None"),
                &[
                    "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
                ],
            ),
            (
                "/spec/affinity",
                json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}),
                &[
                    "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
                ],
            ),
        ],
    );
}

#[test]
fn pods_change_little() {
    let context = context("pods");
    let mut pod = pod();
    pod["spec"]["tolerations"] = json!([{"key": "a", "operator": "Exists"}]);
    let old = create(pod, &context).unwrap();
    let change = |pointer: &str, value: Value| {
        let mut new = old.clone();
        put(&mut new, pointer, value);
        causes(update(new, &old, &context))
    };
    let tolerations = old["spec"]["tolerations"].as_array().unwrap().clone();
    let added: Vec<Value> =
        tolerations.iter().cloned().chain([json!({"operator": "Exists"})]).collect();
    for (pointer, value) in [
        ("/spec/containers/0/image", json!("web:2")),
        ("/spec/activeDeadlineSeconds", json!(5)),
        ("/spec/tolerations", json!(added)),
        ("/metadata/labels", json!({"a": "b"})),
        ("/spec/hostNetwork", json!(false)),
        ("/spec/containers/0/command", json!([])),
    ] {
        assert_eq!(change(pointer, value), Vec::<String>::new(), "{pointer}");
    }
    let refused = change("/spec/nodeName", json!("n"));
    assert!(
        refused[0].starts_with(
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
        ) && refused[0].ends_with("\n  spec.nodeName: null -> \"n\""),
        "{refused:?}"
    );
    assert_eq!(
        change("/spec/tolerations", json!([])),
        [
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
        ]
    );
    assert_eq!(
        change("/spec/containers", json!([])),
        [
            "spec.containers: Required value",
            "spec.containers: Forbidden: pod updates may not add or remove containers"
        ]
    );
}

/// As `TestValidatePodUpdate` of Kubernetes has it.
#[test]
fn pods_that_wait_at_a_gate_may_only_be_directed_to_fewer_nodes() {
    let context = context("pods");
    let expression = |key: &str| json!({"key": key, "operator": "Exists"});
    let term = |keys: &[&str]| {
        let expressions: Vec<Value> = keys.iter().map(|it| expression(it)).collect();
        json!({"matchExpressions": expressions})
    };
    let affinity = |terms: &[Value]| {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": terms,
        }}})
    };
    let mut gated = pod();
    gated["spec"]["schedulingGates"] = json!([{"name": "a/b"}]);
    let free = create(gated.clone(), &context).unwrap();
    gated["spec"]["nodeSelector"] = json!({"zone": "a"});
    gated["spec"]["affinity"] = affinity(&[term(&["x"])]);
    let bound = create(gated, &context).unwrap();
    let change = |old: &Value, field: &str, value: Value| {
        let mut new = old.clone();
        new["spec"][field] = value;
        causes(update(new, old, &context))
    };
    let preferred = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "preference": term(&["y"])},
    ]}});
    for (old, field, value) in [
        (&free, "nodeSelector", json!({"zone": "a"})),
        (&free, "affinity", affinity(&[term(&["x"]), term(&["y"])])),
        (&free, "affinity", preferred),
        (&bound, "nodeSelector", json!({"zone": "a", "disk": "ssd"})),
        (&bound, "affinity", affinity(&[term(&["x", "y"])])),
    ] {
        assert_eq!(change(old, field, value.clone()), Vec::<String>::new(), "{field}: {value}");
    }

    let terms = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let more = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
    let number = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
    let fewer = "only additions are allowed (no mutations or deletions)";
    let first = format!("{terms}[0]");
    for (field, value, place, why) in [
        ("nodeSelector", json!({"zone": "b"}), "spec.nodeSelector", more),
        ("nodeSelector", json!({"disk": "ssd"}), "spec.nodeSelector", more),
        ("affinity", Value::Null, terms, number),
        ("affinity", affinity(&[term(&["x"]), term(&["y"])]), terms, number),
        ("affinity", affinity(&[term(&["y"])]), first.as_str(), fewer),
        ("affinity", affinity(&[term(&["y", "x"])]), first.as_str(), fewer),
    ] {
        let wrong = change(&bound, field, value.clone());
        let [wrong] = wrong.as_slice() else { panic!("{value}: {wrong:?}") };
        assert!(wrong.starts_with(&format!("{place}: Invalid value: ")), "{value}: {wrong}");
        assert!(wrong.ends_with(why), "{value}: {wrong}");
    }
    let mut both = affinity(&[term(&["x", "y"])]);
    both["podAntiAffinity"] = json!({"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}},
    ]});
    let wrong = change(&bound, "affinity", both);
    assert!(wrong[0].starts_with("spec: Forbidden: pod updates may not change"), "{wrong:?}");
}

fn deployment() -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "web:1"}]},
            },
        },
    })
}

#[test]
fn deployments() {
    check(
        "deployments",
        &deployment(),
        &[
            (
                "/spec/replicas",
                json!(-1),
                &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
            ),
            ("/spec/selector", json!(null), &["spec.selector: Required value"]),
            (
                "/spec/selector",
                json!({}),
                &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
            ),
            (
                "/spec/template/metadata/labels",
                json!({"app": "other"}),
                &[
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                "/spec/template/spec/containers/0/image",
                json!(""),
                &["spec.template.spec.containers[0].image: Required value"],
            ),
            (
                "/spec/template/spec/restartPolicy",
                json!("Never"),
                &[
                    "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                ],
            ),
            (
                "/spec/strategy",
                json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}),
                &[
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
                ],
            ),
            (
                "/spec/strategy",
                json!({"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
                &[
                    "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
                ],
            ),
            (
                "/spec/progressDeadlineSeconds",
                json!(0),
                &[
                    "spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds",
                ],
            ),
        ],
    );
    let context = context("deployments");
    let old = create(deployment(), &context).unwrap();
    let mut new = old.clone();
    for pointer in ["/spec/selector/matchLabels", "/spec/template/metadata/labels"] {
        put(&mut new, pointer, json!({"app": "x"}));
    }
    assert_eq!(
        causes(update(new, &old, &context)),
        ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"x\"}}: field is immutable"]
    );
}

#[test]
fn services() {
    check(
        "services",
        &json!({
            "metadata": {"name": "s"},
            "spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]},
        }),
        &[
            ("/spec/ports", json!([]), &["spec.ports: Required value"]),
            ("/spec/clusterIP", json!("None"), &[]),
            (
                "/metadata/name",
                json!("1s"),
                &[
                    "metadata.name: Invalid value: \"1s\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
                ],
            ),
            ("/spec/ports/0/name", json!(""), &["spec.ports[0].name: Required value"]),
            ("/spec/ports/0/name", json!("b"), &["spec.ports[1].name: Duplicate value: \"b\""]),
            (
                "/spec/ports/0/port",
                json!(0),
                &[
                    "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                    "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                "/spec/ports/1/port",
                json!(80),
                &["spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}"],
            ),
            (
                "/spec/ports/0/nodePort",
                json!(30000),
                &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
            ),
            (
                "/spec/loadBalancerSourceRanges",
                json!(["10.0.0.0/8"]),
                &[
                    "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
                ],
            ),
            (
                "/spec/loadBalancerClass",
                json!("x/y"),
                &[
                    "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
                ],
            ),
            (
                "/spec/trafficDistribution",
                json!("Far"),
                &[
                    "spec.trafficDistribution: Unsupported value: \"Far\": supported values: \"PreferClose\", \"PreferSameNode\", \"PreferSameZone\"",
                ],
            ),
            (
                "/spec/ipFamilies",
                json!(["IPv4", "IPv4"]),
                &["spec.ipFamilies[1]: Duplicate value: \"IPv4\""],
            ),
            (
                "/spec/externalIPs",
                json!(["127.0.0.1"]),
                &[
                    "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                ],
            ),
            (
                "/spec/type",
                json!("Foo"),
                &[
                    "spec.type: Unsupported value: \"Foo\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
                ],
            ),
            (
                "/spec/clusterIP",
                json!("1.2.3"),
                &[
                    "spec.clusterIPs[0]: Invalid value: \"1.2.3\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                ],
            ),
        ],
    );
}

#[test]
fn sealed_configuration_keeps_its_content() {
    let context = context("configmaps");
    let sealed = json!({"metadata": {"name": "a"}, "data": {"k": "v"}, "immutable": true});
    let old = create(sealed, &context).unwrap();
    for (pointer, value, expected) in [
        ("/metadata/labels", json!({"a": "b"}), &[][..]),
        ("/data/k", json!("w"), &["data: Forbidden: field is immutable when `immutable` is set"]),
        (
            "/immutable",
            json!(false),
            &["immutable: Forbidden: field is immutable when `immutable` is set"],
        ),
    ] {
        let mut new = old.clone();
        put(&mut new, pointer, value);
        assert_eq!(causes(update(new, &old, &context)), expected, "{pointer}");
    }
}

#[test]
fn small_kinds() {
    check(
        "secrets",
        &json!({"metadata": {"name": "a"}, "data": {}}),
        &[
            (
                "/data",
                json!({"a b": ""}),
                &[
                    "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
                ],
            ),
            (
                "/type",
                json!("kubernetes.io/tls"),
                &["data[tls.crt]: Required value", "data[tls.key]: Required value"],
            ),
        ],
    );
    check(
        "leases",
        &json!({"metadata": {"name": "a"}, "spec": {}}),
        &[(
            "/spec/leaseDurationSeconds",
            json!(0),
            &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
        )],
    );
    check(
        "nodes",
        &json!({"metadata": {"name": "n"}, "spec": {}}),
        &[(
            "/spec/taints",
            json!([{"key": "a", "effect": "Never"}]),
            &[
                "spec.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            ],
        )],
    );
    check(
        "endpointslices",
        &json!({
            "metadata": {"name": "s"},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"]}],
            "ports": [{"port": 80}],
        }),
        &[
            (
                "/endpoints/0/addresses",
                json!(["127.0.0.1"]),
                &[
                    "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                ],
            ),
            ("/addressType", json!(""), &["addressType: Required value"]),
        ],
    );
    check(
        "events",
        &json!({
            "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
            "reason": "Started",
        }),
        &[(
            "/involvedObject/namespace",
            json!("other"),
            &["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"],
        )],
    );
}
