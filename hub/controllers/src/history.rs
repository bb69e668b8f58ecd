//! Revisions of a template, kept as ControllerRevisions of its owner.
//!
//! What a revision is of is told by its data; its name is only a name.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::deployment::template;
use crate::object::{Kind, Name, Object};
use crate::owned::{adopt, controller_ref};
use crate::selector;
use crate::value::{at, int_at, maybe_int_at, object_mut, set, str_at};
use crate::world::World;
use crate::write::Write;

/// Label of the pods of a revision, and of the revision itself.
pub const HASH: &str = "controller-revision-hash";

/// The revision of the template as it is, and what has to be written about revisions.
#[derive(Debug)]
pub struct History {
    /// Value of [`HASH`] on the revision.
    pub hash: String,
    /// Name of the revision.
    pub name: String,
    /// `status.collisionCount` as it is to be: how often the name of a revision was taken.
    pub collisions: i64,
    pub writes: Vec<Write>,
    /// All that are stored, oldest first.
    pub stored: Vec<Arc<Object>>,
}

/// Finds the revision of the owner's template, or makes it. Revisions that nobody owns are taken over with the pods that
/// are of them: an owner that is made again finds what it left. An owner that goes writes nothing.
pub fn of(owner: &Object, world: &World) -> History {
    let mut stored: Vec<Arc<Object>> =
        world.managed_by(&owner.uid, Kind::CONTROLLER_REVISION).cloned().collect();
    let mut writes = Vec::new();
    if !owner.is_deleting() {
        let orphans = orphans(owner, world);
        writes.extend(orphans.iter().map(|it| adopt(owner, it, world)));
        stored.extend(orphans);
    }
    stored.sort_by_key(|it| (number(it), it.name.clone()));
    let data = data(owner);
    let newest = stored.last().map_or(0, |it| number(it));
    let found = stored.iter().rev().find(|it| *at(it.value(), &["data"]) == data).cloned();
    if let Some(found) = found {
        let hash = at(found.labels(), &[HASH]).as_str().unwrap_or_default().to_owned();
        // Back to an earlier template: it becomes the newest. One that is taken over is written just now: later.
        if number(&found) < newest && found.is_controlled_by(&owner.uid) && !owner.is_deleting() {
            writes.push(Write::patch_exactly(&found, None, json!({"revision": newest + 1})));
        }
        let (name, collisions) = (found.name.name.clone(), collisions(owner));
        return History { hash, name, collisions, writes, stored };
    }
    let (hash, name, collisions) = free_name(owner, &data, world);
    if !owner.is_deleting() {
        writes.push(create(owner, &hash, &name, data, newest + 1, world));
    }
    History { hash, name, collisions, writes, stored }
}

/// Revisions that are the owner's by their labels, and nobody's else.
fn orphans(owner: &Object, world: &World) -> Vec<Arc<Object>> {
    let wanted = at(owner.spec(), &["selector"]);
    let free = world.unmanaged(Kind::CONTROLLER_REVISION, &owner.name.namespace);
    free.filter(|it| !it.is_deleting() && selector::matches(wanted, it.labels())).cloned().collect()
}

fn collisions(owner: &Object) -> i64 {
    int_at(owner.status(), &["collisionCount"])
}

/// Hash and name for a new revision, and how many names were taken before it.
fn free_name(owner: &Object, data: &Value, world: &World) -> (String, String, i64) {
    let mut collisions = collisions(owner);
    loop {
        let hash = template::hash(data, Some(collisions));
        let name = format!("{}-{hash}", owner.name.name);
        let key = Name::new(&owner.name.namespace, &name);
        match world.get(Kind::CONTROLLER_REVISION, &key) {
            Some(other) if stays(other, world) => collisions += 1,
            Some(_) | None => return (hash, name, collisions),
        }
    }
}

/// Whether a revision does not go by itself, as those do that belonged to an owner of the same name before.
fn stays(revision: &Object, world: &World) -> bool {
    let is_left = revision.controller().is_some_and(|owner| {
        world.kind_of_owner(owner).is_some() && world.by_uid(owner.uid()).is_none()
    });
    !is_left && !revision.is_deleting()
}

fn create(
    owner: &Object,
    hash: &str,
    name: &str,
    data: Value,
    number: i64,
    world: &World,
) -> Write {
    let mut labels = at(owner.spec(), &["template", "metadata", "labels"]).clone();
    object_mut(&mut labels).insert(HASH.to_owned(), json!(hash));
    let object = json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": name,
            "namespace": owner.name.namespace,
            "labels": labels,
            "ownerReferences": [controller_ref(owner, world)],
        },
        "data": data,
        "revision": number,
    });
    Write::Create {
        kind: Kind::CONTROLLER_REVISION,
        namespace: owner.name.namespace.clone(),
        object,
        then: None,
        or_else: None,
    }
}

impl History {
    /// Deletions of the oldest revisions beyond the limit that no pod is of. `live` are names and
    /// hashes of those in use.
    pub fn forget(&self, owner: &Object, live: &BTreeSet<&str>) -> Vec<Write> {
        let limit = maybe_int_at(owner.spec(), &["revisionHistoryLimit"]).unwrap_or(10);
        let is_old = |it: &&Arc<Object>| {
            let hash = at(it.labels(), &[HASH]).as_str().unwrap_or_default();
            let name = it.name.name.as_str();
            name != self.name && !live.contains(name) && !live.contains(hash) && !it.is_deleting()
        };
        let old: Vec<_> = self.stored.iter().filter(is_old).collect();
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
        old.into_iter().take(surplus).map(|it| Write::delete(it)).collect()
    }

    /// The template of a stored revision, by name.
    pub fn template(&self, name: &str) -> Option<Value> {
        let found = self.stored.iter().find(|it| it.name.name == name)?;
        let mut template = at(found.value(), &["data", "spec", "template"]).clone();
        object_mut(&mut template).remove("$patch");
        Some(template)
    }
}

/// The number of a revision.
pub fn number(revision: &Object) -> i64 {
    int_at(revision.value(), &["revision"])
}

/// Hash or name of the revision that a pod is of.
pub fn of_pod(pod: &Object) -> &str {
    str_at(pod.labels(), &[HASH])
}

/// What is kept of an owner: a patch that brings its template back.
fn data(owner: &Object) -> Value {
    let mut template = at(owner.spec(), &["template"]).clone();
    set(&mut template, &["$patch"], json!("replace"));
    json!({"spec": {"template": template}})
}
