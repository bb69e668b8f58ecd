//! Version 2 of OpenAPI, as the protobuf `openapi.v2.Document` of gnostic.
//!
//! Field numbers are those of
//! <https://github.com/google/gnostic-models/blob/main/openapiv2/OpenAPIv2.proto>.

mod item;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::descriptions::Descriptions;
use super::others::{Part, merged};
use super::v3::type_name;
use super::{
    KUBERNETES_VERSION, PATCH_PARAMETERS, definitions, extensions, gvk, object_path, patch_types,
};
use crate::custom::publish;
use crate::resource::Resource;
use crate::schema::{self, Schema};

/// The document of all rows, with what other servers say of theirs.
pub fn document(rows: &[Resource], others: &[Arc<Part>]) -> Vec<u8> {
    let mut paths = Message::default();
    for row in rows.iter().filter(|it| it.has_verb("patch")) {
        let mut item = Message::default();
        item.message(8, &operation(row));
        paths.named(2, &object_path(row), &item);
    }
    let mut all = Message::default();
    let descriptions = Descriptions::unpack();
    let mut known: BTreeSet<&str> = definitions(rows.iter());
    for name in &known {
        if let Some(definition) = schema::lookup(name) {
            let mut message = schema_message(definition, |it| descriptions.of_field(name, it));
            message.description(descriptions.of(name));
            all.named(1, name, &message);
        }
    }
    let custom = rows.iter().filter_map(|row| Some((row, row.custom.as_ref()?)));
    let custom: Vec<(String, Value)> =
        custom.flat_map(|(row, it)| publish::schemas(row, it, publish::Form::V2)).collect();
    for (name, schema) in &custom {
        all.named(1, name, &json_message(schema, 0));
        known.insert(name);
    }
    let others = merged(others, &known);
    for (path, item) in &others.paths {
        paths.named(2, path, &item::path_item(item));
    }
    for (name, schema) in &others.definitions {
        all.named(1, name, &json_message(schema, 0));
    }
    let mut info = Message::default();
    info.text(1, "Kubernetes");
    info.text(2, KUBERNETES_VERSION);

    let mut document = Message::default();
    document.text(1, "2.0");
    document.message(2, &info);
    document.message(8, &paths);
    document.message(9, &all);
    document.0
}

fn operation(row: &Resource) -> Message {
    let mut operation = Message::default();
    for content_type in patch_types(row) {
        operation.text(7, content_type);
    }
    for (name, ty) in PATCH_PARAMETERS {
        let mut query = Message::default();
        query.text(2, "query");
        query.text(4, name);
        query.text(6, ty);
        query.flag(20);
        // ParametersItem, Parameter and NonBodyParameter are each a choice around the next.
        operation.message(8, &query.within(3).within(2).within(1));
    }
    operation.extension(13, "x-kubernetes-action", &json!("patch"));
    let kind = gvk(&row.group, &row.version, &row.kind);
    operation.extension(13, "x-kubernetes-group-version-kind", &kind);
    operation
}

fn schema_message<'a>(schema: &Schema, describe: impl Fn(&str) -> Option<&'a str>) -> Message {
    let plain = |it: &Schema| schema_message(it, nothing);
    let mut message = Message::default();
    if let Some(name) = &schema.reference {
        message.text(1, &format!("#/definitions/{name}"));
    }
    // Clients know no such format as `quantity`.
    if let Some(format) = schema.format.as_deref().filter(|it| *it != "quantity") {
        message.text(2, format);
    }
    for name in &schema.required {
        message.text(19, name);
    }
    if let Some(values) = &schema.additional_properties {
        message.message(21, &plain(values).within(1));
    }
    if let Some(ty) = schema.ty {
        let mut types = Message::default();
        types.text(1, type_name(ty));
        message.message(22, &types);
    }
    if let Some(items) = &schema.items {
        message.message(23, &plain(items).within(1));
    }
    if !schema.properties.is_empty() {
        let mut properties = Message::default();
        for (name, property) in &schema.properties {
            let mut property = plain(property);
            property.description(describe(name));
            properties.named(1, name, &property);
        }
        message.message(25, &properties);
    }
    for (name, value) in extensions(schema) {
        message.extension(31, name, &value);
    }
    message
}

/// A schema that was written as JSON. What the protobuf has no place for is left out.
fn json_message(schema: &Value, depth: u8) -> Message {
    let mut message = Message::default();
    if depth > 64 {
        return message;
    }
    let text = |key: &str| schema.get(key).and_then(Value::as_str);
    for (number, key) in [(1, "$ref"), (2, "format"), (3, "title"), (4, "description")] {
        if let Some(text) = text(key) {
            message.text(number, text);
        }
    }
    for (number, key) in [(7, "maximum"), (9, "minimum")] {
        if let Some(value) = schema.get(key).and_then(Value::as_f64).filter(|it| *it != 0.0) {
            message.double(number, value);
        }
    }
    for (number, key) in [(8, "exclusiveMaximum"), (10, "exclusiveMinimum"), (16, "uniqueItems")] {
        if schema.get(key) == Some(&Value::Bool(true)) {
            message.flag(number);
        }
    }
    let counts = [
        (11, "maxLength"),
        (12, "minLength"),
        (14, "maxItems"),
        (15, "minItems"),
        (17, "maxProperties"),
        (18, "minProperties"),
    ];
    for (number, key) in counts {
        if let Some(count) = schema.get(key).and_then(Value::as_u64).filter(|it| *it != 0) {
            message.count(number, count);
        }
    }
    if let Some(pattern) = text("pattern") {
        message.text(13, pattern);
    }
    let items = |key: &str| schema.get(key).and_then(Value::as_array).into_iter().flatten();
    for name in items("required").filter_map(Value::as_str) {
        message.text(19, name);
    }
    for value in items("enum") {
        let mut any = Message::default();
        any.text(2, &value.to_string());
        message.message(20, &any);
    }
    if let Some(values) = schema.get("additionalProperties").filter(|it| it.is_object()) {
        message.message(21, &json_message(values, depth + 1).within(1));
    }
    if let Some(ty) = text("type") {
        let mut types = Message::default();
        types.text(1, ty);
        message.message(22, &types);
    }
    if let Some(items) = schema.get("items").filter(|it| it.is_object()) {
        message.message(23, &json_message(items, depth + 1).within(1));
    }
    if let Some(map) = schema.get("properties").and_then(Value::as_object) {
        let mut properties = Message::default();
        for (name, property) in map {
            properties.named(1, name, &json_message(property, depth + 1));
        }
        message.message(25, &properties);
    }
    message.extensions(31, schema);
    message
}

/// Describes no field: only those of definitions are described.
fn nothing<'a>(_field: &str) -> Option<&'a str> {
    None
}

/// A protobuf message under construction.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.varint(u64::from(number << 3 | 2));
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, number: u32, text: &str) {
        self.bytes(number, text.as_bytes());
    }

    /// Describes a schema.
    fn description(&mut self, text: Option<&str>) {
        if let Some(text) = text {
            self.text(4, text);
        }
    }

    fn message(&mut self, number: u32, message: &Self) {
        self.bytes(number, &message.0);
    }

    fn double(&mut self, number: u32, value: f64) {
        self.varint(u64::from(number << 3 | 1));
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn count(&mut self, number: u32, value: u64) {
        self.varint(u64::from(number << 3));
        self.varint(value);
    }

    /// Sets a boolean to true.
    fn flag(&mut self, number: u32) {
        self.varint(u64::from(number << 3));
        self.varint(1);
    }

    /// Adds a `Named…` message: name and value.
    fn named(&mut self, number: u32, name: &str, value: &Self) {
        let mut named = Self::default();
        named.text(1, name);
        named.message(2, value);
        self.message(number, &named);
    }

    /// Adds a vendor extension. Its value is YAML, of which JSON is a part.
    fn extension(&mut self, number: u32, name: &str, value: &Value) {
        let mut any = Self::default();
        any.text(2, &value.to_string());
        self.named(number, name, &any);
    }

    /// Adds the vendor extensions of something written as JSON.
    fn extensions(&mut self, number: u32, it: &Value) {
        for (name, value) in it.as_object().into_iter().flatten() {
            if name.starts_with("x-") {
                self.extension(number, name, value);
            }
        }
    }

    /// Makes this the only field of another message.
    fn within(&self, number: u32) -> Self {
        let mut outer = Self::default();
        outer.message(number, self);
        outer
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bounds_a_schema_has_the_numbers_of_gnostic() {
        for (schema, expected) in [
            (json!({"maximum": 2.0}), &[7 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 64][..]),
            (json!({"exclusiveMaximum": true}), &[8 << 3, 1]),
            (json!({"minimum": 2.0}), &[9 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 64]),
            (json!({"exclusiveMinimum": true}), &[10 << 3, 1]),
            (json!({"maxLength": 9}), &[11 << 3, 9]),
            (json!({"minLength": 9}), &[12 << 3, 9]),
            (json!({"pattern": "a"}), &[13 << 3 | 2, 1, b'a']),
            (json!({"maxItems": 9}), &[14 << 3, 9]),
            (json!({"minItems": 9}), &[15 << 3, 9]),
            (json!({"uniqueItems": true}), &[0x80, 1, 1]),
            (json!({"maxProperties": 9}), &[0x88, 1, 9]),
            (json!({"minProperties": 9}), &[0x90, 1, 9]),
        ] {
            assert_eq!(json_message(&schema, 0).0, expected, "{schema}");
        }
    }
}
