//! The roles and bindings that every cluster has.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings>

mod controllers;
mod roles;

use serde_json::{Map, Value, json};

use self::{
    controllers::CONTROLLERS,
    roles::{ADMIN, CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, EDIT, IN_NAMESPACES, VIEW},
};
use super::{GROUP, PolicyRule};
use crate::registry::Seed;

/// Says that the server restores what is taken away.
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";
/// Before the names of controllers' service accounts, in the names of their roles.
const CONTROLLER: &str = "system:controller:";

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
const EVENTS: Row = rule("create patch update", "core events.k8s.io", "events");
const ACCESS_REVIEWS: Row = rule("create", "authorization.k8s.io", "subjectaccessreviews");

const fn named(name: &'static str, row: Row) -> Row {
    Row { names: name, ..row }
}

/// All of them. None needs another to be there before it.
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
    for (account, rows) in CONTROLLERS {
        let name = format!("{CONTROLLER}{account}");
        objects.push(role("ClusterRole", metadata(&name), rows));
        let subjects = [("ServiceAccount", *account)];
        let metadata = metadata(&name);
        objects.push(binding("ClusterRoleBinding", metadata, "ClusterRole", &name, &subjects));
    }
    for it in IN_NAMESPACES {
        let place = |name: &str| {
            let mut metadata = metadata(name);
            metadata["namespace"] = json!(it.namespace);
            metadata
        };
        objects.push(role("Role", place(it.role), it.rows));
        objects.push(binding("RoleBinding", place(it.binding), "Role", it.role, it.subjects));
    }
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
    let mut binding = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": metadata,
        "roleRef": { "apiGroup": GROUP, "kind": role_kind, "name": role },
    });
    if !subjects.is_empty() {
        binding["subjects"] = json!(subjects);
    }
    binding
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
    use std::collections::BTreeSet;

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

    /// Names of Kubernetes' documentation and of its bootstrap policy.
    #[test]
    fn roles_of_kubernetes_have_their_names_labels_and_bindings() {
        let all = seeds();
        let find = |kind: &str, name: &str| {
            let is =
                |it: &&Seed| it.object["kind"] == kind && it.object["metadata"]["name"] == name;
            &all.iter().find(is).unwrap_or_else(|| panic!("no {kind} {name}")).object
        };
        for seed in &all {
            let metadata = &seed.object["metadata"];
            assert_eq!(metadata["labels"]["kubernetes.io/bootstrapping"], "rbac-defaults");
            assert_eq!(metadata["annotations"][AUTO_UPDATE], "true");
        }
        for name in [
            "admin",
            "cluster-admin",
            "edit",
            "system:auth-delegator",
            "system:kubelet-api-admin",
            "system:monitoring",
            "system:node-bootstrapper",
            "system:node-problem-detector",
            "system:persistent-volume-provisioner",
            "view",
        ] {
            find("ClusterRole", name);
        }
        for (name, kind, subject) in [
            ("system:basic-user", "Group", "system:authenticated"),
            ("system:cluster-trust-bundle-discovery", "Group", "system:serviceaccounts"),
            ("system:controller:deployment-controller", "ServiceAccount", "deployment-controller"),
            (
                "system:controller:generic-garbage-collector",
                "ServiceAccount",
                "generic-garbage-collector",
            ),
            (
                "system:controller:statefulset-controller",
                "ServiceAccount",
                "statefulset-controller",
            ),
            ("system:kube-controller-manager", "User", "system:kube-controller-manager"),
            ("system:kube-scheduler", "User", "system:kube-scheduler"),
            ("system:node-proxier", "User", "system:kube-proxy"),
        ] {
            assert!(!PolicyRule::all_of(find("ClusterRole", name)).is_empty(), "{name}");
            let binding = find("ClusterRoleBinding", name);
            assert_eq!(binding["roleRef"]["name"], name);
            assert_eq!(binding["subjects"][0]["kind"], kind, "{name}");
            assert_eq!(binding["subjects"][0]["name"], subject, "{name}");
        }
        // For nobody: the node authorizer decides about nodes.
        find("ClusterRole", "system:node");
        assert_eq!(find("ClusterRoleBinding", "system:node").get("subjects"), None);
        let names: BTreeSet<_> = all.iter().map(|it| key(&it.object)).collect();
        assert_eq!(names.len(), all.len(), "no object comes twice");
    }

    fn key(object: &Value) -> (String, String, String) {
        let text = |path: &str| hub_api::object::text(object, path).to_owned();
        (text("kind"), text("metadata.namespace"), text("metadata.name"))
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
