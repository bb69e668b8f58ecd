//! Namespaces: what may be created in them, how they are finished, and those that always exist.

use std::borrow::Cow;

use hub_api::status::{Cause, Details};
use hub_api::{Resource, Status, object, resources};
use hub_storage::Condition;

use super::write::Companions;
use super::{Registry, key};
use crate::admission::{Attributes, Operation};

/// Namespaces that are there from the first start.
pub(super) const SYSTEM: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

impl Registry {
    /// What is created must have a namespace to be in; asked before anything else is.
    pub(crate) fn check_namespace_exists(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        if attributes.operation != Operation::Create || attributes.subresource.is_some() {
            return Ok(());
        }
        let (resource, namespace) = (attributes.resource, attributes.namespace);
        let mut unused = Companions::default();
        self.check_namespace_open(resource, namespace, attributes.name, &mut unused)
    }

    /// The namespace must exist and must not be terminating; that must still hold when the object
    /// is stored.
    pub(super) fn check_namespace_open(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        companions: &mut Companions,
    ) -> Result<(), Status> {
        let Some(namespace) = namespace.filter(|_| resource.namespaced) else { return Ok(()) };
        let Some(namespaces) = resources::find("", "v1", "namespaces") else { return Ok(()) };
        let entry = self.get(namespaces, None, namespace)?;
        if object::is_terminating(&entry.value()) {
            return Err(terminating(resource, namespace, name));
        }
        let key = key(namespaces, None, namespace);
        companions.conditions.push(Condition::Unchanged(key, entry.revision));
        Ok(())
    }
}

fn terminating(resource: &Resource, namespace: &str, name: &str) -> Status {
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let status = Status::forbidden(&resource.group, &resource.plural, name, &why);
    let details = status.details.clone().unwrap_or_default();
    status.with_details(Details {
        causes: vec![Cause {
            reason: Cow::Borrowed("NamespaceTerminating"),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        }],
        ..*details
    })
}
