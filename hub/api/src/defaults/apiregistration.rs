//! Defaults of the kinds of `apiregistration.k8s.io`.

use serde_json::Value;

use crate::object;

/// Fills in an APIService.
pub fn api_service(object: &mut Value) {
    if let Some(service) = object.pointer_mut("/spec/service").and_then(Value::as_object_mut) {
        object::default(service, "port", 443);
    }
}
