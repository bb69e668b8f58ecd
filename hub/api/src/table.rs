//! Tables: what `kubectl get` prints. The server computes the cells, the client only aligns them.
//!
//! `columns` says which columns a resource has and where each cell comes from; cells that are more
//! than a field are computed in the files named after their objects, in the words of Kubernetes'
//! printers.

mod columns;

mod event;
mod network;
mod node;
mod pod;
mod storage;
mod usage;
mod workload;

mod cells;
mod duration;

use std::ops::Deref;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::resource::Resource;
use columns::{Cell, Column};

pub use duration::human_duration;

/// What a table tells about the list it stands for.
#[derive(Clone, Debug, Default)]
pub struct TableMeta {
    /// Revision of the list.
    pub resource_version: String,
    /// Token of the next page, empty on the last.
    pub continue_token: String,
    /// How many objects come after this page, if known.
    pub remaining: Option<u64>,
}

/// What each row carries beside its cells.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum IncludeObject {
    /// The whole object.
    Object,
    /// Its metadata as `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// Nothing.
    None,
}

/// Makes the `meta.k8s.io/v1` table of objects, which come as they are stored.
pub fn table(
    resource: &Resource,
    items: impl IntoIterator<Item = impl Deref<Target = Value>>,
    meta: TableMeta,
    include: IncludeObject,
    now: Timestamp,
) -> Value {
    if let Some(custom) = &resource.custom {
        return custom_table(&custom.columns, resource, items, meta, include, now);
    }
    let columns = columns::of(&resource.group, &resource.plural);
    let rows: Vec<Value> =
        items.into_iter().map(|it| row(columns, &it, resource, include, now)).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_meta(meta),
        "columnDefinitions": columns.iter().map(definition).collect::<Vec<Value>>(),
        "rows": rows,
    })
}

/// The table of custom resources, with the columns of their definition.
fn custom_table(
    columns: &[crate::custom::columns::Column],
    resource: &Resource,
    items: impl IntoIterator<Item = impl Deref<Target = Value>>,
    meta: TableMeta,
    include: IncludeObject,
    now: Timestamp,
) -> Value {
    let row = |object: &Value| {
        let cells: Vec<Value> = columns.iter().map(|it| it.cell(object, now)).collect();
        with_object(json!({ "cells": cells }), object, resource, include)
    };
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_meta(meta),
        "columnDefinitions": columns.iter().map(|it| it.definition()).collect::<Vec<Value>>(),
        "rows": items.into_iter().map(|it| row(&it)).collect::<Vec<Value>>(),
    })
}

fn list_meta(meta: TableMeta) -> Value {
    let mut value = Map::new();
    if !meta.resource_version.is_empty() {
        value.insert("resourceVersion".to_owned(), meta.resource_version.into());
    }
    if !meta.continue_token.is_empty() {
        value.insert("continue".to_owned(), meta.continue_token.into());
    }
    if let Some(remaining) = meta.remaining {
        value.insert("remainingItemCount".to_owned(), remaining.into());
    }
    value.into()
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.ty,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}

fn row(
    columns: &[Column],
    object: &Value,
    resource: &Resource,
    include: IncludeObject,
    now: Timestamp,
) -> Value {
    let cells: Vec<Value> = columns.iter().map(|it| cell(it.cell, object, now)).collect();
    let mut row = json!({ "cells": cells });
    if (&*resource.group, &*resource.plural) == ("", "pods")
        && let Some(condition) = pod::row_condition(object)
    {
        row["conditions"] = json!([condition]);
    }
    with_object(row, object, resource, include)
}

/// Adds to a row what it carries beside its cells.
fn with_object(
    mut row: Value,
    object: &Value,
    resource: &Resource,
    include: IncludeObject,
) -> Value {
    match include {
        IncludeObject::Object => {
            let mut object = resource.show(object.clone());
            object["kind"] = json!(resource.kind);
            object["apiVersion"] = resource.api_version().into();
            row["object"] = object;
        }
        IncludeObject::Metadata => {
            row["object"] = json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object["metadata"],
            });
        }
        IncludeObject::None => {}
    }
    row
}

fn cell(cell: Cell, object: &Value, now: Timestamp) -> Value {
    let at = |path: &str| object.pointer(path).filter(|it| !it.is_null());
    match cell {
        Cell::Age => cells::age(at("/metadata/creationTimestamp"), now).into(),
        Cell::Boolean(path) => at(path).and_then(Value::as_bool).unwrap_or_default().into(),
        Cell::Computed(compute) => compute(object),
        Cell::ComputedSince(compute) => compute(object, now),
        Cell::Count(paths) => {
            let sizes = paths.iter().map(|path| cells::size(at(path)));
            sizes.sum::<usize>().into()
        }
        Cell::Integer(path) => at(path).cloned().unwrap_or_else(|| 0.into()),
        Cell::Text(path, missing) => match at(path) {
            None => missing.into(),
            Some(Value::String(text)) if text.is_empty() => missing.into(),
            Some(Value::String(text)) => text.as_str().into(),
            Some(other) => other.to_string().into(),
        },
    }
}

#[cfg(test)]
mod tests;
