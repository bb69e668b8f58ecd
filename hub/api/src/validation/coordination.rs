//! Leases.

use serde_json::Value;

use super::not_negative;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

/// Checks a Lease.
pub fn lease(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = Vec::new();
    if let Some(seconds) = object::int(spec, "leaseDurationSeconds").filter(|it| *it <= 0) {
        errors.push(FieldError::invalid(
            path.field("leaseDurationSeconds"),
            seconds,
            "must be greater than 0",
        ));
    }
    errors.extend(not_negative(spec, "leaseTransitions", &path));
    errors
}
