//! Defaults of the kinds of `node.k8s.io`.

use serde_json::Value;

use super::pod;

/// Writes the overhead of a RuntimeClass as everybody writes it.
pub fn runtime_class(object: &mut Value) {
    if let Some(fixed) = object.pointer_mut("/overhead/podFixed") {
        pod::resource_list(fixed);
    }
}
