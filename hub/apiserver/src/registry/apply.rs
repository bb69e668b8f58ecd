//! Server-side apply: an object is made of the live one and of what its manager wants of it.

use std::sync::Arc;

use hub_api::decode::{self, Target};
use hub_api::managed::{self, Scope, Versions, Writer};
use hub_api::{FieldValidation, Resource, Status, object, time};
use hub_storage::Entry;
use serde_json::{Value, json};

use super::ownership::{Origin, owned_scale, scale_versions};
use super::write::Attempt;
use super::{Registry, SCALE, WriteOptions, Written, take_revision};
use crate::limits::MAX_CONFLICT_RETRIES;

/// What is applied, and to what.
#[derive(Clone, Copy, Debug)]
pub struct Application<'a> {
    /// The resource, in the version that is applied.
    pub resource: &'a Resource,
    /// The namespace of the path.
    pub namespace: Option<&'a str>,
    /// The name of the path.
    pub name: &'a str,
    /// The part of the object that is applied, all of it if there is none.
    pub subresource: Option<&'a str>,
    /// What the manager wants.
    pub object: &'a Value,
    /// Whether fields of others are taken over.
    pub force: bool,
}

impl Registry {
    /// Applies an object, and creates it if it is not there. Says whether it did.
    ///
    /// # Errors
    /// `Conflict` for fields of others, or another `resourceVersion`; `NotFound` for a part of what
    /// is not there; and whatever a creation or an update can come to.
    pub async fn apply(
        &self,
        application: &Application<'_>,
        options: &WriteOptions,
    ) -> Result<(Written, bool), Status> {
        let Application { resource, namespace, name, subresource, .. } = *application;
        for _ in 0..MAX_CONFLICT_RETRIES {
            let outcome = match self.read(resource, namespace, name).await {
                Ok(current) => match self.apply_to(application, &current, options).await? {
                    Attempt::Done(written) => return Ok((written, false)),
                    Attempt::Conflict => continue,
                },
                Err(status) if subresource.is_some() || status.code != 404 => return Err(status),
                Err(_) => match &options.create_refusal {
                    Some(refusal) => return Err(Status::clone(refusal)),
                    None => self.apply_new(application, options).await,
                },
            };
            match outcome {
                // Somebody else made it in between.
                Err(status) if status.reason == "AlreadyExists" => {}
                result => return result.map(|it| (it, true)),
            }
        }
        Err(Status::too_many_requests("the object is written too often, please try again later", 1))
    }

    async fn apply_to(
        &self,
        application: &Application<'_>,
        current: &Arc<Entry>,
        options: &WriteOptions,
    ) -> Result<Attempt, Status> {
        let Application { resource, namespace, name, subresource, .. } = *application;
        let is_scale = subresource == Some("scale");
        let mut wanted = if is_scale {
            let live = owned_scale(resource, &current.value())?;
            self.applied(application, &live, SCALE, &scale_versions(), options)?
        } else {
            let live = resource.show(current.decode());
            let applied = self.with_conversions(resource, |served| {
                self.applied(application, &live, Target::of(resource), served, options)
            });
            resource.store(applied.await??)
        };
        let revision = take_revision(&mut wanted);
        if !revision.is_empty() && revision != current.revision.to_string() {
            return Err(Status::modified(&resource.group, &resource.plural, name));
        }
        let origin = Origin::Applied;
        self.replace(resource, namespace, current, wanted, subresource, options, origin).await
    }

    async fn apply_new(
        &self,
        application: &Application<'_>,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let Application { resource, namespace, name, object, .. } = *application;
        let uid = object::uid(object);
        if !uid.is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(resource.conflict(name, &why));
        }
        let found = object::name(object);
        if found.is_empty() {
            return Err(Status::bad_request(format!(
                "the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )));
        }
        if found != name {
            return Err(Status::bad_request(format!(
                "the name of the object ({found}) does not match the name on the URL ({name})"
            )));
        }
        let live = json!({"apiVersion": resource.api_version(), "kind": resource.kind});
        let applied = self.with_conversions(resource, |served| {
            self.applied(application, &live, Target::of(resource), served, options)
        });
        let mut made = applied.await??;
        // Of what is not there any revision is as good as none.
        take_revision(&mut made);
        self.create_from(resource, namespace, made, options, Origin::Applied).await
    }

    /// The live object with what is applied, in the shape that decoding gives.
    fn applied(
        &self,
        application: &Application<'_>,
        live: &Value,
        target: Target<'_>,
        versions: &dyn Versions,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        let Application { resource, subresource, object, force, .. } = *application;
        let api_version = target.api_version();
        let scope = Scope::of(resource, subresource);
        let writer = Writer {
            manager: &options.field_manager,
            api_version: &api_version,
            kind: target.kind,
            subresource: subresource.unwrap_or_default(),
            scope: &scope,
            time: &time::format(self.now()),
        };
        let made = managed::apply(live, object, force, &writer, versions)
            .map_err(|err| err.to_status())?;
        let decoded = if subresource == Some("scale") {
            decode::conform_kind(target, &made, FieldValidation::Ignore)?
        } else {
            decode::conform(resource, &made, FieldValidation::Ignore)?
        };
        Ok(decoded.object)
    }
}
