//! Namespace: empties a namespace that is being deleted, pods first, and then lets it go.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::condition::{self, Condition};
use crate::object::{Kind, Name, Object, ObjectRef};
use crate::value::{list_at, object_mut};
use crate::world::{Change, World};
use crate::write::Write;
use crate::{Controller, Plan};

/// The finalizer in `spec.finalizers` that stands for the content.
const FINALIZER: &str = "kubernetes";

/// Before it is asked again whether everything in a namespace is known: news is on its way.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_millis(100);

#[derive(Debug)]
pub struct NamespaceController;

impl Controller for NamespaceController {
    fn name(&self) -> &'static str {
        "namespace-controller"
    }

    fn affected(&self, change: &Change<'_>, world: &World) -> Vec<ObjectRef> {
        if change.kind == Kind::NAMESPACE {
            return change.latest().map(Object::key).into_iter().collect();
        }
        let Some(object) = change.latest() else { return Vec::new() };
        let namespace = world.get(Kind::NAMESPACE, &Name::cluster(&object.name.namespace));
        namespace.filter(|it| it.is_deleting()).map(|it| it.key()).into_iter().collect()
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, now: Timestamp) -> Plan {
        let Some(namespace) = world.find(key).filter(|it| it.is_deleting()) else {
            return Plan::default();
        };
        let finalizers = list_at(namespace.spec(), &["finalizers"]);
        if !finalizers.iter().any(|it| it == FINALIZER) {
            return Plan::default();
        }
        let content = Content::of(&namespace.name.name, world);
        let mut writes: Vec<Write> = content.next().into_iter().map(Write::delete).collect();
        writes.extend(report(namespace, &content, now));
        let mut plan = Plan::from(writes);
        if !content.by_kind.is_empty() {
            return plan;
        }
        if is_complete(namespace, world) {
            plan.writes.push(finalize(namespace, finalizers));
        } else {
            plan.recheck_by(now + LOOK_AGAIN);
        }
        plan
    }
}

/// Whether everything is known that was made before the namespace began to go; nothing is made in it since. Kinds are
/// heard of each on its own: what is not seen may be there.
fn is_complete(namespace: &Object, world: &World) -> bool {
    let mut rows = world.rows().filter(|row| row.namespaced);
    rows.all(|row| world.seen(row.kind).is_some_and(|seen| seen >= namespace.revision))
}

/// What is left in a namespace.
struct Content<'a> {
    by_kind: BTreeMap<Kind, Vec<&'a Object>>,
}

impl<'a> Content<'a> {
    fn of(namespace: &'a str, world: &'a World) -> Self {
        let mut by_kind = BTreeMap::new();
        for row in world.rows().filter(|row| row.namespaced) {
            let objects: Vec<&Object> =
                world.list_in(row.kind, namespace).map(AsRef::as_ref).collect();
            if !objects.is_empty() {
                by_kind.insert(row.kind, objects);
            }
        }
        Self { by_kind }
    }

    /// What to delete now: while there are pods, only pods, since what they use comes after them.
    fn next(&self) -> Vec<&'a Object> {
        let wanted: Vec<&'a Object> = match self.by_kind.get(&Kind::POD) {
            Some(pods) => pods.clone(),
            None => self.by_kind.values().flatten().copied().collect(),
        };
        wanted.into_iter().filter(|object| !object.is_deleting()).collect()
    }

    fn remaining(&self) -> Condition<'static> {
        let parts: Vec<String> = self
            .by_kind
            .iter()
            .map(|(Kind { group, plural }, objects)| {
                format!("{plural}.{group} has {} resource instances", objects.len())
            })
            .collect();
        let (status, reason, message) = match parts.is_empty() {
            true => ("False", "ContentRemoved", "All content successfully removed".to_owned()),
            false => (
                "True",
                "SomeResourcesRemain",
                format!("Some resources are remaining: {}", parts.join(", ")),
            ),
        };
        Condition { kind: "NamespaceContentRemaining", status, reason, message }
    }

    fn finalizing(&self) -> Condition<'static> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let objects = self.by_kind.values().flatten().filter(|object| object.is_deleting());
        for finalizer in objects.flat_map(|object| object.finalizers()) {
            *counts.entry(finalizer).or_default() += 1;
        }
        let parts: Vec<String> = counts
            .iter()
            .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
            .collect();
        let (status, reason, message) = match parts.is_empty() {
            true => (
                "False",
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished".to_owned(),
            ),
            false => (
                "True",
                "SomeFinalizersRemain",
                format!(
                    "Some content in the namespace has finalizers remaining: {}",
                    parts.join(", ")
                ),
            ),
        };
        Condition { kind: "NamespaceFinalizersRemaining", status, reason, message }
    }
}

fn report(namespace: &Object, content: &Content<'_>, now: Timestamp) -> Option<Write> {
    let mut conditions = condition::list(namespace.status());
    let good = |kind, reason, message: &str| Condition {
        kind,
        status: "False",
        reason,
        message: message.to_owned(),
    };
    let mut is_change = false;
    for condition in [
        good(
            "NamespaceDeletionDiscoveryFailure",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        good(
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        good(
            "NamespaceDeletionContentFailure",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        content.remaining(),
        content.finalizing(),
    ] {
        is_change |= condition::set(&mut conditions, &condition, None, now);
    }
    let patch = json!({"status": {"conditions": conditions}});
    is_change.then(|| Write::patch(namespace, Some("status"), patch))
}

fn finalize(namespace: &Object, finalizers: &[Value]) -> Write {
    let mut object = namespace.value().clone();
    let left: Vec<&Value> = finalizers.iter().filter(|it| *it != FINALIZER).collect();
    object["spec"]["finalizers"] = json!(left);
    // The conditions written just before have moved the revision.
    object_mut(&mut object["metadata"]).remove("resourceVersion");
    Write::Replace { target: namespace.key(), subresource: Some("finalize"), object }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_namespace_stays_until_all_is_known_that_was_made_in_it() {
        let mut world = testing::world([(
            Kind::NAMESPACE,
            json!({
                "metadata": {"name": "a", "deletionTimestamp": "2026-11-20T08:00:00Z"},
                "spec": {"finalizers": [FINALIZER]},
            }),
        )]);
        let key = Kind::NAMESPACE.key(&Name::cluster("a"));
        let goes =
            |world: &World| testing::plan(&NamespaceController, &key, world).contains("/finalize ");
        let kinds: Vec<Kind> = world.rows().map(|row| row.kind).collect();
        for kind in &kinds {
            world.mark_synced(*kind, if *kind == Kind::POD { 6 } else { 7 });
        }
        assert!(!goes(&world), "a pod may be on its way");
        world.mark_synced(Kind::POD, 7);
        assert!(goes(&world));
    }
}
