//! Checks of the kinds of `node.k8s.io`.

use serde_json::Value;

use super::{fields, immutable, labels, pod, same};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

/// Checks a RuntimeClass.
pub fn runtime_class(object: &Value) -> Vec<FieldError> {
    let root = Path::Root;
    let handler = object::text(object, "handler");
    let mut errors =
        fields::all_wrong(&root.field("handler"), handler, names::dns1123_label(handler));
    if let Some(fixed) = object::get(object, "overhead.podFixed") {
        let overhead = root.field("overhead");
        errors.extend(pod::resource_list(fixed, &overhead.field("podFixed")));
    }
    if let Some(scheduling) = object::get(object, "scheduling") {
        let at = root.field("scheduling");
        errors.extend(labels(&scheduling["nodeSelector"], &at.field("nodeSelector")));
        errors.extend(pod::tolerations(scheduling, &at.field("tolerations")));
        let list = at.field("tolerations");
        let tolerations = object::list(scheduling, "tolerations");
        for (i, it) in tolerations.iter().enumerate() {
            if tolerations.iter().take(i).any(|earlier| same(earlier, it)) {
                errors.push(FieldError::duplicate(list.index(i), it.clone()));
            }
        }
    }
    errors
}

/// Checks a changed RuntimeClass.
pub fn runtime_class_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let at = Path::Root.field("handler");
    immutable(new.get("handler"), old.get("handler"), &at).into_iter().collect()
}
