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
mod builtin;
mod expression;
mod matching;
mod policy;
mod quota;
mod requester;
mod review;
mod rights;
mod view;
mod webhook;

use std::sync::atomic::AtomicBool;

use hub_api::Status;
use serde_json::Value;

pub(crate) use attributes::{Attributes, Operation, RequestOptions};
pub(crate) use quota::QuotaLocks;
pub use requester::Requester;
use rights::sign_request;
pub(crate) use webhook::{authorities, distrust};

use crate::registry::{Companions, Registry};

/// What plugins keep between requests. Nothing of it is missed after a restart.
#[derive(Debug, Default)]
pub(crate) struct AdmissionState {
    pub(crate) quota_locks: QuotaLocks,
    pub(crate) mounts_tokens: AtomicBool,
    programs: expression::Programs,
    webhooks: webhook::Clients,
}

impl Registry {
    /// Lets the mutating plugins see and change an object. Returns whether they did change it.
    ///
    /// # Errors
    /// The refusal of a plugin.
    pub(crate) async fn admit_mutating(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut Value>,
    ) -> Result<bool, Status> {
        self.check_namespace_exists(attributes)?;
        let mut object = object;
        let mut changed = false;
        if let Some(object) = object.as_deref_mut() {
            changed |= sign_request(attributes, object);
            changed |= builtin::mutate(self, attributes, object).await?;
            changed |= self.apply_policies(attributes, object, false).await?;
        }
        let (touched, eager) = self.call_mutating(attributes, object.as_deref_mut(), None).await?;
        if let Some(object) = object {
            if touched {
                // Those who came before see what webhooks changed, once.
                builtin::mutate(self, attributes, object).await?;
                self.apply_policies(attributes, object, true).await?;
                self.call_mutating(attributes, Some(object), Some(&eager)).await?;
            }
            // Nobody else says who asks.
            sign_request(attributes, object);
        }
        Ok(changed || touched)
    }

    /// Lets the validating plugins see an object as it would be stored. What they add must be part
    /// of the transaction that stores it.
    ///
    /// # Errors
    /// The refusal of a plugin.
    pub(crate) async fn admit_validating(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<Companions, Status> {
        self.check_rights(attributes, object)?;
        let mut companions = Companions::default();
        if let Some(object) = object {
            builtin::validate(self, attributes, object)?;
        }
        self.check_policies(attributes, object).await?;
        self.call_validating(attributes, object).await?;
        if let Some(object) = object {
            // Last: what others refuse must not be charged for.
            self.admit_quota(attributes, object, &mut companions).await?;
        }
        Ok(companions)
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
            requested: resource,
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

/// Plugins have no say in who owns which field.
fn keep_managed_fields(before: &Value, after: &mut Value) {
    let kept = before.pointer("/metadata/managedFields").cloned();
    let metadata = hub_api::object::ensure(after, "metadata");
    match kept {
        Some(fields) => metadata.insert("managedFields".to_owned(), fields),
        None => metadata.remove("managedFields"),
    };
}
