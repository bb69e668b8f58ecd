//! ConfigMaps and Secrets.

use serde_json::Value;

use crate::status::FieldError;

/// Checks the whole object.
pub fn config_map(_object: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// Checks the whole object.
pub fn secret(_object: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// Checks a change.
pub fn config_map_update(_new: &Value, _old: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// Checks a change.
pub fn secret_update(_new: &Value, _old: &Value) -> Vec<FieldError> {
    Vec::new()
}
