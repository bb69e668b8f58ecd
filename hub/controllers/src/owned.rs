//! Which objects belong to a controller: by controllerRef, and by selector where nobody owns them.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::object::{Kind, Object};
use crate::selector;
use crate::value::at;
use crate::world::World;
use crate::write::Write;

/// What an owner has after `writes`.
#[derive(Debug, Default)]
pub struct Claim {
    pub objects: Vec<Arc<Object>>,
    pub writes: Vec<Write>,
}

/// Sorts out who belongs to `owner`: adopts what matches and has no controller, releases what
/// does not match any more.
pub fn claim(owner: &Object, kind: Kind, world: &World, keep: impl Fn(&Object) -> bool) -> Claim {
    let selector = &*selector_of(owner);
    let mut claim = Claim::default();
    for object in world.managed_by(&owner.uid, kind).filter(|object| keep(object)) {
        if selector::matches(selector, object.labels()) {
            claim.objects.push(object.clone());
        } else if !owner.is_deleting() {
            claim.writes.push(release(owner, object));
        }
    }
    if owner.is_deleting() {
        return claim;
    }
    for object in world.unmanaged(kind, &owner.name.namespace) {
        let matches = selector::matches(selector, object.labels());
        if keep(object) && !object.is_deleting() && matches {
            claim.writes.push(adopt(owner, object, world));
            claim.objects.push(object.clone());
        }
    }
    claim
}

/// The selector of an owner in the common form: a ReplicationController has a plain map.
pub fn selector_of(owner: &Object) -> Cow<'_, Value> {
    let selector = at(owner.spec(), &["selector"]);
    if owner.kind == Kind::REPLICATION_CONTROLLER {
        return Cow::Owned(match selector.is_null() {
            true => Value::Null,
            false => json!({"matchLabels": selector}),
        });
    }
    Cow::Borrowed(selector)
}

/// The controllerRef that says `owner` manages an object.
pub fn controller_ref(owner: &Object, world: &World) -> Value {
    let row = world.row(owner.kind);
    json!({
        "apiVersion": row.map(|row| row.api_version.as_str()).unwrap_or_default(),
        "kind": row.map(|row| row.object_kind.as_str()).unwrap_or_default(),
        "name": owner.name.name,
        "uid": owner.uid.0,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// Makes `owner` the controller of an object that has none.
pub fn adopt(owner: &Object, object: &Object, world: &World) -> Write {
    let mut owners =
        at(object.meta(), &["ownerReferences"]).as_array().cloned().unwrap_or_default();
    owners.push(controller_ref(owner, world));
    Write::patch_exactly(object, None, json!({"metadata": {"ownerReferences": owners}}))
}

fn release(owner: &Object, object: &Object) -> Write {
    Write::patch_exactly(object, None, without_owners(object, |uid| uid == owner.uid.0))
}

/// A patch that takes the owners with these uids away.
pub fn without_owners(object: &Object, is_dropped: impl Fn(&str) -> bool) -> Value {
    let mut owners =
        at(object.meta(), &["ownerReferences"]).as_array().cloned().unwrap_or_default();
    owners.retain(|owner| !owner["uid"].as_str().is_some_and(&is_dropped));
    let owners = if owners.is_empty() { Value::Null } else { Value::Array(owners) };
    json!({"metadata": {"ownerReferences": owners}})
}
