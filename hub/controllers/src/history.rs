//! Revisions of a template, kept as ControllerRevisions of its owner.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::deployment::template;
use crate::object::{Kind, Object};
use crate::owned::controller_ref;
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
    pub writes: Vec<Write>,
    /// All that are stored, oldest first.
    pub stored: Vec<Arc<Object>>,
}

/// Finds the revision of the owner's template, or makes it.
pub fn of(owner: &Object, world: &World) -> History {
    let mut stored: Vec<Arc<Object>> =
        world.managed_by(&owner.uid, Kind::CONTROLLER_REVISION).cloned().collect();
    stored.sort_by_key(|it| (number(it), it.name.clone()));
    let data = data(owner);
    let newest = stored.last().map_or(0, |it| number(it));
    let found = stored.iter().rev().find(|it| *at(it.value(), &["data"]) == data).cloned();
    if let Some(found) = found {
        let hash = at(found.labels(), &[HASH]).as_str().unwrap_or_default().to_owned();
        let mut writes = Vec::new();
        if number(&found) < newest {
            // Back to an earlier template: it becomes the newest.
            writes.push(Write::patch_exactly(&found, None, json!({"revision": newest + 1})));
        }
        return History { hash, name: found.name.name.clone(), writes, stored };
    }
    let hash = template::hash(&data, maybe_int_at(owner.status(), &["collisionCount"]));
    let name = format!("{}-{hash}", owner.name.name);
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
        "revision": newest + 1,
    });
    let create = Write::Create {
        kind: Kind::CONTROLLER_REVISION,
        namespace: owner.name.namespace.clone(),
        object,
        then: None,
        or_else: None,
    };
    History { hash, name, writes: vec![create], stored }
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
