//! Request bodies in Kubernetes' protobuf.

use serde_json::Value;

use crate::status::Status;

/// Decodes a body to the JSON object that it stands for. `expected` is the schema definition to read it as when
/// the body does not name a known kind.
pub fn decode(_body: &[u8], _expected: Option<&str>) -> Result<Value, Status> {
    Err(Status::bad_request("protobuf bodies cannot be read"))
}
