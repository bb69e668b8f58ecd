//! Deployments and ReplicaSets.

use serde_json::Value;

use crate::status::FieldError;

/// Checks the whole object.
pub fn deployment(_object: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// Checks the whole object.
pub fn replica_set(_object: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// Checks the whole object.
pub fn replica_status(_object: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// Checks a change.
pub fn selector_update(_new: &Value, _old: &Value) -> Vec<FieldError> {
    Vec::new()
}
