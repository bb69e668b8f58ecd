//! Entries seen through the `scale` subresource: of all fields, a `Scale` has only the replicas.

use serde_json::Value;

use super::entries::{self, Entries, Manager, Owned};
use super::set::Set;

/// The version of `Scale`.
const SCALE: &str = "autoscaling/v1";

fn replicas() -> Set {
    Set::of_fields(&["spec.replicas"])
}

/// The entries of an object as those of its `Scale`. `path` is where the object has its replicas.
pub fn to_scale(stored: Option<&Value>, path: &str) -> Option<Value> {
    let entries = entries::read(stored).unwrap_or_default();
    let path = Set::of_fields(&[path]);
    let owns = entries.into_iter().filter(|(_, it)| !it.fields.intersection(&path).is_empty());
    let seen: Entries = owns
        .map(|(manager, mut owned)| {
            owned.api_version = SCALE.to_owned();
            owned.fields = replicas();
            (manager, owned)
        })
        .collect();
    entries::write(&seen)
}

/// The entries of an object after those of its `Scale` have changed.
pub fn from_scale(
    stored: Option<&Value>,
    scale: Option<&Value>,
    path: &str,
    api_version: &str,
) -> Option<Value> {
    let path = Set::of_fields(&[path]);
    let parent = |(mut manager, mut owned): (Manager, Owned)| {
        api_version.clone_into(&mut owned.api_version);
        if !manager.api_version.is_empty() {
            api_version.clone_into(&mut manager.api_version);
        }
        (manager, owned)
    };
    let mut changed: Entries =
        entries::read(scale).unwrap_or_default().into_iter().map(parent).collect();
    let mut out = Entries::new();
    for (manager, mut owned) in entries::read(stored).unwrap_or_default() {
        let has_replicas = !owned.fields.intersection(&path).is_empty();
        // Who lost the replicas to a write of the scale is no more in its entries.
        if has_replicas && changed.remove(&manager).is_none() {
            owned.fields = owned.fields.difference(&path);
        }
        if !owned.fields.is_empty() {
            out.insert(manager, owned);
        }
    }
    for (manager, mut owned) in changed {
        if !owned.fields.intersection(&replicas()).is_empty() {
            owned.fields = path.clone();
            out.insert(manager, owned);
        }
    }
    entries::write(&out)
}
