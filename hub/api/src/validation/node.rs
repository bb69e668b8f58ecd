//! Nodes.

use serde_json::Value;

use crate::status::FieldError;

/// Checks the whole object.
pub fn node(_object: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// Checks a change.
pub fn update(_new: &Value, _old: &Value) -> Vec<FieldError> {
    Vec::new()
}
