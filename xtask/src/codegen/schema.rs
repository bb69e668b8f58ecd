//! Shrinks the published OpenAPI definitions to what the hub needs.
//!
//! The publisher writes references as `#/$defs/` and allows null everywhere but in required fields;
//! both are undone here, because null equals absent for the whole API.

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use super::go_source::Structs;

/// Keys that are kept, and their short names.
const KEPT: [(&str, &str); 7] = [
    ("format", "format"),
    ("required", "required"),
    ("x-kubernetes-list-type", "listType"),
    ("x-kubernetes-list-map-keys", "listMapKeys"),
    ("x-kubernetes-map-type", "mapType"),
    ("x-kubernetes-patch-merge-key", "patchMergeKey"),
    ("x-kubernetes-patch-strategy", "patchStrategy"),
];

/// Definitions whose content is open or has two types, by their last name.
const SPECIAL: [(&str, &str); 9] = [
    (".intstr.IntOrString", r#"{"type":"string","format":"int-or-string"}"#),
    (".resource.Quantity", r#"{"type":"string","format":"quantity"}"#),
    (".runtime.RawExtension", r#"{"type":"object","open":true}"#),
    (".meta.v1.FieldsV1", r#"{"type":"object","open":true}"#),
    (".meta.v1.Patch", r#"{"type":"object","open":true}"#),
    (".v1.JSON", r#"{"open":true}"#),
    (".v1.JSONSchemaPropsOrArray", r#"{"open":true}"#),
    (".v1.JSONSchemaPropsOrBool", r#"{"open":true}"#),
    (".v1.JSONSchemaPropsOrStringArray", r#"{"open":true}"#),
];

/// The content of `schema.json.gz`.
pub(super) fn compact(published: &Value, structs: &Structs) -> anyhow::Result<Value> {
    let definitions = published["$defs"].as_object().context("no $defs")?;
    let mut compacted = Map::new();
    for (name, schema) in definitions {
        let mut schema = match SPECIAL.iter().find(|(suffix, _)| name.ends_with(suffix)) {
            Some((_, text)) => serde_json::from_str(text)?,
            None => compact_schema(schema).with_context(|| name.clone())?,
        };
        add_defaults(&mut schema, structs.get(name).map_or(&[], Vec::as_slice));
        compacted.insert(name.clone(), schema);
    }
    Ok(json!({ "definitions": compacted }))
}

/// The content of one of the `descriptions-….json.gz`: the core group, or all others.
pub(super) fn descriptions(published: &Value, is_core: bool) -> anyhow::Result<Value> {
    let definitions = published["$defs"].as_object().context("no $defs")?;
    let mut described = Map::new();
    for (name, schema) in definitions {
        let is_stable = !name.split('.').any(|it| it.contains("alpha") || it.contains("beta"));
        if !is_stable || name.starts_with("io.k8s.api.core.") != is_core {
            continue;
        }
        let mut texts = Map::new();
        let properties = schema["properties"].as_object().into_iter().flatten();
        // These two say the same everywhere.
        let properties = properties.filter(|(name, _)| *name != "apiVersion" && *name != "kind");
        let all = properties.map(|(name, it)| (name.as_str(), it)).chain([("", schema)]);
        for (field, place) in all {
            if let Some(text) = place["description"].as_str() {
                texts.insert(field.to_owned(), text.into());
            }
        }
        described.insert(name.clone(), texts.into());
    }
    Ok(described.into())
}

fn compact_schema(schema: &Value) -> anyhow::Result<Value> {
    let mut compacted = Map::new();
    let ty = &schema["type"];
    let real = match ty.as_array() {
        Some(types) => types.iter().find(|it| *it != "null").context("only null")?,
        None => ty,
    };
    if real.is_string() {
        compacted.insert("type".into(), real.clone());
    } else if !real.is_null() {
        bail!("type {real}");
    }
    for (long, short) in KEPT {
        if let Some(value) = schema.get(long) {
            compacted.insert(short.into(), value.clone());
        }
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.strip_prefix("#/$defs/").context("foreign reference")?;
        compacted.insert("ref".into(), name.into());
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(nested_schema) = schema.get(nested) {
            compacted.insert(nested.into(), compact_schema(nested_schema)?);
        }
    }
    if let Some(properties) = schema["properties"].as_object() {
        let properties: anyhow::Result<Map<String, Value>> =
            properties.iter().map(|(name, it)| Ok((name.clone(), compact_schema(it)?))).collect();
        compacted.insert("properties".into(), properties?.into());
    }
    if let Some(kinds) = schema["x-kubernetes-group-version-kind"].as_array() {
        let kinds = kinds.iter().map(|it| json!([it["group"], it["version"], it["kind"]]));
        compacted.insert("kinds".into(), kinds.collect());
    }
    Ok(compacted.into())
}

fn add_defaults(schema: &mut Value, fields: &[super::go_source::Field]) {
    for field in fields {
        let (Some(name), Some(default)) = (&field.json_name, &field.default) else { continue };
        if let Some(property) = schema["properties"].get_mut(name).and_then(Value::as_object_mut) {
            property.insert("default".into(), default.clone());
        }
    }
}
