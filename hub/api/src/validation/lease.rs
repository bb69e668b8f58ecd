//! Leases.

use serde_json::Value;

use crate::status::FieldError;

/// Checks the whole object.
pub fn lease(_object: &Value) -> Vec<FieldError> {
    Vec::new()
}
