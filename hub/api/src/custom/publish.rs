//! Schemas of custom resources as OpenAPI documents show them.
//!
//! Version 3 says all that a schema says. Version 2 cannot: what it has no word for is left out,
//! and where that would make clients refuse what the server takes, the place is left open.

use serde_json::{Map, Value, json};

use super::Custom;
use crate::resource::Resource;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// The name of the schema of a custom kind: the group is turned around, as in Go's packages.
pub fn definition_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').rev().collect();
    parts.extend([version, kind]);
    parts.join(".")
}

/// Which document a schema is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// `/openapi/v2`.
    V2,
    /// `/openapi/v3`.
    V3,
}

impl Form {
    fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({ "$ref": format!("#/definitions/{name}") }),
            Self::V3 => json!({ "$ref": format!("#/components/schemas/{name}") }),
        }
    }

    fn described(self, name: &str, description: &str) -> Value {
        match self {
            Self::V2 => {
                let mut value = self.reference(name);
                value["description"] = description.into();
                value
            }
            // A reference may have no siblings.
            Self::V3 => json!({ "allOf": [self.reference(name)], "description": description }),
        }
    }
}

/// The names and schemas that a row of a custom resource adds to a document: the kind and its list.
pub fn schemas(row: &Resource, custom: &Custom, form: Form) -> Vec<(String, Value)> {
    let name = row.schema.to_string();
    let list = definition_name(&row.group, &row.version, &custom.list_kind);
    vec![(list, list_schema(row, custom, form)), (name, kind_schema(row, custom, form))]
}

fn gvk(row: &Resource, kind: &str) -> Value {
    json!([{ "group": row.group, "version": row.version, "kind": kind }])
}

fn kind_schema(row: &Resource, custom: &Custom, form: Form) -> Value {
    let raw = &*custom.schema;
    let is_open = raw.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    let mut schema = match form {
        Form::V2 if is_open => json!({ "type": "object" }),
        Form::V2 => simplified(raw, 0),
        Form::V3 => raw.clone(),
    };
    if !is_open || form == Form::V3 {
        add_type_meta(&mut schema, form);
    }
    schema["x-kubernetes-group-version-kind"] = gvk(row, &row.kind);
    schema
}

fn add_type_meta(schema: &mut Value, form: Form) {
    let map = crate::object::as_map(schema);
    let properties = crate::object::as_map(map.entry("properties").or_insert(Value::Null));
    properties
        .insert("apiVersion".to_owned(), json!({ "type": "string", "description": API_VERSION }));
    properties.insert("kind".to_owned(), json!({ "type": "string", "description": KIND }));
    let metadata = form.described(&format!("{META}.ObjectMeta"), METADATA);
    properties.insert("metadata".to_owned(), metadata);
}

fn list_schema(row: &Resource, custom: &Custom, form: Form) -> Value {
    let plural = &row.plural;
    json!({
        "type": "object",
        "description": format!("{} is a list of {}", custom.list_kind, row.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string", "description": API_VERSION },
            "kind": { "type": "string", "description": KIND },
            "metadata": form.described(&format!("{META}.ListMeta"), "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"),
            "items": {
                "type": "array",
                "description": format!("List of {plural}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"),
                "items": form.reference(&row.schema),
            },
        },
        "x-kubernetes-group-version-kind": gvk(row, &custom.list_kind),
    })
}

/// What version 2 can say of a schema.
fn simplified(schema: &Value, depth: u8) -> Value {
    const LEFT_OUT: [&str; 9] = [
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "nullable",
        "default",
        "example",
        "externalDocs",
        "x-kubernetes-validations",
    ];
    let Some(map) = schema.as_object() else { return json!({}) };
    let flag = |key: &str| map.get(key) == Some(&Value::Bool(true));
    let mut out: Map<String, Value> = map
        .iter()
        .filter(|(key, _)| !LEFT_OUT.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    // Clients that check for themselves would refuse what these places take.
    let is_open = flag("nullable")
        || flag("x-kubernetes-preserve-unknown-fields")
        || flag("x-kubernetes-int-or-string")
        || depth > super::structural::MAX_SCHEMA_DEPTH;
    if is_open {
        for key in ["type", "items", "properties", "additionalProperties", "required"] {
            out.remove(key);
        }
        return out.into();
    }
    if let Some(Value::Object(properties)) = out.get_mut("properties") {
        for value in properties.values_mut() {
            *value = simplified(value, depth + 1);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(value) = out.get_mut(key).filter(|it| it.is_object()) {
            *value = simplified(value, depth + 1);
        }
    }
    if flag("x-kubernetes-embedded-resource") {
        let mut value = Value::Object(out);
        add_type_meta(&mut value, Form::V2);
        return value;
    }
    out.into()
}
