//! Admission: what looks at every write that is authorised, between its decoding and its storing.
//!
//! ```text
//! prepare (defaults) ─> managed fields ─> mutating plugins ─> defaults again
//!    ─> finish (server-set fields, validation) ─> validating plugins ─> one transaction
//! ```
//!
//! There is no way around it: [`Registry`](crate::Registry) runs it for clients, controllers,
//! scheduler and nodes alike, for every verb that writes and for connections into pods. Exempt
//! are two kinds of writes below the registry that are no API requests upstream either: the
//! expiry of old events (a lease of etcd there) and the records of service addresses.
//!
//! A refusal is an `Err`: it cannot be overlooked. What a plugin wants written or to hold together
//! with the object (a quota's usage) joins the transaction of the object.

mod attributes;
mod requester;

use hub_api::Status;
use serde_json::Value;

pub(crate) use attributes::{Attributes, Operation, RequestOptions};
pub use requester::Requester;

use crate::registry::{Companions, Registry};

impl Registry {
    /// Lets the mutating plugins see and change an object. Returns whether they did change it.
    ///
    /// # Errors
    /// The refusal of a plugin.
    #[expect(clippy::unused_async, reason = "plugins that call others come here")]
    pub(crate) async fn admit_mutating(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut Value>,
    ) -> Result<bool, Status> {
        self.check_namespace_exists(attributes)?;
        let _ = object;
        Ok(false)
    }

    /// Lets the validating plugins see an object as it would be stored. What they add must be part
    /// of the transaction that stores it.
    ///
    /// # Errors
    /// The refusal of a plugin.
    #[expect(clippy::unused_async, reason = "plugins that call others come here")]
    pub(crate) async fn admit_validating(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<Companions, Status> {
        let _ = (attributes, object);
        Ok(Companions::default())
    }

    /// Admits a connection into an object (`exec`, `attach`, `portforward`, `proxy`), before
    /// anything of it is opened. `options` is the object that upstream makes of the query, such as
    /// `PodExecOptions`, with `apiVersion` and `kind`.
    ///
    /// # Errors
    /// The refusal of a plugin.
    pub(crate) async fn admit_connect(
        &self,
        resource: &hub_api::Resource,
        namespace: Option<&str>,
        name: &str,
        subresource: &str,
        mut options: Value,
    ) -> Result<(), Status> {
        let attributes = Attributes {
            operation: Operation::Connect,
            resource,
            subresource: Some(subresource),
            namespace,
            name,
            old: None,
            options: RequestOptions::None,
            dry_run: false,
            requester: self.requester(),
        };
        self.admit_mutating(&attributes, Some(&mut options)).await?;
        // Nothing is stored, therefore nothing can join a transaction.
        self.admit_validating(&attributes, Some(&options)).await.map(drop)
    }
}
