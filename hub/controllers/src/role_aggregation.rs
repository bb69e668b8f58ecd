//! Gathers the rules of labelled ClusterRoles into those that aggregate them, such as `admin`.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object::{Kind, Object, ObjectRef};
use crate::selector;
use crate::value::{at, list_at};
use crate::world::{Change, World};
use crate::write::Write;
use crate::{Controller, Plan};

const CLUSTER_ROLE: Kind = Kind { group: "rbac.authorization.k8s.io", plural: "clusterroles" };

#[derive(Debug)]
pub struct RoleAggregationController;

impl Controller for RoleAggregationController {
    fn name(&self) -> &'static str {
        "clusterrole-aggregation-controller"
    }

    fn affected(&self, change: &Change<'_>, world: &World) -> Vec<ObjectRef> {
        if change.kind != CLUSTER_ROLE {
            return Vec::new();
        }
        // Any role may feed any other: there are few that gather.
        world.list(CLUSTER_ROLE).filter(|it| gathers(it)).map(|it| it.key()).collect()
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, _now: Timestamp) -> Plan {
        let Some(role) = world.find(key).filter(|it| gathers(it) && !it.is_deleting()) else {
            return Plan::default();
        };
        let rules = gathered(role, world);
        let own = list_at(role.value(), &["rules"]);
        if own == rules.as_slice() {
            return Plan::default();
        }
        let rules = if rules.is_empty() { Value::Null } else { json!(rules) };
        Plan::from(vec![Write::patch_exactly(role, None, json!({ "rules": rules }))])
    }
}

fn gathers(role: &Object) -> bool {
    !at(role.value(), &["aggregationRule"]).is_null()
}

/// The rules of all selected roles, each once, in the order of selectors and names.
fn gathered(role: &Object, world: &World) -> Vec<Value> {
    let mut rules: Vec<Value> = Vec::new();
    for wanted in list_at(role.value(), &["aggregationRule", "clusterRoleSelectors"]) {
        let fits = |it: &&std::sync::Arc<Object>| {
            it.name != role.name && selector::matches(wanted, it.labels())
        };
        for source in world.list(CLUSTER_ROLE).filter(fits) {
            for rule in list_at(source.value(), &["rules"]) {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now, world};

    fn rule(resource: &str) -> Value {
        json!({"verbs": ["get"], "apiGroups": [""], "resources": [resource]})
    }

    #[test]
    fn rules_are_gathered_by_label_and_only_written_when_they_differ() {
        let view = |rules: Value| {
            json!({"metadata": {"name": "view"}, "rules": rules, "aggregationRule":
                {"clusterRoleSelectors": [{"matchLabels": {"to-view": "true"}}]}})
        };
        let feeds = |name: &str, rules: Value| json!({"metadata": {"name": name, "labels": {"to-view": "true"}}, "rules": rules});
        let plan = |own: Value| {
            let world = world([
                (CLUSTER_ROLE, view(own)),
                (CLUSTER_ROLE, feeds("a", json!([rule("pods"), rule("nodes")]))),
                (CLUSTER_ROLE, feeds("b", json!([rule("pods"), rule("secrets")]))),
                (CLUSTER_ROLE, json!({"metadata": {"name": "c"}, "rules": [rule("x")]})),
            ]);
            let key = CLUSTER_ROLE.key(&crate::Name::cluster("view"));
            RoleAggregationController.reconcile(&key, &world, now()).writes
        };
        let all = json!([rule("pods"), rule("nodes"), rule("secrets")]);
        assert_eq!(plan(all.clone()), []);
        let writes = plan(json!([rule("old")]));
        let [Write::Patch { patch, .. }] = writes.as_slice() else { panic!("{writes:?}") };
        assert_eq!(patch["rules"], all);
    }
}
