//! The roles and bindings that every cluster has.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings>

use serde_json::{Map, Value, json};

use super::{GROUP, PolicyRule};
use crate::auth::{AUTHENTICATED, MASTERS, UNAUTHENTICATED};
use crate::registry::Seed;

/// Says that the server restores what is taken away.
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// Words separated by spaces: verbs, groups (`core` is the empty one), resources, paths, names.
#[derive(Clone, Copy)]
struct Row {
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
    urls: &'static str,
}

const fn rule(verbs: &'static str, groups: &'static str, resources: &'static str) -> Row {
    Row { verbs, groups, resources, names: "", urls: "" }
}

const fn paths(urls: &'static str) -> Row {
    Row { verbs: "get", groups: "", resources: "", names: "", urls }
}

const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";
const READ_WRITE: &str = "create delete deletecollection get list patch update watch";

const VIEW: &[Row] = &[
    rule(
        READ,
        "core",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status",
    ),
    rule(
        READ,
        "core",
        "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas resourcequotas/status",
    ),
    rule(READ, "core", "namespaces"),
    rule(READ, "discovery.k8s.io", "endpointslices"),
    rule(
        READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    ),
    rule(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    rule(READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    rule(
        READ,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale",
    ),
    rule(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    rule(READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    rule(READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
];

const EDIT: &[Row] = &[
    rule(READ, "core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    rule("impersonate", "core", "serviceaccounts"),
    rule(WRITE, "core", "pods pods/attach pods/exec pods/portforward pods/proxy"),
    rule("create", "core", "pods/eviction"),
    rule(
        WRITE,
        "core",
        "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy",
    ),
    rule("create", "core", "serviceaccounts/token"),
    rule(
        WRITE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale",
    ),
    rule(WRITE, "autoscaling", "horizontalpodautoscalers"),
    rule(WRITE, "batch", "cronjobs jobs"),
    rule(
        WRITE,
        "extensions",
        "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets replicasets/scale replicationcontrollers/scale",
    ),
    rule(WRITE, "policy", "poddisruptionbudgets"),
    rule(WRITE, "networking.k8s.io", "ingresses networkpolicies"),
    rule(READ_WRITE, "coordination.k8s.io", "leases"),
    rule(WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
];

const ADMIN: &[Row] = &[
    rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    rule(READ_WRITE, "rbac.authorization.k8s.io", "roles rolebindings"),
];

const EVENTS: Row = rule("create patch update", "core events.k8s.io", "events");
const REVIEWS: Row = rule("create", "authentication.k8s.io", "tokenreviews");
const ACCESS_REVIEWS: Row = rule("create", "authorization.k8s.io", "subjectaccessreviews");
const HEALTH: &str = "/healthz /livez /readyz /version /version/";

/// Roles without aggregation.
const CLUSTER_ROLES: &[(&str, &[Row])] = &[
    (
        "cluster-admin",
        &[rule("*", "*", "*"), Row { verbs: "*", groups: "", resources: "", names: "", urls: "*" }],
    ),
    (
        "system:discovery",
        &[paths(
            "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/",
        )],
    ),
    (
        "system:basic-user",
        &[
            rule(
                "create",
                "authorization.k8s.io",
                "selfsubjectaccessreviews selfsubjectrulesreviews",
            ),
            rule("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    ("system:public-info-viewer", &[paths(HEALTH)]),
    (
        "system:monitoring",
        &[paths("/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*")],
    ),
    ("system:auth-delegator", &[REVIEWS, ACCESS_REVIEWS]),
    (
        "system:node-bootstrapper",
        &[rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests")],
    ),
    (
        "system:node-problem-detector",
        &[rule("get", "core", "nodes"), rule("patch", "core", "nodes/status"), EVENTS],
    ),
    (
        "system:node-proxier",
        &[
            rule("list watch", "core", "endpoints services"),
            rule(READ, "core", "nodes"),
            EVENTS,
            rule("list watch", "discovery.k8s.io", "endpointslices"),
            rule("list watch", "networking.k8s.io", "servicecidrs"),
        ],
    ),
    (
        "system:kubelet-api-admin",
        &[
            rule(READ, "core", "nodes"),
            rule("proxy", "core", "nodes"),
            rule(
                "*",
                "core",
                "nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/stats",
            ),
        ],
    ),
    (
        "system:kube-aggregator",
        &[
            rule(READ, "core", "endpoints services"),
            rule(READ, "discovery.k8s.io", "endpointslices"),
        ],
    ),
    ("system:kube-dns", &[rule("list watch", "core", "endpoints services")]),
    (
        "system:kube-controller-manager",
        &[
            EVENTS,
            rule("create", "coordination.k8s.io", "leases"),
            Row {
                names: "kube-controller-manager",
                ..rule("get update", "coordination.k8s.io", "leases")
            },
            rule("create", "core", "secrets serviceaccounts"),
            rule("delete", "core", "secrets"),
            rule("get", "core", "configmaps namespaces secrets serviceaccounts"),
            rule("update", "core", "secrets serviceaccounts"),
            REVIEWS,
            ACCESS_REVIEWS,
            rule("list watch", "*", "*"),
            rule("create", "core", "serviceaccounts/token"),
        ],
    ),
    (
        "system:kube-scheduler",
        &[
            EVENTS,
            rule("create", "coordination.k8s.io", "leases"),
            Row { names: "kube-scheduler", ..rule("get update", "coordination.k8s.io", "leases") },
            rule(READ, "core", "nodes"),
            rule("delete get list watch", "core", "pods"),
            rule("create", "core", "bindings pods/binding"),
            rule("patch update", "core", "pods/status"),
            rule(READ, "core", "replicationcontrollers services"),
            rule(READ, "apps extensions", "replicasets"),
            rule(READ, "apps", "statefulsets"),
            rule(READ, "policy", "poddisruptionbudgets"),
            rule(READ, "core", "persistentvolumeclaims persistentvolumes"),
            REVIEWS,
            ACCESS_REVIEWS,
            rule(READ, "storage.k8s.io", "csidrivers csinodes csistoragecapacities"),
            rule(READ, "core", "namespaces"),
        ],
    ),
    (
        "system:volume-scheduler",
        &[
            rule("get list patch update watch", "core", "persistentvolumes"),
            rule(READ, "storage.k8s.io", "storageclasses"),
            rule("get list patch update watch", "core", "persistentvolumeclaims"),
        ],
    ),
    (
        "system:persistent-volume-provisioner",
        &[
            rule("create delete get list watch", "core", "persistentvolumes"),
            rule("get list update watch", "core", "persistentvolumeclaims"),
            rule(READ, "storage.k8s.io", "storageclasses"),
            rule("watch", "core", "events"),
            EVENTS,
        ],
    ),
    (
        "system:service-account-issuer-discovery",
        &[paths(
            "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        )],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[rule("create", "certificates.k8s.io", "certificatesigningrequests/nodeclient")],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[rule("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient")],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &[signer("kubernetes.io/kube-apiserver-client")],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &[signer("kubernetes.io/kube-apiserver-client-kubelet")],
    ),
    (
        "system:certificates.k8s.io:kubelet-serving-approver",
        &[signer("kubernetes.io/kubelet-serving")],
    ),
    (
        "system:certificates.k8s.io:legacy-unknown-approver",
        &[signer("kubernetes.io/legacy-unknown")],
    ),
];

const fn signer(name: &'static str) -> Row {
    Row { names: name, ..rule("approve", "certificates.k8s.io", "signers") }
}

/// Binding (and role, if it has another name), and whom it is for.
const CLUSTER_ROLE_BINDINGS: &[(&str, &[(&str, &str)])] = &[
    ("cluster-admin", &[("Group", MASTERS)]),
    ("system:discovery", &[("Group", AUTHENTICATED)]),
    ("system:basic-user", &[("Group", AUTHENTICATED)]),
    ("system:public-info-viewer", &[("Group", AUTHENTICATED), ("Group", UNAUTHENTICATED)]),
    ("system:monitoring", &[("Group", "system:monitoring")]),
    ("system:node-proxier", &[("User", "system:kube-proxy")]),
    ("system:kube-controller-manager", &[("User", "system:kube-controller-manager")]),
    ("system:kube-dns", &[("ServiceAccount", "kube-dns")]),
    ("system:kube-scheduler", &[("User", "system:kube-scheduler")]),
    ("system:volume-scheduler", &[("User", "system:kube-scheduler")]),
    ("system:service-account-issuer-discovery", &[("Group", "system:serviceaccounts")]),
];

/// Role of the namespace `kube-system` with which servers of aggregated APIs begin.
const READER: &str = "extension-apiserver-authentication-reader";

/// All of them, roles first.
pub fn seeds() -> Vec<Seed> {
    let mut objects: Vec<Value> = CLUSTER_ROLES
        .iter()
        .map(|(name, rows)| role("ClusterRole", metadata(name), rows))
        .collect();
    for (name, rows, feeds) in [
        ("system:aggregate-to-admin", ADMIN, "admin"),
        ("system:aggregate-to-edit", EDIT, "edit"),
        ("system:aggregate-to-view", VIEW, "view"),
    ] {
        let mut metadata = metadata(name);
        metadata["labels"][format!("{AGGREGATE}{feeds}")] = json!("true");
        objects.push(role("ClusterRole", metadata, rows));
    }
    // What pods and nodes use, as metrics-server's own manifests let it be seen.
    let mut reader = metadata("system:aggregated-metrics-reader");
    for feeds in ["admin", "edit", "view"] {
        reader["labels"][format!("{AGGREGATE}{feeds}")] = json!("true");
    }
    objects.push(role("ClusterRole", reader, &[rule(READ, "metrics.k8s.io", "nodes pods")]));
    // What may be viewed may be edited, what may be edited may be administered.
    for (name, gathers, feeds) in
        [("admin", "admin", ""), ("edit", "edit", "admin"), ("view", "view", "edit")]
    {
        let mut metadata = metadata(name);
        if !feeds.is_empty() {
            metadata["labels"][format!("{AGGREGATE}{feeds}")] = json!("true");
        }
        let selector = json!({ "matchLabels": { format!("{AGGREGATE}{gathers}"): "true" } });
        objects.push(json!({
            "apiVersion": format!("{GROUP}/v1"),
            "kind": "ClusterRole",
            "metadata": metadata,
            "aggregationRule": { "clusterRoleSelectors": [selector] },
        }));
    }
    objects.extend(CLUSTER_ROLE_BINDINGS.iter().map(|(name, subjects)| {
        binding("ClusterRoleBinding", metadata(name), "ClusterRole", name, subjects)
    }));
    let mut place = metadata(READER);
    place["namespace"] = json!("kube-system");
    let configs =
        Row { names: "extension-apiserver-authentication", ..rule(READ, "core", "configmaps") };
    objects.push(role("Role", place.clone(), &[configs]));
    place["name"] = json!(format!("system::{READER}"));
    let readers = [("User", "system:kube-controller-manager"), ("User", "system:kube-scheduler")];
    objects.push(binding("RoleBinding", place, "Role", READER, &readers));
    objects.into_iter().map(|object| Seed { object, renew }).collect()
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
        "annotations": { AUTO_UPDATE: "true" },
    })
}

fn role(kind: &str, metadata: Value, rows: &[Row]) -> Value {
    let words = |text: &str| -> Vec<String> {
        let words = text.split(' ').filter(|it| !it.is_empty());
        words.map(|it| if it == "core" { String::new() } else { it.to_owned() }).collect()
    };
    let rules: Vec<Value> = rows
        .iter()
        .map(|row| {
            let rule = PolicyRule {
                verbs: words(row.verbs),
                groups: words(row.groups),
                resources: words(row.resources),
                names: words(row.names),
                urls: words(row.urls),
            };
            rule.to_value()
        })
        .collect();
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": metadata,
        "rules": rules,
    })
}

fn binding(
    kind: &str,
    metadata: Value,
    role_kind: &str,
    role: &str,
    subjects: &[(&str, &str)],
) -> Value {
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|(kind, name)| match *kind {
            "ServiceAccount" => json!({ "kind": kind, "name": name, "namespace": "kube-system" }),
            _ => json!({ "apiGroup": GROUP, "kind": kind, "name": name }),
        })
        .collect();
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": metadata,
        "roleRef": { "apiGroup": GROUP, "kind": role_kind, "name": role },
        "subjects": subjects,
    })
}

/// Gives back what was taken away; what was added stays.
fn renew(current: &Value, wanted: &Value) -> Option<Value> {
    if hub_api::object::annotation(current, AUTO_UPDATE) == Some("false") {
        return None;
    }
    let mut next = current.clone();
    for field in ["labels", "annotations"] {
        let Some(wanted) = wanted["metadata"][field].as_object() else { continue };
        let own = next["metadata"]
            .as_object_mut()
            .map(|it| it.entry(field).or_insert_with(|| Value::Object(Map::new())));
        if let Some(Value::Object(own)) = own {
            for (key, value) in wanted {
                own.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
    }
    if let Some(selectors) = wanted["aggregationRule"]["clusterRoleSelectors"].as_array() {
        let own = &mut next["aggregationRule"]["clusterRoleSelectors"];
        add_missing(own, selectors);
    } else if wanted["kind"].as_str().is_some_and(|it| it.ends_with("Role")) {
        let have = PolicyRule::all_of(current);
        let missing: Vec<Value> = PolicyRule::all_of(wanted)
            .iter()
            .filter(|rule| !rule.rights().all(|right| have.iter().any(|it| it.covers(&right))))
            .map(PolicyRule::to_value)
            .collect();
        add_missing(&mut next["rules"], &missing);
    } else if let Some(subjects) = wanted["subjects"].as_array() {
        add_missing(&mut next["subjects"], subjects);
    }
    (next != *current).then_some(next)
}

fn add_missing(list: &mut Value, wanted: &[Value]) {
    if !list.is_array() {
        if wanted.is_empty() {
            return;
        }
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut() {
        for item in wanted {
            if !list.contains(item) {
                list.push(item.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_valid_and_stay_as_they_are() {
        for seed in seeds() {
            let it = &seed.object;
            let (kind, name) = (it["kind"].as_str().unwrap(), &it["metadata"]["name"]);
            let resource = hub_api::resources::find_kind(GROUP, "v1", kind).unwrap();
            let errors = resource.strategy.validate(it);
            assert_eq!(errors, [], "{kind} {name}");
            assert_eq!((seed.renew)(it, it), None, "{kind} {name}");
        }
    }

    #[test]
    fn what_was_taken_away_comes_back_and_what_was_added_stays() {
        let all = seeds();
        let find = |kind: &str, name: &str| {
            let is =
                |it: &&Seed| it.object["kind"] == kind && it.object["metadata"]["name"] == name;
            all.iter().find(is).unwrap().object.clone()
        };
        let wanted = find("ClusterRole", "system:basic-user");
        let own = json!({"verbs": ["x"], "apiGroups": ["y"], "resources": ["z"]});
        let mut changed = wanted.clone();
        changed["rules"] = json!([own]);
        let renewed = renew(&changed, &wanted).unwrap();
        assert_eq!(renewed["rules"].as_array().unwrap().len(), 3);
        assert_eq!(renewed["rules"][0], own);
        changed["metadata"]["annotations"][AUTO_UPDATE] = json!("false");
        assert_eq!(renew(&changed, &wanted), None);
        let wanted = find("ClusterRoleBinding", "system:discovery");
        let mut changed = wanted.clone();
        changed.as_object_mut().unwrap().remove("subjects");
        assert_eq!(renew(&changed, &wanted).unwrap()["subjects"], wanted["subjects"]);
    }
}
