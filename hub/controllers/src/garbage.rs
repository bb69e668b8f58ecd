//! Garbage collector: what becomes of objects when their owners go.
//!
//! Works on any kind by metadata alone. An owner that is not in the cache may only be late, so that
//! every deletion carries the owners whose absence it rests on, and whoever performs it asks the store
//! itself for each of them, by uid; and it holds only for the references that were seen. An owner is let go only when
//! everything is known that was made before it began to go. Namespaces are not emptied here.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::object::{Name, Object, ObjectRef, OwnerRef, Uid};
use crate::owned::without_owners;
use crate::world::{Change, World};
use crate::write::{Note, Propagation, Write};
use crate::{Controller, Plan};

/// Finalizer of an owner that waits for its dependents to go first.
const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an owner that sets its dependents free before it goes.
const ORPHAN: &str = "orphan";
/// Before it is asked again whether all dependents are known: news is on its way.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_millis(100);

#[derive(Debug)]
pub struct GarbageCollector;

impl Controller for GarbageCollector {
    fn name(&self) -> &'static str {
        "generic-garbage-collector"
    }

    fn affected(&self, change: &Change<'_>, world: &World) -> Vec<ObjectRef> {
        let Some(object) = change.latest() else { return Vec::new() };
        let mut keys = Vec::new();
        let has_gone = change.is_removal();
        if !has_gone && (object.owners().next().is_some() || is_going(object)) {
            keys.push(object.key());
        }
        // Dependents follow their owner; only its going matters to them.
        if has_gone || is_going(object) {
            keys.extend(world.dependents(&object.uid).map(|it| it.key()));
        }
        // An owner that waits for its dependents looks again at each of their changes.
        let owners = change.sides().flat_map(|side| side.owners());
        let waiting =
            owners.filter_map(|owner| world.by_uid(owner.uid())).filter(|it| is_going(it));
        keys.extend(waiting.map(|owner| owner.key()));
        keys.sort();
        keys.dedup();
        keys
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, now: Timestamp) -> Plan {
        let Some(object) = world.find(key) else { return Plan::default() };
        if object.is_deleting() && object.has_finalizer(ORPHAN) {
            return free_dependents(object, world, now);
        }
        if object.is_deleting() && object.has_finalizer(FOREGROUND) {
            return await_dependents(object, world, now);
        }
        if object.is_deleting() || object.owners().next().is_none() {
            return Plan::default();
        }
        let mut writes: Vec<Write> = misplaced_owner(object, world).into_iter().collect();
        writes.extend(follow_owners(object, world));
        Plan::from(writes)
    }
}

/// Tells of the first owner that lives where no reference of this object reaches.
fn misplaced_owner(object: &Object, world: &World) -> Option<Write> {
    let namespace = object.name.namespace.as_str();
    let owner = object.owners().find(|owner| {
        world.by_uid(owner.uid()).is_some_and(|found| {
            let place = found.name.namespace.as_str();
            !place.is_empty() && place != namespace
        })
    })?;
    let (group, kind, name, uid) = (owner.api_version(), owner.kind(), owner.name(), owner.uid());
    let message = format!(
        "ownerRef [{group}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}] does not exist in namespace {namespace:?}"
    );
    Some(Write::Note(Note::warning(object, world, "OwnerRefInvalidNamespace", message)))
}

/// Whether an object is being deleted in a way that concerns its dependents.
fn is_going(object: &Object) -> bool {
    object.is_deleting() && (object.has_finalizer(FOREGROUND) || object.has_finalizer(ORPHAN))
}

/// Owners by what is known of them.
#[derive(Default)]
struct Owners<'a> {
    n_solid: usize,
    /// Waiting for this dependent, among others, to go.
    waiting: Vec<OwnerRef<'a>>,
    absent: Vec<(OwnerRef<'a>, ObjectRef)>,
}

impl<'a> Owners<'a> {
    fn of(object: &'a Object, world: &World) -> Self {
        let mut owners = Self::default();
        for owner in object.owners() {
            // Of a kind that nobody watches nothing can be said.
            let Some(row) = world.kind_of_owner(owner) else {
                owners.n_solid += 1;
                continue;
            };
            // No reference leads out of the cluster into a namespace: the owner is somewhere, or was never meant.
            if row.namespaced && object.name.namespace.is_empty() {
                owners.n_solid += 1;
                continue;
            }
            let namespace = if row.namespaced { object.name.namespace.as_str() } else { "" };
            let key = row.kind.key(&Name::new(namespace, owner.name()));
            match world.find(&key).filter(|it| it.uid.0 == owner.uid()) {
                None => owners.absent.push((owner, key)),
                Some(it) if it.is_deleting() && it.has_finalizer(FOREGROUND) => {
                    owners.waiting.push(owner);
                }
                Some(_) => owners.n_solid += 1,
            }
        }
        owners
    }
}

/// Deletes an object that nobody owns any more, or takes the owners away that have gone.
fn follow_owners(object: &Object, world: &World) -> Option<Write> {
    let owners = Owners::of(object, world);
    if owners.waiting.is_empty() && owners.absent.is_empty() {
        return None;
    }
    if owners.n_solid > 0 {
        // Those that are merely absent from the cache stay: a stale reference does no harm.
        let is_waiting = |uid: &str| owners.waiting.iter().any(|owner| owner.uid() == uid);
        let patch = without_owners(object, is_waiting);
        let has_waiting = !owners.waiting.is_empty();
        return has_waiting.then(|| Write::patch_exactly(object, None, patch));
    }
    let has_dependents = world.dependents(&object.uid).next().is_some();
    let policy = match () {
        () if object.has_finalizer(ORPHAN) => Propagation::Orphan,
        () if object.has_finalizer(FOREGROUND) => Propagation::Foreground,
        () if !owners.waiting.is_empty() && has_dependents => Propagation::Foreground,
        () => Propagation::Background,
    };
    let absent =
        owners.absent.iter().map(|(owner, key)| (key.clone(), Some(Uid(owner.uid().to_owned()))));
    let mut write = Write::delete(object);
    if let Write::Delete { revision, propagation, only_without, .. } = &mut write {
        *revision = Some(object.revision);
        *propagation = policy;
        *only_without = absent.collect();
    }
    Some(write)
}

/// Removes the foreground finalizer once no dependent blocks it.
fn await_dependents(object: &Object, world: &World, now: Timestamp) -> Plan {
    let is_blocking = |dependent: &Object| {
        let mut owners = dependent.owners();
        owners.any(|owner| owner.uid() == object.uid.0 && owner.blocks_owner_deletion())
    };
    match world.dependents(&object.uid).any(|dependent| is_blocking(dependent)) {
        true => Plan::default(),
        false => let_go(object, FOREGROUND, world, now),
    }
}

/// Takes the owner from every dependent, and only then the finalizer from the owner.
fn free_dependents(object: &Object, world: &World, now: Timestamp) -> Plan {
    let dependents: Vec<Write> = world
        .dependents(&object.uid)
        .map(|dependent| {
            let patch = without_owners(dependent, |uid| uid == object.uid.0);
            Write::patch_exactly(dependent, None, patch)
        })
        .collect();
    match dependents.is_empty() {
        true => let_go(object, ORPHAN, world, now),
        false => Plan::from(dependents),
    }
}

/// Removes a finalizer from an owner without dependents, once none can be on its way: one that is not known yet would
/// be deleted as soon as the owner is gone.
fn let_go(object: &Object, finalizer: &str, world: &World, now: Timestamp) -> Plan {
    if !world.is_complete(object.revision) {
        return Plan::recheck(now + LOOK_AGAIN);
    }
    let left: Vec<&str> = object.finalizers().filter(|it| *it != finalizer).collect();
    let finalizers = if left.is_empty() { Value::Null } else { json!(left) };
    let patch = json!({"metadata": {"finalizers": finalizers}});
    Plan::from(vec![Write::patch_exactly(object, None, patch)])
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::object::Kind;
    use crate::testing;

    fn owner(name: &str, uid: &str) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": uid,
            "blockOwnerDeletion": true,
        })
    }

    fn set(name: &str, finalizer: Option<&str>) -> (Kind, Value) {
        let mut metadata = json!({"name": name});
        if let Some(finalizer) = finalizer {
            metadata["finalizers"] = json!([finalizer]);
            metadata["deletionTimestamp"] = json!("2026-11-20T08:00:00Z");
        }
        (Kind::REPLICA_SET, json!({"metadata": metadata}))
    }

    fn pod(owners: &[Value]) -> (Kind, Value) {
        (Kind::POD, json!({"metadata": {"name": "p", "ownerReferences": owners}}))
    }

    /// Everything is known.
    fn complete(objects: Vec<(Kind, Value)>) -> World {
        let mut world = testing::world(objects);
        for row in testing::rows() {
            world.mark_synced(row.kind, 7);
        }
        world
    }

    fn check(key: (Kind, &str), objects: Vec<(Kind, Value)>, expect: Expect) {
        let key = key.0.key(&Name::new("default", key.1));
        expect.assert_eq(&testing::plan(&GarbageCollector, &key, &complete(objects)));
    }

    #[test]
    fn dependents_follow_their_owners() {
        let pods = (Kind::POD, "p");
        check(pods, vec![set("a", None), pod(&[owner("a", "a")])], expect![[""]]);
        check(
            pods,
            vec![pod(&[owner("a", "a")])],
            expect![[r#"
            delete pods default/p at 7 Background unless replicasets.apps default/a
        "#]],
        );
        // A namesake of the owner is not the owner.
        check(
            pods,
            vec![set("a", None), pod(&[owner("a", "other")])],
            expect![[r#"
            delete pods default/p at 7 Background unless replicasets.apps default/a
        "#]],
        );
        check(pods, vec![set("b", None), pod(&[owner("a", "a"), owner("b", "b")])], expect![[""]]);
        let unknown = json!({"apiVersion": "x.io/v1", "kind": "Thing", "name": "t", "uid": "t"});
        check(pods, vec![pod(&[unknown])], expect![[""]]);
        let going = || set("a", Some(FOREGROUND));
        check(
            pods,
            vec![going(), pod(&[owner("a", "a")])],
            expect![[r#"
            delete pods default/p at 7 Background
        "#]],
        );
        check(
            pods,
            vec![going(), set("b", None), pod(&[owner("a", "a"), owner("b", "b")])],
            expect![[r#"
                patch pods default/p {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"kind":"ReplicaSet","name":"b","uid":"b"}],"resourceVersion":"7","uid":"p"}}
            "#]],
        );
    }

    /// Kubernetes never deletes for such a reference (`namespacedOwnerOfClusterScopedObjectErr`).
    #[test]
    fn what_has_no_namespace_is_not_owned_from_within_one() {
        let roles = Kind { group: "rbac.authorization.k8s.io", plural: "clusterroles" };
        let check = |objects: Vec<(Kind, Value)>, expect: Expect| {
            let key = roles.key(&Name::cluster("r"));
            expect.assert_eq(&testing::plan(&GarbageCollector, &key, &testing::world(objects)));
        };
        let metadata = json!({"name": "r", "ownerReferences": [owner("a", "a")]});
        let role = || (roles, json!({"metadata": metadata}));
        check(vec![role()], expect![[""]]);
        check(
            vec![role(), set("a", None)],
            expect![[r#"
                note OwnerRefInvalidNamespace: ownerRef [apps/v1/ReplicaSet, namespace: , name: a, uid: a] does not exist in namespace ""
            "#]],
        );
    }

    #[test]
    fn owners_wait_for_dependents_or_set_them_free() {
        let sets = (Kind::REPLICA_SET, "a");
        let foreground = || set("a", Some(FOREGROUND));
        check(sets, vec![foreground(), pod(&[owner("a", "a")])], expect![[""]]);
        check(
            sets,
            vec![foreground()],
            expect![[r#"
            patch replicasets.apps default/a {"metadata":{"finalizers":null,"resourceVersion":"7","uid":"a"}}
        "#]],
        );
        let mut relaxed = owner("a", "a");
        relaxed["blockOwnerDeletion"] = json!(false);
        check(
            sets,
            vec![foreground(), pod(&[relaxed])],
            expect![[r#"
            patch replicasets.apps default/a {"metadata":{"finalizers":null,"resourceVersion":"7","uid":"a"}}
        "#]],
        );
        let orphan = || set("a", Some(ORPHAN));
        check(
            sets,
            vec![orphan(), pod(&[owner("a", "a")])],
            expect![[r#"
            patch pods default/p {"metadata":{"ownerReferences":null,"resourceVersion":"7","uid":"p"}}
        "#]],
        );
        check(
            sets,
            vec![orphan()],
            expect![[r#"
            patch replicasets.apps default/a {"metadata":{"finalizers":null,"resourceVersion":"7","uid":"a"}}
        "#]],
        );
    }

    #[test]
    fn an_owner_stays_while_dependents_may_be_on_their_way() {
        for finalizer in [FOREGROUND, ORPHAN] {
            let mut world = testing::world([set("a", Some(finalizer))]);
            let key = Kind::REPLICA_SET.key(&Name::new("default", "a"));
            let plan = |world: &World| testing::plan(&GarbageCollector, &key, world);
            for row in testing::rows() {
                world.mark_synced(row.kind, if row.kind == Kind::POD { 6 } else { 7 });
            }
            assert_eq!(plan(&world), "recheck at 2026-11-20T08:00:00.1Z\n");
            world.mark_synced(Kind::POD, 7);
            assert!(plan(&world).starts_with("patch replicasets.apps default/a "));
        }
    }
}
