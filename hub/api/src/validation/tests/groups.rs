//! Kinds outside of the core group: a good object, one change at a time.

use serde_json::{Value, json};

use super::{causes, check, context, put};
use crate::write::{WriteContext, create, update, update_status};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// Changes one place of a stored object, or of its status, and tells what is wrong then.
pub(super) fn check_change(plural: &str, good: &Value, cases: &[(&str, Value, &[&str])]) {
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
fn storage_version_migrations() {
    let good = json!({"metadata": {"name": "a"}, "spec": {"resource": {"resource": "secrets"}}});
    let resource = "/spec/resource/resource";
    check(
        "storageversionmigrations",
        &good,
        &[(resource, json!(""), &["spec.resource.resource: Required value"])],
    );
    let ended = json!([
        {"type": "Succeeded", "status": "True", "reason": "R"},
        {"type": "Running", "status": "True", "reason": "R"},
    ]);
    let both = format!(
        "status.conditions: Invalid value: {ended}: Running condition cannot be true when success condition is true"
    );
    check_change(
        "storageversionmigrations",
        &good,
        &[
            ("/status", json!({"conditions": ended}), &[&both]),
            (
                resource,
                json!("pods"),
                &[
                    "spec: Invalid value: {\"resource\":{\"resource\":\"pods\"}}: field is immutable",
                ],
            ),
        ],
    );
}
