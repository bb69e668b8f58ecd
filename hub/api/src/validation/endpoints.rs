//! Endpoints and EndpointSlices.

use serde_json::Value;

use crate::status::FieldError;

/// Checks the whole object.
pub fn endpoints(_object: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// Checks the whole object.
pub fn endpoint_slice(_object: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// Checks a change.
pub fn endpoint_slice_update(_new: &Value, _old: &Value) -> Vec<FieldError> {
    Vec::new()
}
