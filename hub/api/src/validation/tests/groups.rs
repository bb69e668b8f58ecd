//! Kinds outside of the core group: a good object, one change at a time.

use serde_json::{Value, json};

use super::{causes, check, context, put};
use crate::write::{WriteContext, create, update, update_status};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// Changes one place of a stored object, or of its status, and tells what is wrong then.
fn check_change(plural: &str, good: &Value, cases: &[(&str, Value, &[&str])]) {
    let context = WriteContext { name: Some("a"), ..context(plural) };
    let old = create(good.clone(), &context).unwrap();
    for (pointer, value, expected) in cases {
        let mut new = old.clone();
        put(&mut new, pointer, value.clone());
        let result = match pointer.starts_with("/status") {
            true => update_status(new, &old, &context),
            false => update(new, &old, &context),
        };
        assert_eq!(causes(result), *expected, "{plural}: {pointer} = {value}");
    }
}

#[test]
fn pod_disruption_budgets() {
    let good = json!({"metadata": {"name": "a"}, "spec": {"minAvailable": 1, "selector": {}}});
    check(
        "poddisruptionbudgets",
        &good,
        &[
            (
                "/spec/minAvailable",
                json!(-1),
                &["spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                "/spec/minAvailable",
                json!("101%"),
                &["spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%"],
            ),
            (
                "/spec/minAvailable",
                json!("x"),
                &[
                    "spec.minAvailable: Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                ],
            ),
            (
                "/spec/maxUnavailable",
                json!(1),
                &[
                    "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1,\"selector\":{}}: minAvailable and maxUnavailable cannot be both set",
                ],
            ),
            (
                "/spec/unhealthyPodEvictionPolicy",
                json!("Never"),
                &[
                    "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
                ],
            ),
        ],
    );
    check_change(
        "poddisruptionbudgets",
        &good,
        &[
            ("/spec/minAvailable", json!(2), &[]),
            (
                "/status/disruptionsAllowed",
                json!(-1),
                &[
                    "status.disruptionsAllowed: Invalid value: -1: must be greater than or equal to 0",
                ],
            ),
            (
                "/status/conditions",
                json!([{"type": "A", "status": "Maybe"}]),
                &[
                    "status.conditions[0].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
                    "status.conditions[0].lastTransitionTime: Required value: must be set",
                    "status.conditions[0].reason: Required value: must be set",
                ],
            ),
        ],
    );
}

#[test]
fn network_policies() {
    let good = json!({"metadata": {"name": "a"}, "spec": {
        "podSelector": {},
        "ingress": [{"ports": [{"port": 80}], "from": [{"podSelector": {}}]}],
    }});
    let peer = "/spec/ingress/0/from/0";
    let port = "/spec/ingress/0/ports/0";
    check(
        "networkpolicies",
        &good,
        &[
            (peer, json!({}), &["spec.ingress[0].from[0]: Required value: must specify a peer"]),
            (
                peer,
                json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}),
                &[
                    "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
                ],
            ),
            (
                peer,
                json!({"ipBlock": {"cidr": "10.0.0.0/33"}}),
                &[
                    "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.0/33\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                ],
            ),
            (peer, json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}), &[]),
            (peer, json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.1.0.0/16"]}}), &[]),
            (
                peer,
                json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16", "10.0.0.0/8"]}}),
                &[
                    "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
                    "spec.ingress[0].from[0].ipBlock.except[1]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
                ],
            ),
            (
                port,
                json!({"port": 80, "endPort": 79}),
                &[
                    "spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
                ],
            ),
            (
                port,
                json!({"port": "http", "endPort": 79}),
                &[
                    "spec.ingress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is non-numeric",
                ],
            ),
            (
                port,
                json!({"endPort": 79}),
                &[
                    "spec.ingress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is not specified",
                ],
            ),
            (
                port,
                json!({"protocol": "ICMP"}),
                &[
                    "spec.ingress[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
                ],
            ),
            (
                "/spec/policyTypes",
                json!(["Both"]),
                &[
                    "spec.policyTypes[0]: Unsupported value: \"Both\": supported values: \"Ingress\", \"Egress\"",
                ],
            ),
        ],
    );
}

#[test]
fn ingresses() {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let good = json!({"metadata": {"name": "a", "annotations": {}}, "spec": {
        "rules": [{"host": "a.io", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
    }});
    let path = "/spec/rules/0/http/paths/0/path";
    let service = "/spec/rules/0/http/paths/0/backend";
    check(
        "ingresses",
        &good,
        &[
            (
                "/spec/rules",
                json!([]),
                &[
                    "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified",
                ],
            ),
            (
                "/spec/rules/0/host",
                json!("10.0.0.1"),
                &[
                    "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
                ],
            ),
            ("/spec/rules/0/host", json!("*.a.io"), &[]),
            (
                path,
                json!("web"),
                &[
                    "spec.rules[0].http.paths[0].path: Invalid value: \"web\": must be an absolute path",
                ],
            ),
            (
                path,
                json!("/a//b/.."),
                &[
                    "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b/..\": must not contain '//'",
                    "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b/..\": cannot end with '/..'",
                ],
            ),
            (
                "/spec/rules/0/http/paths/0/pathType",
                json!("Regex"),
                &[
                    "spec.rules[0].http.paths[0].pathType: Unsupported value: \"Regex\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\"",
                ],
            ),
            (
                "/spec/rules/0/http/paths/0/pathType",
                json!(null),
                &[
                    "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
                ],
            ),
            (
                service,
                json!({}),
                &[
                    "spec.rules[0].http.paths[0].backend: Invalid value: \"\": resource or service backend is required",
                ],
            ),
            (
                service,
                json!({"service": {"name": "web"}}),
                &[
                    "spec.rules[0].http.paths[0].backend: Required value: port name or number is required",
                ],
            ),
            (
                service,
                json!({"service": {"name": "web", "port": {"name": "http", "number": 80}}}),
                &[
                    "spec.rules[0].http.paths[0].backend: Invalid value: \"\": cannot set both port name & port number",
                ],
            ),
            (
                service,
                json!({"resource": {"kind": "K", "name": ""}}),
                &[
                    "spec.rules[0].http.paths[0].backend.resource.name: Required value: name is required",
                ],
            ),
            (
                "/spec/ingressClassName",
                json!("A"),
                &[&format!("spec.ingressClassName: Invalid value: \"A\": {SUBDOMAIN}")],
            ),
        ],
    );
    let mut both = good.clone();
    both["metadata"]["annotations"]["kubernetes.io/ingress.class"] = json!("x");
    both["spec"]["ingressClassName"] = json!("y");
    assert_eq!(
        super::wrong("ingresses", &both),
        [
            "annotations.kubernetes.io/ingress.class: Invalid value: \"x\": must match `ingressClassName` when both are specified"
        ]
    );
    check_change(
        "ingresses",
        &good,
        &[(
            "/status/loadBalancer",
            json!({"ingress": [{"ip": "x"}, {"hostname": "10.0.0.1"}]}),
            &[
                "status.loadBalancer.ingress[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                "status.loadBalancer.ingress[1].hostname: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
            ],
        )],
    );
}

#[test]
fn ingress_classes_and_addresses() {
    let class = json!({"metadata": {"name": "a"}, "spec": {"controller": "a.io/b", "parameters": {"kind": "K", "name": "n"}}});
    check(
        "ingressclasses",
        &class,
        &[
            (
                "/spec/controller",
                json!("b"),
                &[
                    "spec.controller: Invalid value: \"b\": must be a domain-prefixed path (such as \"acme.io/foo\")",
                ],
            ),
            ("/spec/controller", json!(""), &["spec.controller: Required value"]),
            (
                "/spec/parameters/scope",
                json!("Namespace"),
                &[
                    "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
                ],
            ),
            (
                "/spec/parameters/namespace",
                json!("x"),
                &["spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"],
            ),
        ],
    );
    check_change(
        "ingressclasses",
        &class,
        &[(
            "/spec/controller",
            json!("a.io/c"),
            &["spec.controller: Invalid value: \"a.io/c\": field is immutable"],
        )],
    );
    let range = json!({"metadata": {"name": "a"}, "spec": {"cidrs": ["10.0.0.0/16"]}});
    check(
        "servicecidrs",
        &range,
        &[
            ("/spec/cidrs", json!([]), &["spec.cidrs: Required value: at least one CIDR required"]),
            (
                "/spec/cidrs",
                json!(["10.0.0.0/16", "10.1.0.0/16"]),
                &[
                    "spec.cidrs: Invalid value: {\"cidrs\":[\"10.0.0.0/16\",\"10.1.0.0/16\"]}: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96",
                ],
            ),
            (
                "/spec/cidrs",
                json!(["x"]),
                &[
                    "spec.cidrs[0]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                ],
            ),
        ],
    );
    check_change(
        "servicecidrs",
        &range,
        &[
            ("/spec/cidrs", json!(["10.0.0.0/16", "fd00::/112"]), &[]),
            (
                "/spec/cidrs",
                json!(["10.1.0.0/16"]),
                &["spec.cidrs[0]: Invalid value: \"10.1.0.0/16\": field is immutable"],
            ),
        ],
    );
    let address = json!({"metadata": {"name": "fd00::1"}, "spec": {"parentRef": {"resource": "services", "name": "a"}}});
    check(
        "ipaddresses",
        &address,
        &[
            (
                "/metadata/name",
                json!("fd00:0::1"),
                &[
                    "metadata.name: Invalid value: \"fd00:0::1\": must be a canonical format IP address",
                ],
            ),
            ("/spec/parentRef/resource", json!(""), &["spec.parentRef.resource: Required value"]),
            ("/spec", json!({}), &["spec.parentRef: Required value"]),
        ],
    );
}

#[test]
fn storage() {
    let class = json!({"metadata": {"name": "a"}, "provisioner": "a.io/b", "parameters": {}});
    check(
        "storageclasses",
        &class,
        &[
            ("/provisioner", json!(""), &["provisioner: Required value"]),
            (
                "/reclaimPolicy",
                json!("Keep"),
                &[
                    "reclaimPolicy: Unsupported value: \"Keep\": supported values: \"Delete\", \"Retain\"",
                ],
            ),
            (
                "/volumeBindingMode",
                json!("Later"),
                &[
                    "volumeBindingMode: Unsupported value: \"Later\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
                ],
            ),
            (
                "/allowedTopologies",
                json!([{"matchLabelExpressions": [{"key": "zone", "values": []}]}]),
                &["allowedTopologies.matchLabelExpressions[0].values: Required value"],
            ),
        ],
    );
    check_change(
        "storageclasses",
        &class,
        &[
            (
                "/parameters",
                json!({"a": "b"}),
                &["parameters: Forbidden: updates to parameters are forbidden."],
            ),
            (
                "/provisioner",
                json!("a.io/c"),
                &["provisioner: Forbidden: updates to provisioner are forbidden."],
            ),
            (
                "/reclaimPolicy",
                json!("Retain"),
                &["reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden."],
            ),
            (
                "/volumeBindingMode",
                json!("WaitForFirstConsumer"),
                &["volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable"],
            ),
            ("/allowVolumeExpansion", json!(true), &[]),
        ],
    );
    let driver =
        json!({"metadata": {"name": "a.io"}, "spec": {"tokenRequests": [{"audience": "x"}]}});
    check(
        "csidrivers",
        &driver,
        &[
            (
                "/spec/fsGroupPolicy",
                json!("Any"),
                &[
                    "spec.fsGroupPolicy: Unsupported value: \"Any\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
                ],
            ),
            (
                "/spec/tokenRequests/0/expirationSeconds",
                json!(1),
                &[
                    "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
                ],
            ),
            (
                "/spec/volumeLifecycleModes",
                json!(["Now"]),
                &[
                    "spec.volumeLifecycleModes: Unsupported value: \"Now\": supported values: \"Ephemeral\", \"Persistent\"",
                ],
            ),
        ],
    );
    let node = json!({"metadata": {"name": "a"}, "spec": {"drivers": [{"name": "a.io", "nodeID": "1", "topologyKeys": []}]}});
    check(
        "csinodes",
        &node,
        &[
            ("/spec/drivers/0/nodeID", json!(""), &["spec.drivers[0].nodeID: Required value"]),
            (
                "/spec/drivers/0/topologyKeys",
                json!(["a", "a"]),
                &["spec.drivers[0].topologyKeys: Duplicate value: \"a\""],
            ),
        ],
    );
    let attachment = json!({"metadata": {"name": "a"}, "spec": {"attacher": "a.io", "nodeName": "n", "source": {"persistentVolumeName": "v"}}});
    check(
        "volumeattachments",
        &attachment,
        &[
            (
                "/spec/source",
                json!({}),
                &[
                    "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
                ],
            ),
            ("/spec/attacher", json!(""), &["spec.attacher: Required value"]),
        ],
    );
    check_change(
        "volumeattachments",
        &attachment,
        &[
            (
                "/spec/nodeName",
                json!("m"),
                &[
                    "spec: Invalid value: {\"attacher\":\"a.io\",\"nodeName\":\"m\",\"source\":{\"persistentVolumeName\":\"v\"}}: field is immutable",
                ],
            ),
            ("/status/attached", json!(true), &[]),
        ],
    );
    let attributes =
        json!({"metadata": {"name": "a"}, "driverName": "a.io", "parameters": {"a": "b"}});
    check(
        "volumeattributesclasses",
        &attributes,
        &[(
            "/parameters",
            json!({}),
            &["parameters: Required value: must contain at least one key/value pair"],
        )],
    );
    check_change(
        "volumeattributesclasses",
        &attributes,
        &[(
            "/driverName",
            json!("b.io"),
            &["driverName: Forbidden: updates to driverName are forbidden."],
        )],
    );
    let capacity = json!({"metadata": {"name": "a"}, "storageClassName": "fast"});
    check(
        "csistoragecapacities",
        &capacity,
        &[(
            "/capacity",
            json!("-1"),
            &["capacity: Invalid value: \"-1\": must be greater than or equal to 0"],
        )],
    );
}

#[test]
fn classes_of_pods() {
    let priority = json!({"metadata": {"name": "a"}, "value": 5});
    check(
        "priorityclasses",
        &priority,
        &[
            (
                "/value",
                json!(1_000_000_001),
                &[
                    "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
                ],
            ),
            (
                "/metadata/name",
                json!("system-a"),
                &[
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-a is not a known system priority class",
                ],
            ),
            (
                "/metadata/name",
                json!("system-node-critical"),
                &[
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: value of system-node-critical PriorityClass must be 2000001000",
                ],
            ),
            (
                "/preemptionPolicy",
                json!("Always"),
                &[
                    "preemptionPolicy: Unsupported value: \"Always\": supported values: \"Never\", \"PreemptLowerPriority\"",
                ],
            ),
        ],
    );
    check_change(
        "priorityclasses",
        &priority,
        &[
            ("/value", json!(6), &["value: Forbidden: may not be changed in an update."]),
            (
                "/preemptionPolicy",
                json!("Never"),
                &["preemptionPolicy: Invalid value: \"Never\": field is immutable"],
            ),
        ],
    );
    let runtime =
        json!({"metadata": {"name": "a"}, "handler": "kata", "scheduling": {"tolerations": []}});
    check_change(
        "runtimeclasses",
        &runtime,
        &[("/handler", json!("runc"), &["handler: Invalid value: \"runc\": field is immutable"])],
    );
    check(
        "runtimeclasses",
        &runtime,
        &[(
            "/scheduling/tolerations",
            json!([{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Exists"}]),
            &[
                "scheduling.tolerations[1]: Duplicate value: {\"key\":\"a\",\"operator\":\"Exists\"}",
            ],
        )],
    );
}

#[test]
fn flow_control() {
    let schema = json!({"metadata": {"name": "a"}, "spec": {
        "priorityLevelConfiguration": {"name": "b"},
        "rules": [{
            "subjects": [{"kind": "User", "user": {"name": "x"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz/*"]}],
        }],
    }});
    let rule = "/spec/rules/0/resourceRules/0";
    check(
        "flowschemas",
        &schema,
        &[
            (
                "/spec/matchingPrecedence",
                json!(1),
                &[
                    "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                ],
            ),
            (
                "/spec/matchingPrecedence",
                json!(10_001),
                &["spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000"],
            ),
            (
                "/spec/priorityLevelConfiguration/name",
                json!(""),
                &[
                    "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
                ],
            ),
            (
                "/spec/rules/0/subjects",
                json!([]),
                &[
                    "spec.rules[0].subjects: Required value: subjects must contain at least one value",
                ],
            ),
            (
                "/spec/rules/0/subjects/0",
                json!({"kind": "Group", "user": {"name": "x"}}),
                &[
                    "spec.rules[0].subjects[0].user: Forbidden: user is forbidden when subject kind is not 'User'",
                    "spec.rules[0].subjects[0].group: Required value: group is required when subject kind is 'Group'",
                ],
            ),
            (
                rule,
                json!({"verbs": ["*", "get"], "apiGroups": [""], "resources": ["pods"]}),
                &[
                    "spec.rules[0].resourceRules[0].verbs: Invalid value: [\"*\",\"get\"]: if '*' is present, must not specify other verbs",
                    "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace",
                ],
            ),
            (
                "/spec/rules/0/nonResourceRules/0/nonResourceURLs",
                json!(["/a*"]),
                &[
                    "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"/a*\": wildcard can only do suffix matching",
                ],
            ),
        ],
    );
    let level = json!({"metadata": {"name": "a"}, "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}});
    let queuing = "/spec/limited/limitResponse/queuing";
    check(
        "prioritylevelconfigurations",
        &level,
        &[
            (
                "/spec/type",
                json!("Exempt"),
                &[
                    "spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'",
                    "spec.limited: Forbidden: must be nil if the type is not Limited",
                ],
            ),
            (
                queuing,
                json!({"queues": 5, "handSize": 6}),
                &[
                    "spec.limited.limitResponse.queuing.handSize: Invalid value: 6: should not be greater than queues (5)",
                ],
            ),
            (
                queuing,
                json!({"queues": 1_000_000, "handSize": 4}),
                &[
                    "spec.limited.limitResponse.queuing.handSize: Invalid value: 4: required entropy bits of deckSize 1000000 and handSize 4 should not be greater than 60",
                ],
            ),
            (
                "/spec/limited/lendablePercent",
                json!(101),
                &[
                    "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
                ],
            ),
        ],
    );
}

#[test]
fn devices() {
    let claim = json!({"metadata": {"name": "a"}, "spec": {"devices": {
        "requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}],
        "constraints": [],
    }}});
    let request = "/spec/devices/requests/0";
    check(
        "resourceclaims",
        &claim,
        &[
            (
                request,
                json!({"name": "gpu"}),
                &[
                    "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
                ],
            ),
            (
                request,
                json!({"name": "", "exactly": {"deviceClassName": "c"}}),
                &["spec.devices.requests[0].name: Required value"],
            ),
            (
                request,
                json!({"name": "gpu", "exactly": {"deviceClassName": "c", "allocationMode": "All", "count": 2}}),
                &[
                    "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
                ],
            ),
            (
                request,
                json!({"name": "gpu", "exactly": {"deviceClassName": ""}}),
                &["spec.devices.requests[0].exactly.deviceClassName: Required value"],
            ),
            (
                "/spec/devices/constraints",
                json!([{"requests": ["cpu"], "matchAttribute": "a"}]),
                &[
                    "spec.devices.constraints[0].requests[0]: Invalid value: \"cpu\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
                    "spec.devices.constraints[0].matchAttribute: Invalid value: \"a\": a fully qualified name must be a domain and a name separated by a slash",
                ],
            ),
        ],
    );
    check_change(
        "resourceclaims",
        &claim,
        &[
            (
                "/status/reservedFor",
                json!([{"resource": "pods", "name": "p", "uid": "1"}]),
                &[
                    "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
                ],
            ),
            (
                "/status/allocation",
                json!({"devices": {"results": [{"request": "gpu", "driver": "a.io", "pool": "n", "device": "d"}]}}),
                &[],
            ),
        ],
    );
    let slice = json!({"metadata": {"name": "a"}, "spec": {
        "driver": "a.io", "nodeName": "n", "pool": {"name": "n", "resourceSliceCount": 1},
        "devices": [{"name": "gpu-0", "attributes": {"model": {"string": "x"}}}],
    }});
    check(
        "resourceslices",
        &slice,
        &[
            (
                "/spec/allNodes",
                json!(true),
                &[
                    "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
                ],
            ),
            (
                "/spec/pool/resourceSliceCount",
                json!(0),
                &["spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero"],
            ),
            (
                "/spec/devices/0/attributes",
                json!({"v": {"version": "1.0"}}),
                &[
                    "spec.devices[0].attributes[v].version: Invalid value: \"1.0\": must be a string compatible with semver.org spec 2.0.0",
                ],
            ),
            ("/spec/devices/0/attributes", json!({"v": {"version": "1.0.0-rc.1+b"}}), &[]),
            (
                "/spec/devices/0/attributes",
                json!({"v": {}}),
                &[
                    "spec.devices[0].attributes[v]: Invalid value: \"\": exactly one value must be specified",
                ],
            ),
            (
                "/spec/devices/0/nodeName",
                json!("m"),
                &[
                    "spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
                ],
            ),
            (
                "/spec/devices/0/name",
                json!("A"),
                &[
                    "spec.devices[0].name: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                ],
            ),
        ],
    );
    check_change(
        "resourceslices",
        &slice,
        &[(
            "/spec/pool/name",
            json!("m"),
            &["spec.pool.name: Invalid value: \"m\": field is immutable"],
        )],
    );
}

#[test]
fn api_services() {
    let api = json!({"metadata": {"name": "v1.a.io"}, "spec": {
        "group": "a.io", "version": "v1", "groupPriorityMinimum": 10, "versionPriority": 10,
    }});
    check(
        "apiservices",
        &api,
        &[
            (
                "/metadata/name",
                json!("v2.a.io"),
                &[
                    "metadata.name: Invalid value: \"v2.a.io\": must be `spec.version+\".\"+spec.group`: \"v1.a.io\"",
                ],
            ),
            (
                "/spec/versionPriority",
                json!(1001),
                &["spec.versionPriority: Invalid value: 1001: must be positive and less than 1000"],
            ),
            (
                "/spec/insecureSkipTLSVerify",
                json!(true),
                &[
                    "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
                ],
            ),
            ("/spec/service", json!({"name": "a"}), &["spec.service.namespace: Required value"]),
        ],
    );
}
