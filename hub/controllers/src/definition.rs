//! Definitions of custom resources: their objects go before them, and names that become free are
//! taken by those who wait for them.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::condition::{self, Condition};
use crate::object::{Kind, Name, Object, ObjectRef};
use crate::value::str_at;
use crate::world::{Change, World};
use crate::write::Write;
use crate::{Controller, Plan};

/// Keeps a deleted definition until its objects are gone.
const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// When to look again for a kind that is about to be known.
const SOON: SignedDuration = SignedDuration::from_millis(50);

#[derive(Debug)]
pub struct DefinitionController;

impl Controller for DefinitionController {
    fn name(&self) -> &'static str {
        "customresourcedefinition-controller"
    }

    fn affected(&self, change: &Change<'_>, world: &World) -> Vec<ObjectRef> {
        let Some(object) = change.latest() else { return Vec::new() };
        if change.kind != Kind::CUSTOM_RESOURCE_DEFINITION {
            let name = Name::cluster(&format!("{}.{}", change.kind.plural, change.kind.group));
            let definition = world.get(Kind::CUSTOM_RESOURCE_DEFINITION, &name);
            return definition
                .filter(|it| it.is_deleting())
                .map(|it| it.key())
                .into_iter()
                .collect();
        }
        let group = str_at(object.spec(), &["group"]);
        let waiting = world.list(Kind::CUSTOM_RESOURCE_DEFINITION).filter(|it| {
            it.name != object.name && str_at(it.spec(), &["group"]) == group && is_waiting(it)
        });
        let mut keys: Vec<ObjectRef> = waiting.map(|it| it.key()).collect();
        if !change.is_removal() && (object.is_deleting() || is_waiting(object)) {
            keys.push(object.key());
        }
        keys
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, now: Timestamp) -> Plan {
        let Some(definition) = world.find(key) else { return Plan::default() };
        if definition.is_deleting() {
            return match definition.has_finalizer(FINALIZER) {
                true => empty(definition, world, now),
                false => Plan::default(),
            };
        }
        // Whoever writes a definition decides about its names anew.
        let holds = |it: &&std::sync::Arc<Object>| !is_waiting(it) && it.name != definition.name;
        let is_free = is_waiting(definition)
            && !world
                .list(Kind::CUSTOM_RESOURCE_DEFINITION)
                .filter(holds)
                .any(|it| clash(definition.spec(), it));
        match is_free {
            true => {
                Plan::from(vec![Write::patch(definition, Some("status"), json!({"status": {}}))])
            }
            false => Plan::default(),
        }
    }
}

/// Whether names of the definition are taken by others.
fn is_waiting(definition: &Object) -> bool {
    condition::state(definition.status(), "NamesAccepted") == "False"
}

/// Whether a definition wants a name that another was given.
fn clash(spec: &Value, other: &Object) -> bool {
    if str_at(spec, &["group"]) != str_at(other.spec(), &["group"]) {
        return false;
    }
    let names = |it: &Value, keys: &[&str]| -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        for key in keys {
            match &it[*key] {
                Value::String(name) => out.push(name.clone()),
                Value::Array(names) => {
                    out.extend(names.iter().filter_map(|it| it.as_str().map(str::to_owned)));
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {}
            }
        }
        out
    };
    let meets = |keys: &[&str]| {
        let wanted = names(&spec["names"], keys);
        names(&other.status()["acceptedNames"], keys).iter().any(|it| wanted.contains(it))
    };
    meets(&["plural", "singular", "shortNames"]) || meets(&["kind", "listKind"])
}

/// Deletes the objects of a definition, and lets it go once there are none.
fn empty(definition: &Object, world: &World, now: Timestamp) -> Plan {
    let (group, plural) =
        (str_at(definition.spec(), &["group"]), str_at(definition.spec(), &["names", "plural"]));
    let kind = Kind::made(group, plural);
    let was_served = condition::state(definition.status(), "Established") == "True";
    // Nothing is made since the definition began to go, but what was made before may still be on its way to us.
    let is_known = match world.seen(kind) {
        Some(seen) => seen >= definition.revision,
        None => !was_served,
    };
    let objects: Vec<&std::sync::Arc<Object>> = world.list(kind).collect();
    let mut writes: Vec<Write> =
        objects.iter().filter(|it| !it.is_deleting()).map(|it| Write::delete(it)).collect();
    let condition = match objects.len() {
        0 => Condition {
            kind: "Terminating",
            status: "False",
            reason: "InstanceDeletionCompleted",
            message: "removed all instances".to_owned(),
        },
        _ => Condition {
            kind: "Terminating",
            status: "True",
            reason: "InstanceDeletionInProgress",
            message: "CustomResource deletion is in progress".to_owned(),
        },
    };
    if objects.is_empty() && !is_known {
        return Plan::recheck(now.saturating_add(SOON).unwrap_or(now));
    }
    if objects.is_empty() {
        let left: Vec<&str> = definition.finalizers().filter(|it| *it != FINALIZER).collect();
        let finalizers = if left.is_empty() { Value::Null } else { json!(left) };
        let patch = json!({"metadata": {"finalizers": finalizers}});
        writes.push(Write::patch(definition, None, patch));
        return Plan::from(writes);
    }
    let mut conditions = condition::list(definition.status());
    if condition::set(&mut conditions, &condition, None, now) {
        let patch = json!({"status": {"conditions": conditions}});
        writes.push(Write::patch(definition, Some("status"), patch));
    }
    Plan::from(writes)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing;

    fn definition(name: &str, metadata: Value, conditions: &[(&str, &str)]) -> (Kind, Value) {
        let mut object = json!({
            "metadata": metadata,
            "spec": {"group": "x.io", "names": {"plural": name, "kind": "Thing"}},
            "status": {
                "acceptedNames": {"plural": name},
                "conditions": conditions.iter()
                    .map(|(kind, status)| json!({"type": kind, "status": status}))
                    .collect::<Vec<_>>(),
            },
        });
        object["metadata"]["name"] = json!(format!("{name}.x.io"));
        (Kind::CUSTOM_RESOURCE_DEFINITION, object)
    }

    fn check(name: &str, objects: Vec<(Kind, Value)>, expect: Expect) {
        let key = Kind::CUSTOM_RESOURCE_DEFINITION.key(&Name::cluster(name));
        expect.assert_eq(&testing::plan(&DefinitionController, &key, &testing::world(objects)));
    }

    #[test]
    fn a_definition_without_objects_goes_at_once() {
        let going = json!({"finalizers": [FINALIZER], "deletionTimestamp": "2026-11-20T08:00:00Z"});
        check(
            "things.x.io",
            vec![definition("things", going, &[])],
            expect![[r#"
                patch customresourcedefinitions.apiextensions.k8s.io things.x.io {"metadata":{"finalizers":null,"uid":"things.x.io"}}
            "#]],
        );
        check("things.x.io", vec![definition("things", json!({}), &[])], expect![[""]]);
    }

    #[test]
    fn a_definition_stays_until_all_is_known_that_was_made_of_it() {
        let going = json!({"finalizers": [FINALIZER], "deletionTimestamp": "2026-11-20T08:00:00Z"});
        let mut world = testing::world([definition("things", going, &[("Established", "True")])]);
        let key = Kind::CUSTOM_RESOURCE_DEFINITION.key(&Name::cluster("things.x.io"));
        let plan = |world: &World| testing::plan(&DefinitionController, &key, world);
        assert!(plan(&world).starts_with("recheck at "), "nobody looks yet");
        let kind = Kind::made("x.io", "things");
        world.add_kind(crate::KindRow {
            kind,
            api_version: "x.io/v1".to_owned(),
            object_kind: "Thing".to_owned(),
            namespaced: false,
        });
        world.mark_synced(kind, 6);
        assert!(plan(&world).starts_with("recheck at "), "something may be on its way");
        world.mark_synced(kind, 7);
        assert!(plan(&world).starts_with("patch "), "{}", plan(&world));
    }

    #[test]
    fn a_definition_waits_for_its_names() {
        let waiting = || definition("things", json!({}), &[("NamesAccepted", "False")]);
        let mut holder = definition("others", json!({}), &[("NamesAccepted", "True")]);
        holder.1["status"]["acceptedNames"]["kind"] = json!("Thing");
        check("things.x.io", vec![waiting(), holder], expect![[""]]);
        check(
            "things.x.io",
            vec![waiting()],
            expect![[r#"
                patch customresourcedefinitions.apiextensions.k8s.io things.x.io/status {"metadata":{"uid":"things.x.io"},"status":{}}
            "#]],
        );
    }
}
