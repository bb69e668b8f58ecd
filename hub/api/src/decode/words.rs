//! Places and types in the words of Go's decoder.

use std::fmt;

use crate::path::Path;
use crate::schema::{Schema, Type};

/// Last part of a definition's name: `PodSpec`.
pub(super) fn short_name(definition: &str) -> &str {
    definition.rsplit('.').next().unwrap_or_default()
}

/// A path as strict decoding tells it: keys of maps look like fields.
pub(super) struct Dotted<'a>(pub(super) &'a Path<'a>);

impl fmt::Display for Dotted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) | Path::Key(Path::Root, name) => f.write_str(name),
            Path::Field(parent, name) | Path::Key(parent, name) => {
                write!(f, "{}.{name}", Self(parent))
            }
            Path::Index(parent, index) => write!(f, "{}[{index}]", Self(parent)),
        }
    }
}

/// The field as Go tells it: no indices, no keys of maps.
pub(super) fn go_path(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Field(Path::Root, name) => (*name).to_owned(),
        Path::Field(parent, name) => format!("{}.{name}", go_path(parent)),
        Path::Index(parent, _) | Path::Key(parent, _) => go_path(parent),
    }
}

/// The Go type of a place.
pub(super) fn go_type(schema: &'static Schema) -> String {
    if let Some(reference) = &schema.reference {
        let mut parts = reference.rsplit('.');
        let (name, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        return match schema.resolved().format.as_deref() {
            Some(_) => "string".to_owned(),
            None => format!("{package}.{name}"),
        };
    }
    match (schema.ty, schema.format.as_deref()) {
        (Some(Type::Boolean), _) => "bool".to_owned(),
        (Some(Type::Integer), format) => format.unwrap_or("int64").to_owned(),
        (Some(Type::Number), _) => "float64".to_owned(),
        (Some(Type::String), Some("byte")) => "[]uint8".to_owned(),
        (Some(Type::String), _) => "string".to_owned(),
        (Some(Type::Array), _) => {
            format!(
                "[]{}",
                schema.items.as_deref().map_or_else(|| "interface {}".to_owned(), go_type)
            )
        }
        (Some(Type::Object), _) => match schema.additional_properties.as_deref() {
            Some(values) => format!("map[string]{}", go_type(values)),
            None => "map[string]interface {}".to_owned(),
        },
        (None, _) => "interface {}".to_owned(),
    }
}
