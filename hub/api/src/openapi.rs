//! OpenAPI documents of the resources that are served.

use serde_json::{Value, json};

use crate::resource::Resource;

/// The v2 document as the protobuf that kubectl reads.
pub fn v2_protobuf(_rows: &[Resource]) -> Vec<u8> {
    Vec::new()
}

/// The index of the v3 documents.
pub fn v3_index(_rows: &[Resource]) -> Value {
    json!({ "paths": {} })
}

/// The v3 document of one group version.
pub fn v3_document(_group: &str, _version: &str, _rows: &[Resource]) -> Value {
    json!({})
}
