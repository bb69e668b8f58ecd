//! Custom resources between the version in which they are stored and the one of the request, and
//! what writes of their definitions need to know of each other.

use std::borrow::Cow;
use std::sync::Arc;

use hub_api::custom::{fill, names, prune};
use hub_api::{Resource, Status, object, resources};
use hub_storage::{Condition, Entry, Key, ListRequest, Prefix, Revision};
use serde_json::Value;

use super::Registry;
use super::catalog::{GROUP, PLURAL};
use super::write::Companions;

/// A stored object as the resource shows it: pruned and filled by the schema it was stored with,
/// in the version of the resource.
pub(super) fn shown(resource: &Resource, entry: Arc<Entry>) -> Arc<Entry> {
    let Some(custom) = &resource.custom else { return entry };
    let api_version = resource.api_version();
    // What was written since the definition was, in this version, is as the schema wants it.
    let is_recent = entry.revision.get() > custom.definition.revision;
    let head = format!("{{\"apiVersion\":\"{api_version}\",");
    if is_recent && entry.bytes.starts_with(head.as_bytes()) {
        return entry;
    }
    let mut object = entry.decode();
    let stored = object::text(&object, "apiVersion").rsplit('/').next().unwrap_or_default();
    if let Some(node) = custom.definition.node(stored) {
        prune(&mut object, node, 0);
        fill(&mut object, node);
    }
    object["apiVersion"] = api_version.into();
    entry.in_form(&object)
}

/// An object of the resource's version as it is stored.
pub(super) fn stored<'a>(resource: &Resource, object: &'a Value) -> Cow<'a, Value> {
    let Some(custom) = &resource.custom else { return Cow::Borrowed(object) };
    let version = &custom.definition.storage_version;
    if resource.version == version.as_str() {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    object["apiVersion"] = format!("{}/{version}", resource.group).into();
    Cow::Owned(object)
}

/// Nothing is made of a definition that goes; and none goes, or changes, while something is made.
pub(super) fn check_open(resource: &Resource, companions: &mut Companions) -> Result<(), Status> {
    let Some(custom) = &resource.custom else { return Ok(()) };
    let definition = &custom.definition;
    if definition.is_terminating {
        let mut status = Status::method_not_allowed();
        "create not allowed while custom resource definition is terminating"
            .clone_into(&mut status.message);
        return Err(status);
    }
    let key = Key::new(GROUP, PLURAL, None, &definition.name);
    let revision = Revision::new(definition.revision);
    companions.conditions.push(Condition::Unchanged(key, revision));
    Ok(())
}

impl Registry {
    /// Decides about the names of a definition that is about to be stored.
    pub(super) fn settle_definition(&self, resource: &Resource, object: &mut Value) {
        if resource.group != GROUP || resource.plural != PLURAL || object::is_terminating(object) {
            return;
        }
        let all = self.storage.list(&ListRequest::all(Prefix::all(GROUP, PLURAL)));
        let entries = all.map(|it| it.entries).unwrap_or_default();
        let others: Vec<&Value> = entries.iter().map(|it| it.value()).collect();
        names::settle(object, &others, resources::builtin(), self.now());
    }

    /// Whether the object is stored as it is shown.
    pub(super) fn is_stored_so(&self, shown: &Arc<Entry>) -> bool {
        let stored = self.storage.get(&shown.key);
        stored.is_some_and(|it| it.revision != shown.revision || it.bytes == shown.bytes)
    }
}
