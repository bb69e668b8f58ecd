//! Custom resources between the version in which they are stored and the one of the request, and
//! what writes of their definitions need to know of each other.

use std::borrow::Cow;
use std::sync::Arc;

use hub_api::custom::{Definition, fill, names, prune};
use hub_api::{Resource, Status, object, resources};
use hub_storage::{Body, Condition, Entry, Key, ListRequest, Prefix, Revision};
use serde_json::Value;

use super::Registry;
use super::catalog::{GROUP, PLURAL};
use super::write::Companions;

/// The definition of a resource whose versions a webhook converts.
pub(super) fn converting(resource: &Resource) -> Option<&Definition> {
    let definition = &resource.custom.as_ref()?.definition;
    definition.webhook().is_some().then_some(&**definition)
}

/// A stored object as the resource shows it: pruned and filled by the schema it was stored with,
/// in the version of the resource. One that a webhook has to convert stays in the version in which
/// it is stored.
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
    let stored = stored.to_owned();
    if let Some(node) = custom.definition.node(&stored) {
        prune(&mut object, node, 0);
        fill(&mut object, node);
    }
    if converting(resource).is_none() || stored.is_empty() {
        object["apiVersion"] = api_version.into();
    }
    entry.in_form(&object)
}

/// An object of one version of a resource in another one, where no webhook has to be asked for it.
pub(super) fn in_row(from: &Resource, to: &Resource, object: &Value) -> Value {
    let mut object = to.show(from.store(object.clone()));
    if to.custom.is_some() {
        // Versions of a definition differ in their name alone.
        object["apiVersion"] = to.api_version().into();
    }
    object
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
        let others: Vec<Arc<Value>> = entries.iter().map(|it| it.value()).collect();
        let others: Vec<&Value> = others.iter().map(|it| &**it).collect();
        names::settle(object, &others, resources::builtin(), self.now());
    }

    /// Whether what is stored is already this, in the version in which objects are stored.
    pub(super) fn is_stored_so(&self, shown: &Arc<Entry>, wanted: &Value) -> bool {
        let stored = self.storage.get(&shown.key);
        stored.is_some_and(|it| {
            it.revision != shown.revision || it.bytes == Body::from_value(wanted).at(it.revision)
        })
    }
}
