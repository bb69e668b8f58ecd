//! The three patches of objects: JSON patch, merge patch, strategic merge patch.

use serde_json::Value;

use crate::status::Status;

/// Applies a JSON patch (RFC 6902).
pub fn json(_document: &Value, _patch: &Value) -> Result<Value, Status> {
    Err(Status::internal("no JSON patches"))
}

/// Applies a merge patch (RFC 7386).
pub fn merge(document: &Value, _patch: &Value) -> Value {
    document.clone()
}

/// Applies a strategic merge patch to an object of the schema definition.
pub fn strategic(_document: &Value, _patch: &Value, _definition: &str) -> Result<Value, Status> {
    Err(Status::internal("no strategic merge patches"))
}
