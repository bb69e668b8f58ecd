//! Version 3 of OpenAPI, in JSON.

use serde_json::{Map, Value, json};

use super::descriptions::Descriptions;
use super::{
    KUBERNETES_VERSION, PATCH_PARAMETERS, definitions, extensions, group_path, gvk, object_path,
    patch_types,
};
use crate::custom::publish;
use crate::discovery;
use crate::resource::Resource;
use crate::schema::{self, Schema, Type};

/// The index of the documents. The hash in their addresses lets clients keep them.
pub fn index(rows: &[Resource]) -> Value {
    let descriptions = Descriptions::unpack();
    let mut paths = Map::new();
    for group in discovery::groups(rows) {
        for version in discovery::versions(group, rows) {
            let path = group_path(group, version);
            let hash = fnv(described(group, version, rows, &descriptions).to_string().as_bytes());
            let url = format!("/openapi/v3/{path}?hash={hash:016X}");
            paths.insert(path, json!({ "serverRelativeURL": url }));
        }
    }
    json!({ "paths": paths })
}

/// The document of one group version.
pub fn document(group: &str, version: &str, rows: &[Resource]) -> Value {
    described(group, version, rows, &Descriptions::unpack())
}

fn described(group: &str, version: &str, rows: &[Resource], descriptions: &Descriptions) -> Value {
    let rows = || rows.iter().filter(|it| it.group == group && it.version == version);
    let paths: Map<String, Value> = rows()
        .filter(|it| it.has_verb("patch"))
        .map(|it| (object_path(it), json!({ "patch": operation(it) })))
        .collect();
    let custom = rows().filter_map(|row| Some((row, row.custom.as_ref()?)));
    let custom = custom.flat_map(|(row, it)| publish::schemas(row, it, publish::Form::V3));
    let schemas: Map<String, Value> = definitions(rows())
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), definition_value(name, descriptions)?)))
        .chain(custom)
        .collect();
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": KUBERNETES_VERSION },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn operation(row: &Resource) -> Value {
    let parameters: Vec<Value> = PATCH_PARAMETERS
        .iter()
        .map(|(name, ty)| {
            json!({ "in": "query", "name": name, "schema": { "type": ty, "uniqueItems": true } })
        })
        .collect();
    let content: Map<String, Value> =
        patch_types(row).map(|it| (it.to_owned(), json!({}))).collect();
    json!({
        "parameters": parameters,
        "requestBody": { "content": content, "required": true },
        "responses": { "200": { "description": "OK" } },
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": gvk(&row.group, &row.version, &row.kind),
    })
}

fn definition_value(name: &str, descriptions: &Descriptions) -> Option<Value> {
    let definition = schema::lookup(name)?;
    let mut value = schema_value(definition);
    if let Some(text) = descriptions.of(name) {
        value["description"] = text.into();
    }
    for field in definition.properties.keys() {
        let Some(text) = descriptions.of_field(name, field) else { continue };
        let property = &mut value["properties"][field];
        // A reference may have no siblings.
        if let Some(reference) = property.get("$ref").cloned() {
            *property = json!({ "allOf": [{ "$ref": reference }] });
        }
        property["description"] = text.into();
    }
    Some(value)
}

fn schema_value(schema: &Schema) -> Value {
    let mut value = Map::new();
    let mut set = |key: &str, it: Value| value.insert(key.to_owned(), it);
    match schema.format.as_deref() {
        Some("quantity") => return json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
        Some(format @ "int-or-string") => {
            let types = json!([{ "type": "integer" }, { "type": "string" }]);
            return json!({ "format": format, "oneOf": types });
        }
        Some(format) => {
            set("format", format.into());
        }
        None => {}
    }
    if let Some(ty) = schema.ty {
        set("type", type_name(ty).into());
    }
    if !schema.required.is_empty() {
        set("required", json!(schema.required));
    }
    if !schema.properties.is_empty() {
        let properties = schema.properties.iter();
        let properties = properties.map(|(name, it)| (name.clone(), schema_value(it)));
        set("properties", Value::Object(properties.collect()));
    }
    for (key, nested) in
        [("items", &schema.items), ("additionalProperties", &schema.additional_properties)]
    {
        if let Some(nested) = nested {
            set(key, schema_value(nested));
        }
    }
    if let Some(default) = &schema.default {
        set("default", Value::clone(default));
    }
    for (name, extension) in extensions(schema) {
        set(name, extension);
    }
    if let Some(name) = &schema.reference {
        let reference = json!({ "$ref": format!("#/components/schemas/{name}") });
        if value.is_empty() {
            return reference;
        }
        // A reference may have no siblings.
        value.insert("allOf".to_owned(), json!([reference]));
    }
    value.into()
}

pub(super) fn type_name(ty: Type) -> &'static str {
    match ty {
        Type::Object => "object",
        Type::Array => "array",
        Type::String => "string",
        Type::Integer => "integer",
        Type::Number => "number",
        Type::Boolean => "boolean",
    }
}

/// FNV-1a: enough to tell two documents apart.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
