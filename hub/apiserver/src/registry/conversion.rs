//! Calls the webhooks that convert custom objects between versions.
//!
//! What a stored object is in another version depends on nothing but itself and the definition:
//! answers are kept for those who ask next.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hub_api::custom::{Definition, conversion};
use hub_api::{Resource, Status, object};
use hub_storage::Entry;
use serde_json::Value;

use super::custom;
use super::{List, ListOptions, Registry, Selection, key};

/// How long a conversion may take.
const TIMEOUT_SECONDS: u64 = 30;
/// Objects in one request.
const MAX_OBJECTS: usize = 500;
/// Bytes of objects after which no more are added to a request: the answer is bounded too.
const MAX_BYTES: usize = 1 << 20;
/// Converted objects that are kept, and their bytes.
const MAX_KEPT: (usize, usize) = (4096, 16 << 20);

/// What tells one conversion from all others: key, revision, version, revision of the definition.
type Place = (String, u64, String, u64);

/// Conversions that were made.
#[derive(Debug, Default)]
pub(crate) struct Converted {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: BTreeMap<Place, Arc<Entry>>,
    /// The oldest first.
    order: VecDeque<Place>,
    bytes: usize,
}

impl Converted {
    fn find(&self, place: &Place) -> Option<Arc<Entry>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.entries.get(place).cloned()
    }

    fn keep(&self, place: Place, entry: Arc<Entry>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += entry.bytes.len();
        if let Some(before) = kept.entries.insert(place.clone(), entry) {
            kept.bytes -= before.bytes.len();
        } else {
            kept.order.push_back(place);
        }
        while kept.entries.len() > MAX_KEPT.0 || kept.bytes > MAX_KEPT.1 {
            let Some(oldest) = kept.order.pop_front() else { break };
            if let Some(gone) = kept.entries.remove(&oldest) {
                kept.bytes -= gone.bytes.len();
            }
        }
    }
}

fn place(resource: &Resource, definition: &Definition, entry: &Entry) -> Place {
    let version = resource.version.to_string();
    (entry.key.as_str().to_owned(), entry.revision.get(), version, definition.revision)
}

impl Registry {
    /// One object, in the version of the resource.
    ///
    /// # Errors
    /// `NotFound`, and whatever its conversion can come to.
    pub async fn read(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Arc<Entry>, Status> {
        let Some(definition) = custom::converting(resource) else {
            return self.get(resource, namespace, name);
        };
        let found = self.storage.get(&key(resource, namespace, name));
        let found = found.ok_or_else(|| resource.not_found(name))?;
        let mut converted = self.convert_entries(resource, definition, vec![found]).await?;
        converted.pop().ok_or_else(|| Status::internal("a conversion lost its object"))
    }

    /// Objects of one resource, in the version of the resource.
    ///
    /// # Errors
    /// As [`Self::list`], and whatever their conversion can come to.
    pub async fn list_converted(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<List, Status> {
        let Some(definition) = custom::converting(resource) else {
            return self.list(resource, namespace, options);
        };
        let fields = &options.selection.fields;
        let of_fields = fields.required_value("metadata.namespace");
        let namespace = namespace.or_else(|| of_fields.filter(|_| resource.namespaced));
        // What is selected is the object as it is shown.
        let mut plain = ListOptions { selection: Selection::default(), ..options.clone() };
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        loop {
            let mut part = self.list(resource, namespace, &plain)?;
            let read = std::mem::take(&mut part.entries);
            let shown = self.convert_entries(resource, definition, read).await?;
            entries.extend(shown.into_iter().filter(|it| options.selection.matches(&it.value())));
            let room = options.limit.map(|limit| limit.saturating_sub(entries.len()));
            if part.continue_token.is_empty() || room.is_none_or(|it| it == 0) {
                let remaining = part.remaining.filter(|_| options.selection.is_everything());
                return Ok(List { entries, remaining, ..part });
            }
            plain = ListOptions {
                limit: room,
                continue_token: part.continue_token,
                revision: None,
                ..plain
            };
        }
    }

    /// Stored objects in the version of the resource. In the order in which they came.
    pub(super) async fn convert_entries(
        &self,
        resource: &Resource,
        definition: &Definition,
        entries: Vec<Arc<Entry>>,
    ) -> Result<Vec<Arc<Entry>>, Status> {
        let mut out: Vec<Arc<Entry>> = Vec::with_capacity(entries.len());
        let mut missing: Vec<usize> = Vec::new();
        let wanted = resource.api_version();
        for entry in entries {
            let shown = custom::shown(resource, entry);
            if object::text(&shown.value(), "apiVersion") == wanted {
                out.push(shown);
                continue;
            }
            match self.converted.find(&place(resource, definition, &shown)) {
                Some(kept) => out.push(kept),
                None => {
                    missing.push(out.len());
                    out.push(shown);
                }
            }
        }
        for part in parts(&out, &missing) {
            let objects: Vec<Value> =
                part.iter().filter_map(|it| out.get(*it)).map(|it| it.decode()).collect();
            let made = self.convert_objects(definition, &wanted, &objects).await?;
            for (index, object) in part.iter().zip(made) {
                let Some(slot) = out.get_mut(*index) else { continue };
                let place = place(resource, definition, slot);
                *slot = slot.in_form(&object);
                self.converted.keep(place, slot.clone());
            }
        }
        Ok(out)
    }

    /// An object of the resource's version as it is stored.
    pub(super) async fn to_stored<'a>(
        &self,
        resource: &Resource,
        object: &'a Value,
    ) -> Result<Cow<'a, Value>, Status> {
        let Some(definition) = custom::converting(resource) else {
            return Ok(custom::stored(resource, object));
        };
        let wanted = format!("{}/{}", resource.group, definition.storage_version);
        self.in_version(definition, object, &wanted).await
    }

    /// An object of one version of a resource in another one.
    ///
    /// # Errors
    /// Whatever its conversion can come to.
    pub(crate) async fn in_row<'a>(
        &self,
        from: &Resource,
        to: &Resource,
        object: &'a Value,
    ) -> Result<Cow<'a, Value>, Status> {
        let wanted = to.api_version();
        if from.api_version() == wanted {
            return Ok(Cow::Borrowed(object));
        }
        match custom::converting(from) {
            Some(definition) => self.in_version(definition, object, &wanted).await,
            None => Ok(Cow::Owned(custom::in_row(from, to, object))),
        }
    }

    /// An object in another version of its definition.
    pub(super) async fn in_version<'a>(
        &self,
        definition: &Definition,
        object: &'a Value,
        api_version: &str,
    ) -> Result<Cow<'a, Value>, Status> {
        if object::text(object, "apiVersion") == api_version {
            return Ok(Cow::Borrowed(object));
        }
        let objects = std::slice::from_ref(object);
        let mut made = self.convert_objects(definition, api_version, objects).await?;
        made.pop().map(Cow::Owned).ok_or_else(|| Status::internal("a conversion lost its object"))
    }

    /// Asks the webhook of a definition.
    async fn convert_objects(
        &self,
        definition: &Definition,
        api_version: &str,
        objects: &[Value],
    ) -> Result<Vec<Value>, Status> {
        let config = definition.webhook().unwrap_or(&Value::Null);
        let uid = uuid::Uuid::new_v4().to_string();
        let (review, version) =
            definition.review(&uid, api_version, objects).map_err(Status::unknown)?;
        let body = Bytes::from(serde_json::to_vec(&review).unwrap_or_default());
        let answer = self.post_to_webhook(config, TIMEOUT_SECONDS, body).await.map_err(|why| {
            let what = objects.first().map(conversion::described).unwrap_or_default();
            Status::unknown(format!("conversion webhook for {what} failed: {why}"))
        })?;
        definition.converted(&answer, &uid, version, api_version, objects).map_err(Status::unknown)
    }
}

/// The missing ones in portions of one request each.
fn parts(entries: &[Arc<Entry>], missing: &[usize]) -> Vec<Vec<usize>> {
    let mut parts: Vec<Vec<usize>> = Vec::new();
    let mut bytes = 0;
    for index in missing {
        let size = entries.get(*index).map_or(0, |it| it.bytes.len());
        match parts.last_mut() {
            Some(part) if part.len() < MAX_OBJECTS && bytes + size <= MAX_BYTES => {
                part.push(*index);
                bytes += size;
            }
            Some(_) | None => {
                parts.push(vec![*index]);
                bytes = size;
            }
        }
    }
    parts
}
