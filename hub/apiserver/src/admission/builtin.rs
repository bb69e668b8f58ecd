//! The built-in plugins: finds what each needs, and asks the rules of `hub_api::admission`.

mod pods;
mod storage;

use hub_api::admission::{forbidden, scheduling};
use hub_api::{Resource, Status, object};
use hub_storage::{Key, ListRequest, Prefix};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::registry::Registry;

/// Looks objects of any kind up by where they are stored: no row is needed.
pub(super) trait Lookup {
    /// One object.
    fn find(&self, group: &str, plural: &str, namespace: Option<&str>, name: &str)
    -> Option<Value>;
    /// All objects, of a namespace or of all.
    fn find_all(&self, group: &str, plural: &str, namespace: Option<&str>) -> Vec<Value>;
}

impl Lookup for Registry {
    fn find(
        &self,
        group: &str,
        plural: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<Value> {
        let key = Key::new(storage_group(group), plural, namespace, name);
        self.storage().get(&key).map(|entry| Value::clone(&entry.value()))
    }

    fn find_all(&self, group: &str, plural: &str, namespace: Option<&str>) -> Vec<Value> {
        let group = storage_group(group);
        let prefix = match namespace {
            Some(namespace) => Prefix::namespace(group, plural, namespace),
            None => Prefix::all(group, plural),
        };
        // The newest state can always be listed.
        let listed = self.storage().list(&ListRequest::all(prefix));
        listed
            .map(|it| it.entries.iter().map(|entry| Value::clone(&entry.value())).collect())
            .unwrap_or_default()
    }
}

fn storage_group(group: &str) -> &str {
    if group.is_empty() { "core" } else { group }
}

/// The refusal of a plugin.
pub(super) fn refuse(attributes: &Attributes<'_>, object: Option<&Value>, why: &str) -> Status {
    forbidden(attributes.resource, object, attributes.name, why)
}

/// What built-in plugins set. Returns whether they set anything.
pub(super) async fn mutate(
    registry: &Registry,
    attributes: &Attributes<'_>,
    object: &mut Value,
) -> Result<bool, Status> {
    if attributes.operation != Operation::Create || attributes.subresource.is_some() {
        return Ok(false);
    }
    match (&*attributes.resource.group, &*attributes.resource.plural) {
        ("", "pods") => pods::create(registry, attributes, object).await.map(|()| true),
        ("", "persistentvolumeclaims" | "persistentvolumes")
        | ("networking.k8s.io", "ingresses") => {
            storage::create(registry, attributes, object).map(|()| true)
        }
        _ => Ok(false),
    }
}

/// What built-in plugins refuse.
pub(super) fn validate(
    registry: &Registry,
    attributes: &Attributes<'_>,
    object: &Value,
) -> Result<(), Status> {
    if !matches!(attributes.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let resource = attributes.resource;
    match (&*resource.group, &*resource.plural, attributes.subresource) {
        ("", "pods", None) => {
            // What a pod uses never changes but through `resize`.
            if attributes.operation == Operation::Create {
                pods::check_limits(registry, attributes, object)?;
            }
            pods::check_security(registry, attributes, object)
        }
        ("", "pods", Some("resize")) => pods::check_limits(registry, attributes, object),
        ("", "pods", Some("ephemeralcontainers")) => {
            pods::check_security(registry, attributes, object)
        }
        ("", "namespaces", None) => pods::check_namespace(registry, attributes, object),
        ("", "persistentvolumeclaims", None) => storage::check_claim(registry, attributes, object),
        ("scheduling.k8s.io", "priorityclasses", None) => {
            check_priority_class(registry, attributes, object)
        }
        _ if attributes.subresource.is_none() && template(resource).is_some() => {
            pods::warn_of_template(registry, attributes, object);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Where a kind keeps the pods that it makes.
fn template(resource: &Resource) -> Option<&'static str> {
    Some(match (&*resource.group, &*resource.plural) {
        ("", "podtemplates") => "template",
        ("", "replicationcontrollers") => "spec.template",
        ("apps", "deployments" | "replicasets" | "daemonsets" | "statefulsets") => "spec.template",
        ("batch", "jobs") => "spec.template",
        ("batch", "cronjobs") => "spec.jobTemplate.spec.template",
        _ => return None,
    })
}

fn check_priority_class(
    registry: &Registry,
    attributes: &Attributes<'_>,
    object: &Value,
) -> Result<(), Status> {
    if !object::flag(object, "globalDefault") {
        return Ok(());
    }
    let others = registry.find_all("scheduling.k8s.io", "priorityclasses", None);
    match scheduling::default_class(&others) {
        Some(other) if object::name(other) != object::name(object) => {
            let why = format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                object::name(other)
            );
            Err(refuse(attributes, Some(object), &why))
        }
        Some(_) | None => Ok(()),
    }
}
