//! Pods.

use serde_json::Value;

use crate::status::FieldError;

/// Checks the whole object.
pub fn pod(_object: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// Checks a change.
pub fn update(_new: &Value, _old: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// Checks a change.
pub fn ephemeral_containers_update(_new: &Value, _old: &Value) -> Vec<FieldError> {
    Vec::new()
}
