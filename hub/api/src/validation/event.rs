//! Events: the older form, and the form with `eventTime` that newer recorders send.

use serde_json::Value;

use super::required;
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

/// Checks an Event.
pub fn event(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let about = Path::Root.field("involvedObject");
    let namespace = object::namespace(object);
    let involved = object::text(object, "involvedObject.namespace");
    // What lives in no namespace is told about in `default`.
    let fits = if involved.is_empty() {
        namespace == "default" || object::text(object, "involvedObject.kind").is_empty()
    } else {
        involved == namespace
    };
    if !fits {
        errors.push(FieldError::invalid(
            about.field("namespace"),
            involved,
            "does not match event.namespace",
        ));
    }
    if object::get(object, "eventTime").is_none() {
        return errors;
    }
    let root = Path::Root;
    // The core group names the controller `reportingComponent`.
    let controller = object::text(object, "reportingComponent");
    if controller.is_empty() {
        errors.push(FieldError::required(root.field("reportingController"), ""));
    } else {
        errors.extend(names::errors(
            "reportingController",
            controller,
            names::qualified_name(controller),
        ));
    }
    for field in ["reportingInstance", "action", "reason"] {
        errors.extend(required(object, field, &root));
    }
    for (field, max) in
        [("reportingInstance", 128), ("action", 128), ("reason", 128), ("message", 1024)]
    {
        let text = object::text(object, field);
        if text.len() > max {
            let detail = format!("can have at most {max} characters");
            errors.push(FieldError::invalid(root.field(field), "", detail));
        }
    }
    let ty = object::text(object, "type");
    if !matches!(ty, "Normal" | "Warning") {
        let detail = format!("has invalid value: {ty}");
        errors.push(FieldError::invalid(root.field("type"), "", detail));
    }
    errors
}
