//! Carries out plans through the registry. Decides nothing.

use std::sync::Arc;

use futures_util::future::join_all;
use hub_api::write::Preconditions;
use hub_api::{DeleteOptions, Resource, Status, patch};
use hub_apiserver::auth::User;
use hub_apiserver::{Registry, WriteOptions, Written};
use hub_controllers::{
    Await, Failure, FailureKind, Kind, Note, ObjectRef, Outcome, Propagation, Uid, Work, Write,
};
use serde_json::Value;

use super::Done;
use super::recorder::Recorder;

/// The first writes of many show whether they work at all; then more are made at once.
const FIRST_BATCH: usize = 16;

/// Performs writes. Cheap to clone.
#[derive(Clone)]
pub(super) struct Executor {
    registry: Registry,
    recorder: Recorder,
}

type Performed = Result<Option<Await>, Failure>;

impl Executor {
    pub(super) fn new(registry: Registry, recorder: Recorder) -> Self {
        Self { registry, recorder }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Performs a plan up to its first failure.
    pub(super) async fn carry_out(self, work: Work) -> Done {
        let mut outcome = Outcome::default();
        let mut left = &work.writes[..];
        let mut batch_size = FIRST_BATCH;
        while let Some(first) = left.first() {
            let n_alike = left.iter().take_while(|it| first.is_independent_of(it)).count();
            let (batch, rest) = left.split_at(n_alike.clamp(1, batch_size));
            left = rest;
            batch_size = if n_alike > batch.len() { batch_size * 4 } else { FIRST_BATCH };
            for performed in join_all(batch.iter().map(|it| self.perform(&work, it))).await {
                match performed {
                    Ok(awaited) => outcome.awaits.extend(awaited),
                    Err(failure) => outcome.failure = Some(failure),
                }
            }
            if outcome.failure.is_some() {
                break;
            }
        }
        if let Some(failure) = &outcome.failure {
            let (controller, key) = (work.controller, &work.key);
            let message = &failure.message;
            if failure.kind == FailureKind::Conflict {
                tracing::debug!(controller, %key, error = message, "Lost a race");
            } else {
                tracing::warn!(controller, %key, error = message, "Could not carry out a plan");
            }
        }
        Done::Plan { ticket: work.ticket, outcome }
    }

    async fn perform(&self, work: &Work, write: &Write) -> Performed {
        match write {
            Write::Create { kind, namespace, object, then, or_else } => {
                let created = self.create(work, *kind, namespace, object).await;
                self.tell(work, &created, then.as_ref(), or_else.as_ref());
                created.map(|(_, awaited)| Some(awaited))
            }
            Write::Patch { target, subresource, patch } => {
                self.patch(work, target, *subresource, patch).await
            }
            Write::Replace { target, subresource, object } => {
                self.replace(work, target, *subresource, object).await
            }
            Write::Delete { target, uid, only_without, then, or_else, .. } => {
                if only_without.iter().any(|(key, uid)| self.is_there(key, uid.as_ref())) {
                    return Ok(None);
                }
                let deleted = self.delete(write, target, uid).await;
                let name = deleted.clone().map(|awaited| (target.name.name.clone(), awaited));
                self.tell(work, &name, then.as_ref(), or_else.as_ref());
                deleted.map(Some)
            }
            Write::Note(note) => {
                self.recorder.record(work.controller, note.clone());
                Ok(None)
            }
        }
    }

    fn tell(
        &self,
        work: &Work,
        performed: &Result<(String, Await), Failure>,
        then: Option<&Note>,
        or_else: Option<&Note>,
    ) {
        let note = match performed {
            Ok((name, _)) => then.map(|note| note.filled("{name}", name)),
            Err(failure) if failure.kind == FailureKind::Conflict => None,
            Err(failure) => or_else.map(|note| note.filled("{error}", &failure.message)),
        };
        if let Some(note) = note {
            self.recorder.record(work.controller, note);
        }
    }

    async fn create(
        &self,
        work: &Work,
        kind: Kind,
        namespace: &str,
        object: &Value,
    ) -> Result<(String, Await), Failure> {
        let resource = self.resource(kind)?;
        let namespace = Some(namespace).filter(|it| !it.is_empty());
        let written =
            self.registry.create(&resource, namespace, object.clone(), &options(work)).await;
        let written = written.map_err(|status| failure(FailureKind::Create, status))?;
        let name = written.value()["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Ok((name, awaited(kind, &written)))
    }

    /// Skips the reading of the result by its schema: what controllers write is well-formed.
    async fn patch(
        &self,
        work: &Work,
        target: &ObjectRef,
        subresource: Option<&str>,
        patch: &Value,
    ) -> Performed {
        let resource = self.resource(target.kind)?;
        let (namespace, name) = place(target);
        let change = |view: &Value, _whole: &Value| Ok(patch::merge(&unversioned(view), patch));
        let modified = self
            .registry
            .modify(&resource, namespace, name, subresource, &options(work), change)
            .await;
        found(target.kind, modified)
    }

    async fn replace(
        &self,
        work: &Work,
        target: &ObjectRef,
        subresource: Option<&str>,
        object: &Value,
    ) -> Performed {
        let resource = self.resource(target.kind)?;
        let (namespace, name) = place(target);
        let object = object.clone();
        let updated = self
            .registry
            .update(&resource, namespace, name, object, subresource, &options(work))
            .await;
        found(target.kind, updated)
    }

    async fn delete(&self, write: &Write, target: &ObjectRef, uid: &Uid) -> Result<Await, Failure> {
        let resource = self.resource(target.kind)?;
        let (namespace, name) = place(target);
        let options = delete_options(write);
        let is_exact = options.preconditions.resource_version.is_some();
        match self.registry.delete(&resource, namespace, name, &options).await {
            // Gone, or another incarnation is there: either way this one is not. But whoever named a revision has to
            // look at what became of it.
            Err(status) if status.code != 404 && (is_exact || status.code != 409) => {
                Err(failure(FailureKind::Delete, status))
            }
            Ok(_) | Err(_) => Ok(Await::Gone(target.clone(), uid.clone())),
        }
    }

    /// Asks the store itself.
    fn is_there(&self, key: &ObjectRef, uid: Option<&Uid>) -> bool {
        let (namespace, name) = place(key);
        let Ok(resource) = self.resource(key.kind) else { return true };
        let found = self.registry.get(&resource, namespace, name);
        found.is_ok_and(|entry| {
            let found = entry.value();
            uid.is_none_or(|uid| found["metadata"]["uid"] == uid.0.as_str())
        })
    }

    fn resource(&self, kind: Kind) -> Result<Arc<Resource>, Failure> {
        let catalog = self.registry.catalog();
        catalog.find_stored(kind.group, kind.plural).cloned().ok_or_else(|| Failure {
            kind: FailureKind::Other,
            message: format!("the server has no {kind}"),
        })
    }
}

/// An object as it is to be written over whatever is there: a revision in it would be a precondition.
pub(super) fn unversioned(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    object
}

fn place(key: &ObjectRef) -> (Option<&str>, &str) {
    (Some(key.name.namespace.as_str()).filter(|it| !it.is_empty()), &key.name.name)
}

fn options(work: &Work) -> WriteOptions {
    WriteOptions {
        field_manager: "outbye-controllers".to_owned(),
        user: Arc::new(User::named(format!(
            "system:serviceaccount:kube-system:{}",
            work.controller
        ))),
        ..WriteOptions::default()
    }
}

fn delete_options(write: &Write) -> DeleteOptions {
    let Write::Delete { uid, revision, propagation, grace_seconds, .. } = write else {
        return DeleteOptions::default();
    };
    DeleteOptions {
        grace_period_seconds: *grace_seconds,
        propagation_policy: Some(match propagation {
            Propagation::Background => hub_api::Propagation::Background,
            Propagation::Foreground => hub_api::Propagation::Foreground,
            Propagation::Orphan => hub_api::Propagation::Orphan,
        }),
        preconditions: Preconditions {
            uid: Some(uid.0.clone()),
            resource_version: revision.map(|it| it.to_string()),
        },
        dry_run: false,
    }
}

/// A change of an object that is gone is no failure: the news of that is on its way.
fn found(kind: Kind, modified: Result<Written, Status>) -> Performed {
    match modified {
        Ok(written) => Ok(Some(awaited(kind, &written))),
        Err(status) if status.code == 404 => Ok(None),
        Err(status) => Err(failure(FailureKind::Other, status)),
    }
}

fn awaited(kind: Kind, written: &Written) -> Await {
    match written {
        Written::Stored(entry) => Await::Revision(kind, entry.revision.get()),
        Written::Dry(_) => Await::Revision(kind, 0),
        Written::Removed(entry) => {
            let uid = entry.value()["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            let name = hub_controllers::Name::new(
                entry.key.namespace().unwrap_or_default(),
                entry.key.name(),
            );
            Await::Gone(kind.key(&name), Uid(uid))
        }
    }
}

fn failure(kind: FailureKind, status: Status) -> Failure {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let is_closing = causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating");
    let kind = match status.code {
        // Also "already exists": whoever made it was faster.
        409 => FailureKind::Conflict,
        // A namespace that is going needs nothing more in it, and nobody told so.
        403 if is_closing => FailureKind::Conflict,
        _ => kind,
    };
    Failure { kind, message: status.message }
}
