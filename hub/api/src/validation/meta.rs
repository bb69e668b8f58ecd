//! Metadata of every object.

use serde_json::Value;

use crate::resource::Resource;
use crate::status::FieldError;

/// Checks metadata.
pub fn validate(_object: &Value, _resource: &Resource) -> Vec<FieldError> {
    Vec::new()
}

/// Checks changed metadata.
pub fn validate_update(_new: &Value, _old: &Value, _resource: &Resource) -> Vec<FieldError> {
    Vec::new()
}
