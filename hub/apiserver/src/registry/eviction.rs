//! Evictions: deletions that the budgets of the pod have to allow.

use hub_api::write::disruption;
use hub_api::{DeleteOptions, Status, object, resources};
use serde_json::json;

use super::pods::pods;
use super::{Deleted, ListOptions, Registry, WriteOptions};
use crate::limits::MAX_CONFLICT_RETRIES;

impl Registry {
    /// Evicts a pod: its budget pays, then it is deleted as the eviction says.
    ///
    /// # Errors
    /// As [`Self::delete`]; 429 if the budget cannot pay, 500 if there are several.
    pub async fn evict(
        &self,
        namespace: &str,
        pod: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        let mut eviction = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
        });
        let attributes = self.below_pod("eviction", namespace, pod, options.dry_run)?;
        self.admit_mutating(&attributes, Some(&mut eviction)).await?;
        self.admit_validating(&attributes, Some(&eviction)).await?;
        let mut refusal = None;
        for _ in 0..MAX_CONFLICT_RETRIES {
            match self.evict_once(namespace, pod, options).await {
                // It was written since it was looked at, not by who asks: it is looked at again.
                Err(status)
                    if status.code == 409 && options.preconditions.resource_version.is_none() =>
                {
                    let found = self.get(pods()?, Some(namespace), pod)?;
                    let wanted = options.preconditions.uid.as_deref();
                    if wanted.is_some_and(|it| it != object::uid(&found.value())) {
                        return Err(status);
                    }
                    refusal = Some(status);
                }
                done => return done,
            }
        }
        Err(refusal.unwrap_or_else(|| Status::timeout("the pod is written too often")))
    }

    async fn evict_once(
        &self,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        let resource = pods()?;
        let found = self.get(resource, Some(namespace), name)?;
        let pod = &*found.value();
        let mut exact = options.clone();
        let revision = exact.preconditions.resource_version.take();
        let as_seen = Some(found.revision.to_string());
        if disruption::needs_no_budget(pod) {
            let pending = object::text(pod, "status.phase") == "Pending";
            let unseen = revision.is_none() && pending && !object::is_terminating(pod);
            exact.preconditions.resource_version = if unseen { as_seen } else { revision };
            return self.delete_with(resource, Some(namespace), name, &exact, false).await;
        }
        let is_free = self.pay_budget(namespace, pod, options.dry_run).await?;
        if !options.dry_run {
            exact.preconditions.resource_version =
                self.say_evicted(&found, options, is_free).await?;
        }
        self.delete_with(resource, Some(namespace), name, &exact, false).await
    }

    /// Lets the budget of a pod pay. Returns whether it went free, being unwell: it must not have
    /// become well since.
    async fn pay_budget(
        &self,
        namespace: &str,
        pod: &serde_json::Value,
        dry_run: bool,
    ) -> Result<bool, Status> {
        let budgets = resources::find("policy", "v1", "poddisruptionbudgets")
            .ok_or_else(Status::no_such_resource)?;
        let list = self.list(budgets, Some(namespace), &ListOptions::default())?;
        let values: Vec<_> = list.entries.iter().map(|it| it.value()).collect();
        let values = values.iter().map(|it| &**it);
        let Some(budget) = disruption::budget_of(pod, values)? else { return Ok(false) };
        if disruption::is_free(pod, budget) {
            return Ok(true);
        }
        let options = WriteOptions { dry_run, ..WriteOptions::default() };
        let (name, now) = (object::name(pod), self.now());
        self.modify(
            budgets,
            Some(namespace),
            object::name(budget),
            Some("status"),
            &options,
            |current, _| disruption::pay(current, name, now),
        )
        .await?;
        Ok(false)
    }

    /// Says on the pod why it goes. Returns the revision that must be the one that is deleted, if
    /// any must.
    async fn say_evicted(
        &self,
        found: &hub_storage::Entry,
        options: &DeleteOptions,
        is_free: bool,
    ) -> Result<Option<String>, Status> {
        let resource = pods()?;
        let (namespace, name) = (found.key.namespace(), found.key.name());
        let exact = is_free || options.preconditions.resource_version.is_some();
        let wanted = options
            .preconditions
            .resource_version
            .clone()
            .unwrap_or_else(|| found.revision.to_string());
        let now = self.now();
        let uid = object::uid(&found.value()).to_owned();
        let written = self
            .modify(
                resource,
                namespace,
                name,
                Some("status"),
                &WriteOptions::default(),
                |current, _| {
                    let conflict = |why: String| Status::conflict("", "pods", name, &why);
                    if object::uid(current) != uid {
                        let is = object::uid(current);
                        return Err(conflict(format!(
                            "Precondition failed: UID in precondition: {uid}, UID in object meta: {is}"
                        )));
                    }
                    let revision = object::resource_version(current);
                    if exact && revision != wanted {
                        return Err(conflict(format!(
                            "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {revision}"
                        )));
                    }
                    Ok(disruption::say_evicted(current, now))
                },
            )
            .await?;
        let revision = object::resource_version(&written.value()).to_owned();
        Ok(exact.then_some(revision))
    }
}
