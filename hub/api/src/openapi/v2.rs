//! Version 2 of OpenAPI, as the protobuf `openapi.v2.Document` of gnostic.
//!
//! Field numbers are those of
//! <https://github.com/google/gnostic-models/blob/main/openapiv2/OpenAPIv2.proto>.

use serde_json::{Value, json};

use super::descriptions::Descriptions;
use super::v3::type_name;
use super::{
    KUBERNETES_VERSION, PATCH_PARAMETERS, PATCH_TYPES, definitions, extensions, gvk, object_path,
};
use crate::resource::Resource;
use crate::schema::{self, Schema};

/// The document of all rows.
pub fn document(rows: &[Resource]) -> Vec<u8> {
    let mut paths = Message::default();
    for row in rows.iter().filter(|it| it.has_verb("patch")) {
        let mut item = Message::default();
        item.message(8, &operation(row));
        paths.named(2, &object_path(row), &item);
    }
    let mut all = Message::default();
    let descriptions = Descriptions::unpack();
    for name in definitions(rows.iter()) {
        if let Some(definition) = schema::lookup(name) {
            let mut message = schema_message(definition, |it| descriptions.of_field(name, it));
            message.description(descriptions.of(name));
            all.named(1, name, &message);
        }
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
    for content_type in PATCH_TYPES {
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
