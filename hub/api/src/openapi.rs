//! OpenAPI documents of what is served, derived from the rows and the schema table.
//!
//! Version 2 goes out as the protobuf of `gnostic`, for that is what kubectl decodes; version 3 as
//! one JSON document a group version. Paths hold no more than the PATCH operations, by which
//! kubectl tells what a kind accepts (`dryRun`, `fieldValidation`) and which kind a resource has.
//! The documents change only with the rows: make them once and keep them.

mod descriptions;
mod others;
mod v2;
mod v3;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::resource::Resource;
use crate::schema::{self, Schema};

pub use others::Part as V2Part;
pub use v2::document as v2_protobuf;
pub use v3::{document as v3_document, index as v3_index};

/// Version of the Kubernetes API that the schemas describe.
const KUBERNETES_VERSION: &str = "v1.37.0";

/// Definitions that no resource refers to, but requests do.
const COMMON: [&str; 3] = [
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent",
];

/// Definitions that custom resources refer to.
const OF_CUSTOM: [&str; 2] = [
    "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
];

/// Query parameters of a PATCH. kubectl asks for `dryRun` and `fieldValidation` by name.
const PATCH_PARAMETERS: [(&str, &str); 4] = [
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("pretty", "string"),
];

/// Content types of a PATCH of a row: there is no strategic patch of custom resources.
fn patch_types(row: &Resource) -> impl Iterator<Item = &'static str> {
    let is_custom = row.custom.is_some();
    PATCH_TYPES.into_iter().filter(move |it| !(is_custom && it.contains("strategic")))
}

/// Content types of a PATCH.
const PATCH_TYPES: [&str; 3] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// The names of all definitions that the rows need, however deep.
fn definitions<'a>(rows: impl Iterator<Item = &'a Resource>) -> BTreeSet<&'a str> {
    let mut found: BTreeSet<&str> = BTreeSet::new();
    let mut open: Vec<&str> = COMMON.to_vec();
    for row in rows {
        if row.custom.is_some() {
            open.extend(OF_CUSTOM);
        }
        open.push(&row.schema);
        let list = schema::definitions().get_key_value(&format!("{}List", row.schema));
        open.extend(list.map(|(name, _)| name.as_str()));
        for subresource in row.subresources.iter() {
            let wanted = row.exchanged(subresource);
            let is_wanted = |(_, it): &(&String, &Schema)| {
                it.kinds.iter().any(|(group, version, kind)| wanted == (group, version, kind))
            };
            // Kinds of options are in every group: what is exchanged has one definition.
            open.extend(
                schema::definitions().iter().find(is_wanted).map(|(name, _)| name.as_str()),
            );
        }
    }
    while let Some(name) = open.pop() {
        if let Some(definition) = schema::lookup(name)
            && found.insert(name)
        {
            add_references(definition, &mut open);
        }
    }
    found
}

fn add_references(schema: &'static Schema, open: &mut Vec<&str>) {
    open.extend(schema.reference.as_deref());
    let nested = [&schema.items, &schema.additional_properties].into_iter().flatten();
    for nested in schema.properties.values().chain(nested.map(|it| &**it)) {
        add_references(nested, open);
    }
}

/// The vendor extensions of a schema.
fn extensions(schema: &Schema) -> Vec<(&'static str, Value)> {
    let mut extensions = Vec::new();
    if !schema.kinds.is_empty() {
        let kinds = schema.kinds.iter();
        let kinds: Value = kinds.map(|(group, version, kind)| gvk(group, version, kind)).collect();
        extensions.push(("x-kubernetes-group-version-kind", kinds));
    }
    if !schema.list_map_keys.is_empty() {
        extensions.push(("x-kubernetes-list-map-keys", json!(schema.list_map_keys)));
    }
    for (name, value) in [
        ("x-kubernetes-list-type", schema.list_type.as_deref()),
        ("x-kubernetes-map-type", schema.map_type.as_deref()),
        ("x-kubernetes-patch-merge-key", schema.patch_merge_key.as_deref()),
        ("x-kubernetes-patch-strategy", schema.patch_strategy.as_deref()),
    ] {
        if let Some(value) = value {
            extensions.push((name, value.into()));
        }
    }
    extensions
}

fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({ "group": group, "kind": kind, "version": version })
}

/// The path of one object.
fn object_path(row: &Resource) -> String {
    let prefix = group_path(&row.group, &row.version);
    let namespace = if row.namespaced { "/namespaces/{namespace}" } else { "" };
    format!("/{prefix}{namespace}/{}/{{name}}", row.plural)
}

/// `api/v1` or `apis/apps/v1`.
fn group_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

#[cfg(test)]
mod tests;
