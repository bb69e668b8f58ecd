//! Resources of `flowcontrol.apiserver.k8s.io`.

use serde_json::{Value, json};

use super::{CORE, Row, status};
use crate::strategy;

pub(super) static ROWS: &[Row] = &[
    Row {
        plural: "flowschemas",
        singular: "flowschema",
        kind: "FlowSchema",
        namespaced: false,
        subresources: &[status("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema")],
        schema: "io.k8s.api.flowcontrol.v1.FlowSchema",
        strategy: &strategy::flowcontrol::FLOW_SCHEMA,
        ..GROUP
    },
    Row {
        plural: "prioritylevelconfigurations",
        singular: "prioritylevelconfiguration",
        kind: "PriorityLevelConfiguration",
        namespaced: false,
        subresources: &[status("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration")],
        schema: "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration",
        strategy: &strategy::flowcontrol::PRIORITY_LEVEL,
        ..GROUP
    },
];

/// What the rows of the group share.
const GROUP: Row = Row { group: "flowcontrol.apiserver.k8s.io", ..CORE };

/// Says `true` of objects that every start restores, until somebody says `false`.
pub const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// The PriorityLevelConfigurations that always exist as they are, without defaults.
pub fn mandatory_levels() -> Vec<Value> {
    vec![
        level("exempt", json!({"type": "Exempt"})),
        level(
            "catch-all",
            json!({"type": "Limited", "limited": {
                "nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"},
            }}),
        ),
    ]
}

/// The FlowSchemas that always exist as they are, without defaults.
pub fn mandatory_schemas() -> Vec<Value> {
    vec![
        schema("exempt", "exempt", 1, None, vec![everything(&[group("system:masters")])]),
        schema(
            "catch-all",
            "catch-all",
            10_000,
            Some("ByUser"),
            vec![everything(&[group("system:unauthenticated"), group("system:authenticated")])],
        ),
    ]
}

/// The PriorityLevelConfigurations that a new cluster has, which may be changed.
pub fn suggested_levels() -> Vec<Value> {
    vec![
        queued("system", 30, Some(33), 64, 6),
        queued("node-high", 40, Some(25), 64, 6),
        queued("leader-election", 10, None, 16, 4),
        queued("workload-high", 40, Some(50), 128, 6),
        queued("workload-low", 100, Some(90), 128, 6),
        queued("global-default", 20, Some(50), 128, 6),
    ]
}

/// The FlowSchemas that a new cluster has, which may be changed.
pub fn suggested_schemas() -> Vec<Value> {
    let all_groups =
        |names: &[&str]| everything(&names.iter().map(|name| group(name)).collect::<Vec<_>>());
    let (manager, scheduler) =
        (user("system:kube-controller-manager"), user("system:kube-scheduler"));
    let nodes = group("system:nodes");
    let by_user = Some("ByUser");
    let by_namespace = Some("ByNamespace");
    vec![
        schema("system-nodes", "system", 500, by_user, vec![all_groups(&["system:nodes"])]),
        schema(
            "system-node-high",
            "node-high",
            400,
            by_user,
            vec![json!({"subjects": [nodes], "resourceRules": [
                rule(&["*"], &[""], &["nodes", "nodes/status"], &["*"], true),
                rule(&["*"], &["coordination.k8s.io"], &["leases"], &["*"], false),
            ]})],
        ),
        schema(
            "probes",
            "exempt",
            2,
            None,
            vec![json!({
                "subjects": [group("system:unauthenticated"), group("system:authenticated")],
                "nonResourceRules": [{
                    "verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"],
                }],
            })],
        ),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            by_user,
            vec![json!({"subjects": [manager, scheduler, account()], "resourceRules": [
                rule(&["get", "create", "update"], &["coordination.k8s.io"], &["leases"], &["*"], false),
            ]})],
        ),
        schema(
            "endpoint-controller",
            "workload-high",
            150,
            by_user,
            vec![json!({
                "subjects": [manager, named_account("endpoint-controller"),
                    named_account("endpointslicemirroring-controller")],
                "resourceRules": [
                    rule(&["get", "create", "update"], &[""], &["endpoints"], &["*"], false),
                ],
            })],
        ),
        schema(
            "workload-leader-election",
            "leader-election",
            200,
            by_user,
            vec![json!({"subjects": [account()], "resourceRules": [
                rule(&["get", "create", "update"], &["coordination.k8s.io"], &["leases"], &["*"], false),
            ]})],
        ),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            by_namespace,
            vec![everything(std::slice::from_ref(&manager))],
        ),
        schema(
            "kube-scheduler",
            "workload-high",
            800,
            by_namespace,
            vec![everything(std::slice::from_ref(&scheduler))],
        ),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            by_namespace,
            vec![everything(&[account()])],
        ),
        schema(
            "service-accounts",
            "workload-low",
            9_000,
            by_user,
            vec![all_groups(&["system:serviceaccounts"])],
        ),
        schema(
            "global-default",
            "global-default",
            9_900,
            by_user,
            vec![all_groups(&["system:unauthenticated", "system:authenticated"])],
        ),
    ]
}

fn level(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}},
        "spec": spec,
    })
}

fn queued(name: &str, shares: u32, lendable: Option<u32>, queues: u32, hand: u32) -> Value {
    let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
    level(
        name,
        json!({"type": "Limited", "limited": {
            "nominalConcurrencyShares": shares,
            "lendablePercent": lendable.unwrap_or(0),
            "limitResponse": {"type": "Queue", "queuing": queuing},
        }}),
    )
}

fn schema(
    name: &str,
    level: &str,
    precedence: u32,
    distinguisher: Option<&str>,
    rules: Vec<Value>,
) -> Value {
    let mut spec = json!({
        "matchingPrecedence": precedence,
        "priorityLevelConfiguration": {"name": level},
        "rules": rules,
    });
    if let Some(ty) = distinguisher {
        spec["distinguisherMethod"] = json!({"type": ty});
    }
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}},
        "spec": spec,
    })
}

fn everything(subjects: &[Value]) -> Value {
    json!({
        "subjects": subjects,
        "resourceRules": [rule(&["*"], &["*"], &["*"], &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

fn rule(
    verbs: &[&str],
    groups: &[&str],
    resources: &[&str],
    namespaces: &[&str],
    cluster: bool,
) -> Value {
    let mut rule = json!({
        "verbs": verbs, "apiGroups": groups, "resources": resources, "namespaces": namespaces,
    });
    if cluster {
        rule["clusterScope"] = json!(true);
    }
    rule
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "group": {"name": name}})
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "user": {"name": name}})
}

fn account() -> Value {
    named_account("*")
}

fn named_account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"name": name, "namespace": "kube-system"}})
}
