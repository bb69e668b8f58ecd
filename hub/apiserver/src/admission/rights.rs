//! Rights that need the object: see [`crate::auth::Guard`]. The hub's own parts have them all.

use hub_api::Status;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::auth::ClientWrite;
use crate::registry::Registry;

/// Writes into a new request for a certificate who asks: nobody else can say it. Returns whether
/// the object was one.
pub(super) fn sign_request(attributes: &Attributes<'_>, object: &mut Value) -> bool {
    let user = &*attributes.requester.user;
    let is_new = attributes.operation == Operation::Create
        && attributes.is_of("certificates.k8s.io", "certificatesigningrequests");
    if !is_new || user.name.is_empty() {
        return false;
    }
    let spec = hub_api::object::ensure(object, "spec");
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    spec.extend(user.to_info());
    true
}

impl Registry {
    /// Checks what a client may not write although it may use the verb.
    pub(super) fn check_rights(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        let user = &*attributes.requester.user;
        let Some(guard) = self.guard().filter(|_| !user.name.is_empty()) else { return Ok(()) };
        let new = match attributes.operation {
            Operation::Create | Operation::Update => object,
            Operation::Delete => None,
            Operation::Connect => return Ok(()),
        };
        let write = ClientWrite {
            user,
            resource: attributes.resource,
            subresource: attributes.subresource,
            namespace: attributes.namespace,
            name: attributes.name,
            old: attributes.old,
            new,
        };
        guard.check(self, &write)
    }

    /// Admits the creation of a token for a service account.
    ///
    /// # Errors
    /// The refusal of a plugin.
    pub(crate) async fn admit_token(
        &self,
        resource: &hub_api::Resource,
        namespace: Option<&str>,
        name: &str,
        dry_run: bool,
        request: &mut Value,
    ) -> Result<(), Status> {
        let attributes = Attributes {
            operation: Operation::Create,
            resource,
            requested: resource,
            subresource: Some("token"),
            namespace,
            name,
            old: None,
            options: super::RequestOptions::None,
            dry_run,
            requester: self.requester(),
        };
        self.admit_mutating(&attributes, Some(request)).await?;
        // Nothing is stored, therefore nothing can join a transaction.
        self.admit_validating(&attributes, Some(request)).await.map(drop)
    }
}
