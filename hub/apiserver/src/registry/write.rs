//! Creating and changing objects. Every change is read, made, checked and stored under the
//! condition that nothing came between; if something did, it is made again.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use hub_api::{Resource, Status, WriteContext, managed, object, write};
use hub_storage::{Body, Condition, Entry, Txn, TxnError, Write};
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use super::custom;
use super::ownership::{Origin, entries_after, owned_scale};
use super::{Fresh, Registry, WriteOptions, key, take_revision};
use crate::admission::{Attributes, Operation, RequestOptions};
use crate::limits::{MAX_CONFLICT_RETRIES, MAX_NAME_RETRIES};

/// What a write left behind.
#[derive(Clone, Debug)]
pub enum Written {
    /// The object as it is stored now.
    Stored(Arc<Entry>),
    /// The object as it would be stored, after a dry run.
    Dry(Arc<Value>),
    /// The object as it was last: the change took its last finalizer, and it is gone.
    Removed(Arc<Entry>),
}

impl Written {
    /// The object's JSON.
    pub fn bytes(&self) -> Bytes {
        match self {
            Self::Stored(entry) | Self::Removed(entry) => entry.bytes.clone(),
            Self::Dry(value) => serde_json::to_vec(&**value).unwrap_or_default().into(),
        }
    }

    /// The object.
    pub fn value(&self) -> Arc<Value> {
        match self {
            Self::Stored(entry) | Self::Removed(entry) => entry.value(),
            Self::Dry(value) => value.clone(),
        }
    }
}

/// What a transaction needs beside the object itself.
#[derive(Debug, Default)]
pub(crate) struct Companions {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) writes: Vec<Write>,
    /// Held until the transaction is over.
    pub(crate) guards: Vec<OwnedMutexGuard<()>>,
}

impl Companions {
    pub(super) fn add(&mut self, other: Self) {
        self.conditions.extend(other.conditions);
        self.writes.extend(other.writes);
        self.guards.extend(other.guards);
    }

    /// The transaction with all of this in it. What is returned beside it must live until the
    /// transaction is over.
    pub(super) fn join(self, mut txn: Txn) -> (Txn, Vec<OwnedMutexGuard<()>>) {
        txn.conditions.extend(self.conditions);
        txn.writes.extend(self.writes);
        (txn, self.guards)
    }
}

impl Registry {
    /// Creates an object.
    ///
    /// # Errors
    /// `AlreadyExists`, `Invalid`, `NotFound` or `Forbidden` for a namespace that is missing or
    /// terminating.
    pub async fn create(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        self.create_from(resource, namespace, object, options, Origin::Written).await
    }

    pub(super) async fn create_from(
        &self,
        requested: &Resource,
        namespace: Option<&str>,
        object: Value,
        options: &WriteOptions,
        origin: Origin,
    ) -> Result<Written, Status> {
        let mut object = requested.store(object);
        let resource = requested.stored();
        if !take_revision(&mut object).is_empty() {
            return Err(Status::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        if resource.namespaced && namespace.is_none() {
            return Err(Status::bad_request("an empty namespace may not be set during creation"));
        }
        let generated = object::name(&object).is_empty();
        let prepared = self.prepare_create(requested, namespace, object, options, origin).await?;
        let mut name_retries = 0;
        for _ in 0..MAX_CONFLICT_RETRIES {
            let fresh = Fresh::draw();
            let context = fresh.context(resource, namespace, None, self.now());
            let mut made = write::finish_create(prepared.clone(), &context)?;
            self.warn(resource, &made);
            let name = object::name(&made).to_owned();
            let mut allocated = Companions::default();
            self.check_namespace_open(resource, namespace, &name, &mut allocated)?;
            self.allocate(resource, None, &mut made, &mut allocated)?;
            custom::check_open(resource, &mut allocated)?;
            self.settle_definition(resource, &mut made);
            // Before anything is held that others wait for: a webhook may be asked.
            let wanted = self.to_stored(resource, &made).await?;
            let attributes = self.creation(requested, namespace, &name, options);
            let mut companions = self.admit_validating(&attributes, Some(&made)).await?;
            companions.add(allocated);
            if options.dry_run {
                if self.storage.get(&key(resource, namespace, &name)).is_some() {
                    return Err(exists(resource, &name));
                }
                return Ok(Written::Dry(Arc::new(made)));
            }
            let key = key(resource, namespace, &name);
            let body = Body::from_value(&wanted);
            let (txn, _guards) = companions.join(Txn::create(key.clone(), body));
            match self.storage.txn(txn).await {
                Ok(committed) => return stored(resource, &made, committed.entries),
                Err(TxnError::Conflict { key: at, .. }) if at == key => {
                    name_retries += 1;
                    if !generated || name_retries > MAX_NAME_RETRIES {
                        return Err(exists(resource, &name));
                    }
                }
                // The namespace changed, or an address was taken: look again.
                Err(TxnError::Conflict { .. }) => {}
                Err(err) => return Err(storage_refusal(err)),
            }
        }
        Err(too_busy())
    }

    /// Tells the client what is hardly meant. Nobody reads what the hub tells itself.
    fn warn(&self, resource: &Resource, object: &Value) {
        for warning in resource.strategy.warnings(object) {
            self.requester().warn(warning);
        }
    }

    /// The first half of a creation: what the client wants, as admission leaves it.
    async fn prepare_create(
        &self,
        requested: &Resource,
        namespace: Option<&str>,
        object: Value,
        options: &WriteOptions,
        origin: Origin,
    ) -> Result<Value, Status> {
        let resource = requested.stored();
        let fresh = Fresh::draw();
        let context = fresh.context(resource, namespace, None, self.now());
        let mut prepared = write::prepare_create(object, &context)?;
        if origin == Origin::Written {
            self.track(requested, None, &mut prepared, None, options).await;
        }
        let entries = object::get(&prepared, "metadata.managedFields").cloned();
        let name = object::name(&prepared).to_owned();
        let attributes = self.creation(requested, namespace, &name, options);
        if self.admit_mutating(&attributes, Some(&mut prepared)).await? {
            write::after_admission(&mut prepared, None, &context);
            self.keep_entries(&mut prepared, entries);
        }
        Ok(prepared)
    }

    fn creation<'a>(
        &'a self,
        requested: &'a Resource,
        namespace: Option<&'a str>,
        name: &'a str,
        options: &'a WriteOptions,
    ) -> Attributes<'a> {
        Attributes {
            operation: Operation::Create,
            resource: requested.stored(),
            requested,
            subresource: None,
            namespace,
            name,
            old: None,
            options: RequestOptions::Write(options),
            dry_run: options.dry_run,
            requester: self.requester(),
        }
    }

    /// Replaces an object, or the part of it that `subresource` names.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` if `metadata.resourceVersion` is given and not the stored one,
    /// `Invalid`.
    pub async fn update(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        object: Value,
        subresource: Option<&str>,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        // What subresources exchange has one version only, but for the object itself.
        let object = if is_view(subresource) { object } else { resource.store(object) };
        let requested = resource;
        let resource = requested.stored();
        let creates = subresource.is_none()
            && resource.strategy.creates_on_update()
            && object::resource_version(&object).is_empty();
        if creates && self.get(resource, namespace, name).is_err() {
            if let Some(refusal) = &options.create_refusal {
                return Err(Status::clone(refusal));
            }
            let mut object = object;
            object::default_text(object::ensure(&mut object, "metadata"), "name", name);
            let found = object::name(&object);
            if found != name {
                return Err(Status::bad_request(format!(
                    "the name of the object ({found}) does not match the name on the URL ({name})"
                )));
            }
            let object = requested.show(object);
            return self.create(requested, namespace, object, options).await;
        }
        self.modify(requested, namespace, name, subresource, options, |_, _| Ok(object.clone()))
            .await
    }

    /// Reads an object, lets `change` make the next one of it, and stores that; again if another
    /// write came between. `change` sees the object with its `resourceVersion`, or the view that
    /// the subresource gives (such as `Scale`), and the whole object. A `resourceVersion` in its
    /// result is a precondition. Objects are of the stored version.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`, `Invalid`, and whatever `change` returns.
    pub async fn modify(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        options: &WriteOptions,
        change: impl Fn(&Value, &Value) -> Result<Value, Status>,
    ) -> Result<Written, Status> {
        let requested = resource;
        let resource = requested.stored();
        for _ in 0..MAX_CONFLICT_RETRIES {
            let current = self.read(resource, namespace, name).await?;
            let value = current.value();
            let mut wanted = if subresource == Some("scale") {
                change(&write::get_scale_of(resource, &value)?, &value)?
            } else {
                change(&value, &value)?
            };
            let wanted_revision = take_revision(&mut wanted);
            if !wanted_revision.is_empty() && wanted_revision != current.revision.to_string() {
                return Err(Status::modified(&resource.group, &resource.plural, name));
            }
            let origin = Origin::Written;
            let attempt = self
                .replace(requested, namespace, &current, wanted, subresource, options, origin)
                .await?;
            match attempt {
                Attempt::Done(written) => return Ok(written),
                // Who gave a revision is refused in the next turn.
                Attempt::Conflict => {}
            }
        }
        Err(too_busy())
    }

    #[expect(clippy::too_many_arguments, reason = "each names a part of one request")]
    pub(super) async fn replace(
        &self,
        requested: &Resource,
        namespace: Option<&str>,
        current: &Arc<Entry>,
        wanted: Value,
        subresource: Option<&str>,
        options: &WriteOptions,
        origin: Origin,
    ) -> Result<Attempt, Status> {
        let resource = requested.stored();
        let mut old = current.decode();
        let old_revision = take_revision(&mut old);
        let fresh = Fresh::draw();
        let name = current.key.name();
        let context = fresh.context(resource, namespace, Some(name), self.now());
        let mut wanted = prepare_change(wanted, &old, subresource, &context)?;
        // A binding is admitted as what is sent, see `bind`, and its fields belong to nobody.
        let admitted = subresource != Some("binding");
        if admitted && origin == Origin::Written {
            self.track(requested, Some(&old), &mut wanted, subresource, options).await;
        }
        let entries = object::get(&wanted, "metadata.managedFields").cloned();
        let shown_old = shown_to_admission(resource, current, subresource)?;
        let attributes = Attributes {
            operation: Operation::Update,
            resource,
            requested,
            subresource,
            namespace,
            name,
            old: Some(&shown_old),
            options: RequestOptions::Write(options),
            dry_run: options.dry_run,
            requester: self.requester(),
        };
        if admitted && self.admit_mutating(&attributes, Some(&mut wanted)).await? {
            match subresource {
                Some("scale") => {}
                Some(_) | None => write::after_admission(&mut wanted, Some(&old), &context),
            }
            self.keep_entries(&mut wanted, entries);
        }
        let entries = entries_after(&wanted, &old, requested, subresource);
        let scale = (subresource == Some("scale")).then(|| wanted.clone());
        let mut made = finish_change(wanted, &old, subresource, &context)?;
        managed::set_entries(&mut made, entries);
        if subresource.is_none() {
            self.warn(resource, &made);
        }
        let mut allocated = Companions::default();
        self.allocate(resource, Some(&old), &mut made, &mut allocated)?;
        self.settle_definition(resource, &mut made);
        managed::keep_times(&mut made, &old);
        // As for a creation; a webhook that is broken does not keep what goes.
        let removed = write::is_gone(&made, &context);
        let to_store =
            if removed { Cow::Borrowed(&made) } else { self.to_stored(resource, &made).await? };
        let mut companions = Companions::default();
        if admitted {
            let shown = scale.as_ref().unwrap_or(&made);
            companions = self.admit_validating(&attributes, Some(shown)).await?;
        }
        companions.add(allocated);
        if options.dry_run {
            let mut made = made.clone();
            object::ensure(&mut made, "metadata")
                .insert("resourceVersion".to_owned(), old_revision.into());
            return Ok(Attempt::Done(Written::Dry(Arc::new(made))));
        }
        if made == old && !removed && self.is_stored_so(current, &to_store) {
            return Ok(Attempt::Done(Written::Stored(current.clone())));
        }
        let key = current.key.clone();
        let (txn, _guards) = if removed {
            // Nothing is left to be charged for.
            companions.conditions.clear();
            companions.writes.clear();
            self.release(resource, &old, &mut companions);
            self.release_quota(resource, namespace, &old, &mut companions).await;
            companions.join(Txn::delete(key, current.revision))
        } else {
            let body = Body::from_value(&to_store);
            companions.join(Txn::update(key, current.revision, body))
        };
        match self.storage.txn(txn).await {
            Ok(_) if removed => Ok(Attempt::Done(Written::Removed(current.clone()))),
            Ok(committed) => stored(resource, &made, committed.entries).map(Attempt::Done),
            Err(TxnError::Conflict { .. }) => Ok(Attempt::Conflict),
            Err(err) => Err(storage_refusal(err)),
        }
    }

    /// Runs a transaction that removes an object and what belongs to it.
    pub(super) async fn remove(
        &self,
        resource: &Resource,
        current: &Arc<Entry>,
        mut companions: Companions,
    ) -> Result<bool, Status> {
        self.release(resource, &current.value(), &mut companions);
        let namespace = current.key.namespace();
        self.release_quota(resource, namespace, &current.value(), &mut companions).await;
        let (txn, _guards) = companions.join(Txn::delete(current.key.clone(), current.revision));
        match self.storage.txn(txn).await {
            Ok(_) => Ok(true),
            Err(TxnError::Conflict { .. }) => Ok(false),
            Err(err) => Err(storage_refusal(err)),
        }
    }

    /// Runs a transaction that replaces an object; nothing if another write came between.
    pub(super) async fn put(
        &self,
        resource: &Resource,
        current: &Arc<Entry>,
        next: &Value,
        companions: Companions,
    ) -> Result<Option<Written>, Status> {
        let wanted = self.to_stored(resource, next).await?;
        let body = Body::from_value(&wanted);
        let txn = Txn::update(current.key.clone(), current.revision, body);
        let (txn, _guards) = companions.join(txn);
        match self.storage.txn(txn).await {
            Ok(committed) => stored(resource, next, committed.entries).map(Some),
            Err(TxnError::Conflict { .. }) => Ok(None),
            Err(err) => Err(storage_refusal(err)),
        }
    }
}

/// Whether the subresource exchanges another kind than the object's.
pub(super) fn is_view(subresource: Option<&str>) -> bool {
    subresource == Some("scale")
}

/// The first half of a change: what the client wants, in the form that admission sees.
fn prepare_change(
    wanted: Value,
    old: &Value,
    subresource: Option<&str>,
    context: &WriteContext<'_>,
) -> Result<Value, Status> {
    match subresource {
        None => {
            let wanted = keep_allocations(context.resource, wanted, old);
            write::prepare_update(wanted, old, context)
        }
        Some("status") => write::prepare_status(wanted, old, context),
        Some("scale") => write::prepare_scale(wanted, old, context),
        Some("approval" | "finalize" | "ephemeralcontainers" | "resize") => {
            write::prepare_part(wanted, old, context)
        }
        Some("binding") => Ok(wanted),
        Some(_) => Err(Status::method_not_allowed()),
    }
}

/// The second half of a change: the object to store.
fn finish_change(
    wanted: Value,
    old: &Value,
    subresource: Option<&str>,
    context: &WriteContext<'_>,
) -> Result<Value, Status> {
    match subresource {
        None => write::finish_update(wanted, old, context),
        Some("status") => write::finish_status(wanted, old, context),
        Some("scale") => write::put_scale(&wanted, old, context),
        Some("approval") => write::update_approval(wanted, old, context),
        Some("finalize") => write::finalize(wanted, old, context),
        Some("ephemeralcontainers") => write::update_ephemeral_containers(wanted, old, context),
        Some("resize") => write::resize(wanted, old, context),
        // The change is the rule, see `bind`.
        Some("binding") => Ok(wanted),
        Some(_) => Err(Status::method_not_allowed()),
    }
}

/// The stored object in the form in which its part is exchanged.
fn shown_to_admission(
    resource: &Resource,
    current: &Entry,
    subresource: Option<&str>,
) -> Result<Arc<Value>, Status> {
    if subresource == Some("scale") {
        return owned_scale(resource, &current.value()).map(Arc::new);
    }
    Ok(current.value())
}

pub(super) enum Attempt {
    Done(Written),
    Conflict,
}

/// What clients may leave out of an update because the server chose it.
fn keep_allocations(resource: &Resource, mut wanted: Value, old: &Value) -> Value {
    let is_service = resource.group.is_empty() && resource.plural == "services";
    if is_service && object::text(&wanted, "spec.type") != "ExternalName" {
        let spec = object::ensure(&mut wanted, "spec");
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = object::get(old, "spec").and_then(|it| it.get(field)) {
                object::default(spec, field, value.clone());
                if spec.get(field).and_then(Value::as_str) == Some("") {
                    spec.insert(field.to_owned(), value.clone());
                }
            }
        }
    }
    wanted
}

/// What was written, as its writer made it.
fn stored(resource: &Resource, made: &Value, entries: Vec<Arc<Entry>>) -> Result<Written, Status> {
    // The object itself is always the first that is put.
    let entry = entries.into_iter().next().map(|it| match custom::converting(resource) {
        Some(_) => it.in_form(made),
        None => custom::shown(resource, it),
    });
    entry.map(Written::Stored).ok_or_else(|| Status::internal("the storage returned no object"))
}

fn exists(resource: &Resource, name: &str) -> Status {
    Status::already_exists(&resource.group, &resource.plural, name)
}

fn too_busy() -> Status {
    Status::too_many_requests("the object is written too often, please try again later", 1)
}

pub(super) fn storage_refusal(err: TxnError) -> Status {
    match err {
        TxnError::TooLarge { size, limit, .. } => Status::request_entity_too_large(&format!(
            "the object has {size} bytes, limit is {limit}"
        )),
        // Shutting down, or the disk is full: the log tells which.
        TxnError::Closed => Status::service_unavailable(
            "the hub cannot write to its disk now (full, or shutting down); it is unknown whether this was stored",
        ),
        TxnError::Conflict { key, .. } => Status::internal(format!("{key} changed meanwhile")),
        TxnError::Twice { .. } => Status::internal(err),
        TxnError::TooMany { .. } => Status::request_entity_too_large(&err.to_string()),
        TxnError::Unreachable { reason } => Status::service_unavailable(format!(
            "the store is out of reach, and it is unknown whether this was stored: {reason}"
        )),
        TxnError::TimedOut => Status::timeout(&err.to_string()),
        // When it is full, or does not let the hub in: who asked can do nothing, and may ask again.
        TxnError::Refused { reason } => {
            Status::service_unavailable(format!("the store refuses writes: {reason}"))
        }
    }
}
