//! Deletion: at once, or marked and finished later by those who hold finalizers.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use hub_api::write::{self, Deletion};
use hub_api::{DeleteOptions, Resource, Status};
use hub_storage::Entry;

use super::{Fresh, ListOptions, Registry, Written};
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
        let resource = resource.stored();
        if resource.group.is_empty() && resource.plural == "namespaces" && PROTECTED.contains(&name)
        {
            let why = "this namespace may not be deleted";
            return Err(Status::forbidden("", "namespaces", name, why));
        }
        for _ in 0..MAX_CONFLICT_RETRIES {
            let current = self.get(resource, namespace, name)?;
            let fresh = Fresh::draw();
            let context = fresh.context(resource, namespace, Some(name), self.now());
            match write::delete(current.value(), options, &context)? {
                Deletion::Remove if options.dry_run => return Ok(Deleted::Removed(current)),
                Deletion::Remove => {
                    if self.remove(resource, &current).await? {
                        return Ok(Deleted::Removed(current));
                    }
                }
                Deletion::Mark(next) if options.dry_run => {
                    return Ok(Deleted::Marked(Written::Dry(next)));
                }
                Deletion::Pending => return Ok(Deleted::Marked(Written::Stored(current))),
                Deletion::Mark(next) => {
                    if let Some(written) = self.put(&current, &next).await? {
                        return Ok(Deleted::Marked(written));
                    }
                }
            }
        }
        Err(Status::too_many_requests("the object is written too often, please try again later", 1))
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
        let mut list = self.list(resource, namespace, list_options)?;
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
