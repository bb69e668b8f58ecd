//! Checks of the kinds of `storagemigration.k8s.io`.

use serde_json::Value;

use super::{immutable, required};
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

/// Checks a StorageVersionMigration.
pub fn migration(object: &Value) -> Vec<FieldError> {
    let spec = Path::Root.field("spec");
    let path = spec.field("resource");
    required(&object["spec"]["resource"], "resource", &path).into_iter().collect()
}

/// Checks a changed StorageVersionMigration: another resource is another migration.
pub fn migration_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let spec = Path::Root.field("spec");
    immutable(new.get("spec"), old.get("spec"), &spec).into_iter().collect()
}

/// Checks the status: what has ended stays ended, and ended one way.
pub fn migration_status(new: &Value, old: &Value) -> Vec<FieldError> {
    let status = Path::Root.field("status");
    let mut errors = Vec::new();
    let revision = |it: &Value| object::text(it, "status.resourceVersion").to_owned();
    if !revision(old).is_empty() && revision(old) != revision(new) {
        let at = status.field("resourceVersion");
        errors.push(FieldError::invalid(at, revision(new), "field is immutable"));
    }
    let wrong = [
        (
            is(new, "Succeeded") && is(new, "Failed"),
            "Both success and failed conditions cannot be true at the same time",
        ),
        (
            is(new, "Succeeded") && is(new, "Running"),
            "Running condition cannot be true when success condition is true",
        ),
        (
            is(new, "Failed") && is(new, "Running"),
            "Running condition cannot be true when failed condition is true",
        ),
        (
            is(old, "Succeeded") && !is(new, "Succeeded"),
            "Success condition cannot be set to false once it is true",
        ),
        (
            is(old, "Failed") && !is(new, "Failed"),
            "Failed condition cannot be set to false once it is true",
        ),
    ];
    for (_, why) in wrong.iter().filter(|it| it.0) {
        let conditions = new["status"]["conditions"].clone();
        errors.push(FieldError::invalid(status.field("conditions"), conditions, *why));
    }
    errors
}

fn is(object: &Value, condition: &str) -> bool {
    object::list(object, "status.conditions")
        .iter()
        .any(|it| object::text(it, "type") == condition && object::text(it, "status") == "True")
}
