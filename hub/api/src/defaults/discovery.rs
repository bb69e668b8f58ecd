//! Defaults of the kinds of `discovery.k8s.io`.

use serde_json::Value;

use crate::object;

/// Fills in an EndpointSlice.
pub fn endpoint_slice(object: &mut Value) {
    for port in object::items_mut(object, "ports") {
        let port = object::as_map(port);
        object::default(port, "name", "");
        object::default_text(port, "protocol", "TCP");
    }
}
