//! Decoding request bodies.

use serde_json::Value;

use crate::resource::Resource;
use crate::status::Status;

/// What happens to fields that the schema does not know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FieldValidation {
    /// They are dropped silently.
    Ignore,
    /// They refuse the request.
    Strict,
    /// They are dropped with a warning.
    Warn,
}

/// The encoding of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Media {
    /// `application/json`.
    Json,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
    /// `application/yaml`.
    Yaml,
}

/// A decoded body.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object, with its kind and without nulls.
    pub object: Value,
    /// What to tell the client in `Warning` headers.
    pub warnings: Vec<String>,
}

/// Decodes an object of `resource`.
pub fn decode(
    resource: &Resource,
    body: &[u8],
    media: Media,
    _validation: FieldValidation,
) -> Result<Decoded, Status> {
    let _ = (resource, media);
    let object = serde_json::from_slice(body).map_err(|it| Status::bad_request(it.to_string()))?;
    Ok(Decoded { object, warnings: Vec::new() })
}
