//! Deletion: at once, or marked and finished later by those who hold finalizers.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use hub_api::write::{self, Deletion};
use hub_api::{DeleteOptions, Resource, Status};
use hub_storage::Entry;
use serde_json::Value;

use super::{Companions, Fresh, ListOptions, Registry, Written};
use crate::admission::{Attributes, Operation, RequestOptions};
use crate::limits::{COLLECTION_CONCURRENCY, MAX_CONFLICT_RETRIES};

/// What a deletion left behind.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// The object is gone; this is how it was.
    Removed(Arc<Entry>),
    /// The object waits for its finalizers or its grace period.
    Marked(Written),
}

/// Namespaces that nothing works without.
const PROTECTED: [&str; 3] = ["default", "kube-system", "kube-public"];

impl Registry {
    /// Deletes an object.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` if a precondition fails.
    pub async fn delete(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        if resource.group.is_empty() && resource.plural == "namespaces" && PROTECTED.contains(&name)
        {
            let why = "this namespace may not be deleted";
            return Err(Status::forbidden("", "namespaces", name, why));
        }
        self.delete_with(resource, namespace, name, options, true).await
    }

    /// Deletes an object; `asks` says whether admission is asked about that, or was asked
    /// about what causes it.
    pub(super) async fn delete_with(
        &self,
        requested: &Resource,
        namespace: Option<&str>,
        name: &str,
        options: &DeleteOptions,
        asks: bool,
    ) -> Result<Deleted, Status> {
        let resource = requested.stored();
        for _ in 0..MAX_CONFLICT_RETRIES {
            let current = self.read(resource, namespace, name).await?;
            let fresh = Fresh::draw();
            let context = fresh.context(resource, namespace, Some(name), self.now());
            let deletion = write::delete(&current.value(), options, &context)?;
            if deletion == Deletion::Pending {
                return Ok(Deleted::Marked(Written::Stored(current)));
            }
            let companions = if asks {
                self.admit_deletion(requested, namespace, name, &current.value(), options).await?
            } else {
                Companions::default()
            };
            match deletion {
                Deletion::Remove if options.dry_run => return Ok(Deleted::Removed(current)),
                Deletion::Remove => {
                    if self.remove(resource, &current, companions).await? {
                        return Ok(Deleted::Removed(current));
                    }
                }
                Deletion::Mark(next) if options.dry_run => {
                    return Ok(Deleted::Marked(Written::Dry(Arc::new(next))));
                }
                Deletion::Mark(next) => {
                    if let Some(written) = self.put(resource, &current, &next, companions).await? {
                        return Ok(Deleted::Marked(written));
                    }
                }
                Deletion::Pending => {}
            }
        }
        Err(Status::too_many_requests("the object is written too often, please try again later", 1))
    }

    async fn admit_deletion(
        &self,
        requested: &Resource,
        namespace: Option<&str>,
        name: &str,
        old: &Value,
        options: &DeleteOptions,
    ) -> Result<Companions, Status> {
        let attributes = Attributes {
            operation: Operation::Delete,
            resource: requested.stored(),
            requested,
            subresource: None,
            namespace,
            name,
            old: Some(old),
            options: RequestOptions::Delete(options),
            dry_run: options.dry_run,
            requester: self.requester(),
        };
        // There is no object that could be changed.
        self.admit_mutating(&attributes, None).await?;
        self.admit_validating(&attributes, None).await
    }

    /// Deletes all selected objects, and returns them as they were.
    ///
    /// # Errors
    /// As [`Self::list`] and [`Self::delete`]; objects that are gone meanwhile are no error.
    pub async fn delete_collection(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        list_options: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<super::List, Status> {
        let mut list = self.list_converted(resource, namespace, list_options).await?;
        let entries = std::mem::take(&mut list.entries);
        // Together they share commits; one after the other each would wait for its own.
        list.entries = stream::iter(entries)
            .map(|entry| self.delete_listed(resource, entry, options))
            .buffered(COLLECTION_CONCURRENCY)
            .try_collect()
            .await?;
        Ok(list)
    }

    async fn delete_listed(
        &self,
        resource: &Resource,
        entry: Arc<Entry>,
        options: &DeleteOptions,
    ) -> Result<Arc<Entry>, Status> {
        let (namespace, name) = (entry.key.namespace(), entry.key.name());
        match self.delete(resource, namespace, name, options).await {
            Ok(Deleted::Marked(Written::Stored(marked))) => Ok(marked),
            Ok(Deleted::Removed(_) | Deleted::Marked(_)) => Ok(entry),
            Err(status) if status.code == 404 => Ok(entry),
            Err(status) => Err(status),
        }
    }
}
