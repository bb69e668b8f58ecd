//! Objects in the form that the client asked for.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use hub_api::table::{IncludeObject, TableMeta, table};
use hub_api::{Resource, Status};
use hub_storage::Entry;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Call;
use crate::registry::List;
use crate::request::accept::Form;
use crate::request::query::Query;
use crate::response::{Pieces, encode};

/// How objects of one request are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) form: Form,
    pub(super) include: IncludeObject,
    pub(super) pretty: bool,
}

impl View {
    pub(super) fn new(call: &Call, form: Form) -> Result<Self, Status> {
        let include = match call.query.text("includeObject").unwrap_or_default() {
            "" | "Metadata" => IncludeObject::Metadata,
            "Object" => IncludeObject::Object,
            "None" => IncludeObject::None,
            other => {
                return Err(Status::bad_request(format!(
                    "unrecognized includeObject value: \"{other}\""
                )));
            }
        };
        Ok(Self { form, include, pretty: wants_pretty(&call.query, &call.headers) })
    }

    /// One object.
    pub(super) fn object(
        self,
        resource: &Resource,
        bytes: Bytes,
        value: impl FnOnce() -> Value,
        now: Timestamp,
    ) -> Pieces {
        match self.form {
            Form::Plain | Form::Aggregated { .. } if self.pretty => {
                pretty_text(&resource.show(value())).into()
            }
            Form::Plain | Form::Aggregated { .. } => line(shown(resource, &bytes, value)),
            Form::Table { beta } => {
                let value = value();
                let version = hub_api::object::resource_version(&value).to_owned();
                let meta = TableMeta { resource_version: version, ..TableMeta::default() };
                let made = table(resource, [&value], meta, self.include, now);
                self.text(with_version(made, beta))
            }
            Form::Metadata { beta } => self.text(partial(&resource.show(value()), beta)),
        }
    }

    /// A value that has one form only.
    pub(super) fn value(self, value: Value) -> Pieces {
        self.text(value)
    }

    /// A list of objects.
    pub(super) fn list(self, resource: &Resource, list: &List, now: Timestamp) -> Pieces {
        let mut meta = json!({ "resourceVersion": list.revision.to_string() });
        if !list.continue_token.is_empty() {
            meta["continue"] = json!(list.continue_token);
        }
        if let Some(remaining) = list.remaining {
            meta["remainingItemCount"] = json!(remaining);
        }
        match self.form {
            Form::Plain | Form::Aggregated { .. } if self.pretty => {
                let items = list.entries.iter();
                let items: Vec<Value> = items.map(|it| resource.show(it.decode())).collect();
                self.text(json!({
                    "kind": resource.list_kind(),
                    "apiVersion": resource.api_version(),
                    "metadata": meta,
                    "items": items,
                }))
            }
            Form::Plain | Form::Aggregated { .. } => plain_list(resource, list, &meta),
            Form::Table { beta } => {
                // One after the other: decoded, a long list is many times what it is as text.
                let items = list.entries.iter().map(|it| it.value());
                let table_meta = TableMeta {
                    resource_version: list.revision.to_string(),
                    continue_token: list.continue_token.clone(),
                    remaining: list.remaining,
                };
                let made = table(resource, items, table_meta, self.include, now);
                self.text(with_version(made, beta))
            }
            Form::Metadata { beta } => {
                let items = list.entries.iter();
                let items: Vec<Value> =
                    items.map(|it| partial(&shown_value(resource, it), beta)).collect();
                self.text(json!({
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": meta_version(beta),
                    "metadata": meta,
                    "items": items,
                }))
            }
        }
    }

    /// Objects that are not stored: one alone, or a list of any number.
    pub(super) fn values(
        self,
        resource: &Resource,
        items: &[Value],
        is_alone: bool,
        now: Timestamp,
    ) -> Pieces {
        let beta = match self.form {
            Form::Plain | Form::Aggregated { .. } => {
                return self.text(match items {
                    [only] if is_alone => only.clone(),
                    items => list_of(resource.list_kind(), resource.api_version(), items),
                });
            }
            Form::Table { beta } => {
                let made = table(resource, items, TableMeta::default(), self.include, now);
                return self.text(with_version(made, beta));
            }
            Form::Metadata { beta } => beta,
        };
        let items: Vec<Value> = items.iter().map(|it| partial(it, beta)).collect();
        self.text(match items.as_slice() {
            [only] if is_alone => only.clone(),
            items => list_of(
                "PartialObjectMetadataList".to_owned(),
                meta_version(beta).to_owned(),
                items,
            ),
        })
    }

    fn text(self, value: Value) -> Pieces {
        if self.pretty { pretty_text(&value).into() } else { encode(&value).into() }
    }
}

fn list_of(kind: String, api_version: String, items: &[Value]) -> Value {
    json!({ "kind": kind, "apiVersion": api_version, "metadata": {}, "items": items })
}

/// Whether the answer is to be indented: asked for, or the client is a person's.
pub(super) fn wants_pretty(query: &Query, headers: &HeaderMap) -> bool {
    query.optional_flag("pretty").unwrap_or_else(|| {
        let agent = headers.get(http::header::USER_AGENT).and_then(|it| it.to_str().ok());
        let agent = agent.unwrap_or_default();
        ["curl", "Wget", "Mozilla/5.0"].iter().any(|it| agent.starts_with(it))
    })
}

pub(super) fn pretty_text(value: &Value) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

fn line(bytes: Bytes) -> Pieces {
    let mut pieces = Pieces::from(bytes);
    pieces.push(Bytes::from_static(b"\n"));
    pieces
}

/// The bytes of an object in the version of `resource`: the stored ones wherever that is it.
fn shown(resource: &Resource, stored: &Bytes, value: impl FnOnce() -> Value) -> Bytes {
    if resource.version_of.is_none() {
        return stored.clone();
    }
    serde_json::to_vec(&resource.show(value())).unwrap_or_default().into()
}

fn shown_value(resource: &Resource, entry: &Entry) -> Arc<Value> {
    match resource.version_of {
        None => entry.value(),
        Some(_) => Arc::new(resource.show(entry.decode())),
    }
}

/// The stored bytes, one after the other: nothing is decoded.
fn plain_list(resource: &Resource, list: &List, meta: &Value) -> Pieces {
    let head = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{meta},\"items\":[",
        resource.list_kind(),
        resource.api_version()
    );
    let mut pieces = Pieces::from(head.into_bytes());
    for (index, entry) in list.entries.iter().enumerate() {
        if index > 0 {
            pieces.push(Bytes::from_static(b","));
        }
        pieces.push(shown(resource, &entry.bytes, || entry.decode()));
    }
    pieces.push(Bytes::from_static(b"]}\n"));
    pieces
}

pub(super) fn meta_version(beta: bool) -> &'static str {
    if beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" }
}

/// The `PartialObjectMetadata` of an object.
pub(super) fn partial(object: &Value, beta: bool) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": meta_version(beta),
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

pub(super) fn with_version(mut table: Value, beta: bool) -> Value {
    if beta {
        table["apiVersion"] = json!(meta_version(true));
        for row in hub_api::object::items_mut(&mut table, "rows") {
            if let Some(object) =
                row.get_mut("object").filter(|it| it["kind"] == "PartialObjectMetadata")
            {
                object["apiVersion"] = json!(meta_version(true));
            }
        }
    }
    table
}
