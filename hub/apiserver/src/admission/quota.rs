//! ResourceQuota: what is used is written in the transaction that uses it, therefore a quota is
//! exact under any concurrency.
//!
//! ```text
//! create, grow:  admission adds to status.used ┐
//! shrink, end:   admission takes from it       ├─ one transaction with the object
//! remove:        the removal takes from it     ┘
//! new limits:    status is counted anew (here, at once)
//! ```
//!
//! Writers of one namespace that has quotas go one after the other; the conditions on the quotas
//! hold even against another hub on the same store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hub_api::admission::quota::{self, Amounts};
use hub_api::{Resource, Status, object};
use hub_storage::{Body, Condition, Entry, ListRequest, Prefix, Txn, WatchError, Write};
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use super::builtin::refuse;
use super::{Attributes, Operation};
use crate::limits::QUOTA_RECOUNT;
use crate::registry::{Companions, Registry};

/// One lock for each namespace that has quotas.
#[derive(Debug, Default)]
pub(crate) struct QuotaLocks(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl QuotaLocks {
    async fn lock(&self, namespace: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody holds or waits for those that only the map knows.
            locks.retain(|_, it| Arc::strong_count(it) > 1);
            locks.entry(namespace.to_owned()).or_default().clone()
        };
        lock.lock_owned().await
    }
}

impl Registry {
    fn quotas(&self, namespace: &str) -> Vec<Arc<Entry>> {
        let prefix = Prefix::namespace("core", "resourcequotas", namespace);
        self.storage().list(&ListRequest::all(prefix)).map(|it| it.entries).unwrap_or_default()
    }

    /// Takes what a write uses from the quotas of its namespace.
    pub(super) async fn admit_quota(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
        companions: &mut Companions,
    ) -> Result<(), Status> {
        let resource = attributes.resource;
        let Some(namespace) = attributes.namespace.filter(|_| resource.namespaced) else {
            return Ok(());
        };
        let is_write = match attributes.operation {
            Operation::Create => attributes.subresource.is_none(),
            Operation::Update => matches!(attributes.subresource, None | Some("status" | "resize")),
            Operation::Delete | Operation::Connect => false,
        };
        if !is_write || resource.plural == "resourcequotas" || self.quotas(namespace).is_empty() {
            return Ok(());
        }
        let guard = self.quota_locks().lock(namespace).await;
        let wanted = quota::usage(resource, object);
        for entry in self.quotas(namespace) {
            let found = &*entry.value();
            let had = attributes.old.filter(|old| quota::counts(found, resource, old));
            let had = had.map(|old| quota::usage(resource, old)).unwrap_or_default();
            let has = quota::counts(found, resource, object);
            let empty = Amounts::new();
            let delta = quota::difference(if has { &wanted } else { &empty }, &had);
            charge(attributes, object, &entry, &delta, has, companions)?;
        }
        companions.guards.push(guard);
        Ok(())
    }

    /// Gives back to the quotas of its namespace what an object used that is removed.
    pub(crate) async fn release_quota(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        object: &Value,
        companions: &mut Companions,
    ) {
        let Some(namespace) = namespace.filter(|_| resource.namespaced) else { return };
        if resource.plural == "resourcequotas" || self.quotas(namespace).is_empty() {
            return;
        }
        if companions.guards.is_empty() {
            companions.guards.push(self.quota_locks().lock(namespace).await);
        }
        let gone = quota::difference(&Amounts::new(), &quota::usage(resource, object));
        for entry in self.quotas(namespace) {
            if quota::counts(&entry.value(), resource, object)
                && let Some(used) = quota::used(&entry.value())
            {
                write(&entry, used, &gone, companions);
            }
        }
    }

    /// Counts quotas whose limits changed, at once, and all of them now and then. Ends with the
    /// storage.
    pub async fn follow_quotas(&self) {
        let prefix = Prefix::all("core", "resourcequotas");
        loop {
            // In this order: what changes after `revision` wakes us.
            let revision = self.storage().revision();
            self.count_quotas(true).await;
            let mut watch = match self.storage().watch(&prefix, revision) {
                Ok(watch) => watch,
                Err(WatchError::Closed) => return,
                Err(WatchError::Compacted { .. } | WatchError::Future { .. }) => continue,
            };
            loop {
                match tokio::time::timeout(QUOTA_RECOUNT, watch.next()).await {
                    Ok(Ok(_)) => self.count_quotas(false).await,
                    Err(_) => self.count_quotas(true).await,
                    Ok(Err(WatchError::Closed)) => return,
                    Ok(Err(WatchError::Compacted { .. } | WatchError::Future { .. })) => break,
                }
            }
        }
    }

    /// Counts a namespace's quotas whose status does not speak of their limits, and all if `every`.
    pub async fn count_quotas(&self, every: bool) {
        let prefix = Prefix::all("core", "resourcequotas");
        let Ok(list) = self.storage().list(&ListRequest::all(prefix)) else { return };
        for entry in list.entries {
            if every || quota::used(&entry.value()).is_none() {
                self.count_quota(&entry).await;
            }
        }
    }

    async fn count_quota(&self, entry: &Arc<Entry>) {
        let namespace = entry.key.namespace().unwrap_or_default();
        let _guard = self.quota_locks().lock(namespace).await;
        let Some(entry) = self.storage().get(&entry.key) else { return };
        let mut used = Amounts::new();
        for resource in self.catalog().stored() {
            if !resource.namespaced {
                continue;
            }
            let prefix = Prefix::namespace(resource.storage_group(), &resource.plural, namespace);
            let Ok(list) = self.storage().list(&ListRequest::all(prefix)) else { return };
            for counted in list.entries {
                if quota::counts(&entry.value(), resource, &counted.value()) {
                    quota::add(&mut used, &quota::usage(resource, &counted.value()));
                }
            }
        }
        let status = quota::status(&entry.value(), &used);
        if entry.value().get("status") == Some(&status) {
            return;
        }
        let mut next = entry.decode();
        next["status"] = status;
        crate::registry::take_revision(&mut next);
        let txn = Txn::update(entry.key.clone(), entry.revision, Body::from_value(&next));
        // Who changed it meanwhile wakes the counter again.
        if let Err(err) = self.storage().txn(txn).await {
            tracing::debug!(quota = %entry.key, error = %err, "Lost a race");
        }
    }
}

fn charge(
    attributes: &Attributes<'_>,
    object: &Value,
    entry: &Arc<Entry>,
    delta: &Amounts,
    counts: bool,
    companions: &mut Companions,
) -> Result<(), Status> {
    let found = &*entry.value();
    let hard = quota::hard(found);
    let touched = delta.iter().any(|(name, amount)| !amount.is_zero() && hard.contains_key(name));
    let creates = attributes.operation == Operation::Create;
    let is_pod = attributes.is_of("", "pods");
    if counts && creates && is_pod {
        quota::check_specified(found, object).map_err(|why| {
            let why = format!("failed quota: {}: {why}", object::name(found));
            refuse(attributes, Some(object), &why)
        })?;
    }
    if !touched {
        return Ok(());
    }
    let Some(used) = quota::used(found) else {
        let names: Vec<&str> =
            delta.keys().filter(|it| hard.contains_key(*it)).map(|it| &**it).collect();
        let why = format!(
            "status unknown for quota: {}, resources: {}",
            object::name(found),
            names.join(",")
        );
        // What gives back never fails: the count to come will see it.
        return if creates { Err(refuse(attributes, Some(object), &why)) } else { Ok(()) };
    };
    quota::check_room(found, &used, delta).map_err(|why| refuse(attributes, Some(object), &why))?;
    write(entry, used, delta, companions);
    Ok(())
}

fn write(entry: &Arc<Entry>, mut used: Amounts, delta: &Amounts, companions: &mut Companions) {
    quota::add(&mut used, delta);
    let mut next = entry.decode();
    crate::registry::take_revision(&mut next);
    next["status"] = quota::status(&entry.value(), &used);
    companions.conditions.push(Condition::Unchanged(entry.key.clone(), entry.revision));
    companions.writes.push(Write::Put(entry.key.clone(), Body::from_value(&next)));
}
