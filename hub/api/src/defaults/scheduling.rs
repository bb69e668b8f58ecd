//! Defaults of the kinds of `scheduling.k8s.io`.

use serde_json::Value;

use crate::object;

/// Fills in a PriorityClass.
pub fn priority_class(object: &mut Value) {
    let map = object::as_map(object);
    object::default(map, "value", 0);
    object::default(map, "preemptionPolicy", "PreemptLowerPriority");
}
