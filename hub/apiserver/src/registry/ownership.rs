//! Managed fields of every write: computed after defaults and before admission, so that what
//! admission sets belongs to nobody.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hub_api::catalog::Catalog;
use hub_api::managed::model::{self, Model};
use hub_api::managed::{self, OneVersion, Scope, Versions, Writer};
use hub_api::{Resource, Status, object, schema, time, write};
use serde_json::{Value, json};

use super::{Registry, SCALE, WriteOptions, custom};

/// Where objects have what a `Scale` shows.
const REPLICAS: &str = "spec.replicas";
/// The version of `Scale`.
const SCALE_VERSION: &str = "autoscaling/v1";

/// How an object came to be wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// Somebody wrote it: what differs becomes theirs.
    Written,
    /// It was applied: its managed fields are made already.
    Applied,
}

/// The versions in which a kind is served.
pub(super) struct Served<'a> {
    registry: &'a Registry,
    resource: &'a Resource,
    /// Looked up only if there is more than one version.
    catalog: OnceLock<Arc<Catalog>>,
    /// What a webhook made of objects.
    conversions: &'a Conversions,
}

/// Objects in other versions, as far as a webhook was asked. Rules of ownership do not wait: what
/// they lack is noted, and they are run again when it is there.
#[derive(Debug, Default)]
pub(super) struct Conversions {
    known: Vec<(Value, String, Value)>,
    missing: Mutex<Vec<(Value, String)>>,
}

/// Rounds after which nothing more is converted for one request.
const MAX_ROUNDS: usize = 8;

impl Conversions {
    fn find(&self, object: &Value, api_version: &str) -> Option<&Value> {
        let mut known = self.known.iter();
        known.find(|(from, to, _)| to == api_version && from == object).map(|(_, _, made)| made)
    }

    fn note(&self, object: &Value, api_version: &str) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        missing.push((object.clone(), api_version.to_owned()));
    }

    fn take_missing(&mut self) -> Vec<(Value, String)> {
        let missing = self.missing.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(missing)
    }
}

impl<'a> Served<'a> {
    pub(super) fn new(
        registry: &'a Registry,
        resource: &'a Resource,
        conversions: &'a Conversions,
    ) -> Self {
        Self { registry, resource, catalog: OnceLock::new(), conversions }
    }

    fn find(&self, api_version: &str) -> Option<&Resource> {
        if api_version == self.resource.api_version() {
            return Some(self.resource);
        }
        let stored = self.resource.stored();
        let catalog = self.catalog.get_or_init(|| self.registry.catalog());
        catalog.rows().iter().find(|row| {
            let other = row.stored();
            other.plural == stored.plural
                && other.group == stored.group
                && row.api_version() == api_version
        })
    }
}

impl Versions for Served<'_> {
    fn model(&self, api_version: &str) -> Option<&dyn Model> {
        self.find(api_version).map(model::of)
    }

    fn convert<'a>(&self, object: &'a Value, api_version: &str) -> Result<Cow<'a, Value>, String> {
        let from = object::text(object, "apiVersion");
        if from == api_version || from.is_empty() {
            return Ok(Cow::Borrowed(object));
        }
        let unknown = |it: &str| format!("no version {it}");
        if custom::converting(self.resource).is_some() {
            let known = self.conversions.find(object, api_version);
            return known.map(|it| Cow::Owned(it.clone())).ok_or_else(|| {
                self.conversions.note(object, api_version);
                format!("not converted to {api_version} yet")
            });
        }
        let from = self.find(from).ok_or_else(|| unknown(from))?;
        let to = self.find(api_version).ok_or_else(|| unknown(api_version))?;
        Ok(Cow::Owned(custom::in_row(from, to, object)))
    }
}

/// The one version of `Scale`.
pub(super) fn scale_versions() -> OneVersion<'static> {
    let model: &dyn Model = match schema::lookup(SCALE.schema) {
        Some(schema) => schema,
        None => &model::Deduced,
    };
    OneVersion { api_version: SCALE_VERSION, model }
}

/// Where objects of a resource have what a `Scale` shows.
fn replicas_path(resource: &Resource) -> &str {
    let scale = resource.custom.as_ref().and_then(|it| it.scale.as_ref());
    scale.map_or(REPLICAS, |it| &it.spec_replicas)
}

/// An object's `Scale`, with the owners of its replicas.
pub(super) fn owned_scale(resource: &Resource, object: &Value) -> Result<Value, Status> {
    let mut scale = write::get_scale_of(resource, object)?;
    let entries = object::get(object, "metadata.managedFields");
    let entries = managed::to_scale(entries, replicas_path(resource));
    managed::set_entries(&mut scale, entries);
    Ok(scale)
}

impl Registry {
    /// Runs rules that may need objects in other versions, until they lack none.
    ///
    /// # Errors
    /// A conversion failed.
    pub(super) async fn with_conversions<T>(
        &self,
        resource: &Resource,
        mut run: impl FnMut(&Served<'_>) -> T,
    ) -> Result<T, Status> {
        let mut conversions = Conversions::default();
        for _ in 0..MAX_ROUNDS {
            let result = run(&Served::new(self, resource, &conversions));
            let missing = conversions.take_missing();
            let Some(definition) = custom::converting(resource).filter(|_| !missing.is_empty())
            else {
                return Ok(result);
            };
            for (object, api_version) in missing {
                let made = self.in_version(definition, &object, &api_version).await?.into_owned();
                conversions.known.push((object, api_version, made));
            }
        }
        Ok(run(&Served::new(self, resource, &conversions)))
    }

    /// Sets the managed fields of an object that was written. `old` is the stored one, none at a
    /// creation; `requested` is the version that was written to, both objects are of the stored one.
    /// Whose fields cannot be told since a conversion fails keep their owners.
    pub(super) async fn track(
        &self,
        requested: &Resource,
        old: Option<&Value>,
        wanted: &mut Value,
        subresource: Option<&str>,
        options: &WriteOptions,
    ) {
        if custom::converting(requested).is_none() {
            let conversions = Conversions::default();
            let served = Served::new(self, requested, &conversions);
            self.track_with(requested, old, wanted, subresource, options, &served);
            return;
        }
        let before = wanted.clone();
        let tracked = self.with_conversions(requested, |served| {
            let mut next = before.clone();
            self.track_with(requested, old, &mut next, subresource, options, served);
            next
        });
        if let Ok(next) = tracked.await {
            *wanted = next;
        }
    }

    fn track_with(
        &self,
        requested: &Resource,
        old: Option<&Value>,
        wanted: &mut Value,
        subresource: Option<&str>,
        options: &WriteOptions,
        served: &Served<'_>,
    ) {
        let time = time::format(self.now());
        let scope = Scope::of(requested, subresource);
        let (api_version, manager) = (requested.api_version(), &*options.field_manager);
        let writer = Writer {
            manager,
            api_version: &api_version,
            kind: &requested.kind,
            subresource: subresource.unwrap_or_default(),
            scope: &scope,
            time: &time,
        };
        if subresource == Some("scale") {
            let writer = Writer { api_version: SCALE_VERSION, kind: SCALE.kind, ..writer };
            if let Some(live) = old.and_then(|it| owned_scale(requested, it).ok()) {
                managed::track(&live, wanted, &writer, &scale_versions());
            }
            return;
        }
        let nothing = || json!({"apiVersion": writer.api_version, "kind": writer.kind});
        if requested.version_of.is_none() {
            match old {
                Some(old) => managed::track(old, wanted, &writer, served),
                None => managed::track(&nothing(), wanted, &writer, served),
            }
            return;
        }
        let live = old.map_or_else(nothing, |it| requested.show(it.clone()));
        let mut shown = requested.show(wanted.clone());
        managed::track(&live, &mut shown, &writer, served);
        managed::set_entries(wanted, managed::take_entries(&mut shown));
    }

    /// Takes back what admission made of managed fields, if it is malformed.
    pub(super) fn keep_entries(&self, admitted: &mut Value, before: Option<Value>) {
        let after = object::get(admitted, "metadata.managedFields");
        if after == before.as_ref() {
            return;
        }
        if let Some(Err(why)) = after.map(managed::check_entries) {
            self.requester().warn(format!(
                ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller; please fix your requests: {why}"
            ));
            managed::set_entries(admitted, before);
        }
    }
}

/// The managed fields of the object that is stored after `wanted` was admitted.
pub(super) fn entries_after(
    wanted: &Value,
    old: &Value,
    requested: &Resource,
    subresource: Option<&str>,
) -> Option<Value> {
    let entries = object::get(wanted, "metadata.managedFields");
    if subresource != Some("scale") {
        return entries.cloned();
    }
    let stored = object::get(old, "metadata.managedFields");
    managed::from_scale(stored, entries, replicas_path(requested), &requested.api_version())
}
