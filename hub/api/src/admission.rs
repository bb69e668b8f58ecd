//! The rules of Kubernetes' built-in admission plugins, as functions over values: what a pod gets,
//! what a namespace allows, what a quota counts. Who calls them, and with which objects, is the
//! pipeline of the API server.
//!
//! Messages are Kubernetes' own: clients and tests compare them.

pub mod limit_ranger;
pub mod pod_security;
pub mod quota;
pub mod scheduling;
pub mod service_account;
pub mod storage;

use serde_json::Value;

use crate::object;
use crate::resource::Resource;
use crate::status::Status;

/// The refusal of a plugin: `pods "x" is forbidden: why`. An object without name is called by its
/// `generateName`.
pub fn forbidden(resource: &Resource, object: Option<&Value>, name: &str, why: &str) -> Status {
    let shown = match object {
        Some(object) if !object::name(object).is_empty() => object::name(object),
        Some(object) if name.is_empty() => object::text(object, "metadata.generateName"),
        Some(_) | None => name,
    };
    Status::forbidden(&resource.group, &resource.plural, shown, why)
}

/// The container lists of a pod's spec, in the order in which plugins look at them.
pub(crate) fn containers<'a>(
    spec: &'a Value,
    lists: &'static [&'static str],
) -> impl Iterator<Item = &'a Value> {
    lists.iter().flat_map(|list| object::list(spec, list))
}

#[cfg(test)]
mod tests;
