//! The three patches of objects: JSON patch (RFC 6902), merge patch (RFC 7386) and Kubernetes'
//! strategic merge patch, which merges lists by the keys that the schema names.
//!
//! A patch never sees defaults or validation; the caller writes the result like an update.

mod go_value;
mod strategic;

use std::borrow::Cow;

use serde_json::Value;

use crate::status::{Details, Status};

/// Most operations that a JSON patch may have.
const MAX_JSON_OPERATIONS: usize = 10_000;

/// Applies a JSON patch.
pub fn json(document: &Value, patch: &Value) -> Result<Value, Status> {
    let patch: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|err| Status::bad_request(format!("could not read the JSON patch: {err}")))?;
    let count = patch.0.len();
    if count > MAX_JSON_OPERATIONS {
        return Err(Status::request_entity_too_large(&format!(
            "The allowed maximum operations in a JSON patch is {MAX_JSON_OPERATIONS}, got {count}"
        )));
    }
    let mut document = document.clone();
    json_patch::patch(&mut document, &patch).map_err(|_| unprocessable())?;
    Ok(document)
}

/// Applies a merge patch.
pub fn merge(document: &Value, patch: &Value) -> Value {
    let mut document = document.clone();
    json_patch::merge(&mut document, patch);
    document
}

/// Applies a strategic merge patch to an object of the schema definition.
pub fn strategic(document: &Value, patch: &Value, definition: &str) -> Result<Value, Status> {
    strategic::apply(document, patch, definition).map_err(|err| {
        if err.is_about_content() { unprocessable() } else { Status::bad_request(err.to_string()) }
    })
}

/// What Kubernetes answers when a well-formed patch does not fit the object.
fn unprocessable() -> Status {
    Status {
        code: 422,
        reason: Cow::Borrowed("Invalid"),
        message: "the server rejected our request due to an error in our request".to_owned(),
        details: Some(Box::new(Details::default())),
        continue_token: None,
    }
}

#[cfg(test)]
mod tests;
