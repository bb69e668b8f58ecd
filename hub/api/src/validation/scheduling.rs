//! Checks of the kinds of `scheduling.k8s.io`.

use serde_json::Value;

use super::{immutable, optional_one_of, same};
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

/// Greatest priority that users may define.
const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;

/// The classes of the system, by name and priority.
pub const SYSTEM_PRIORITIES: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// Checks a PriorityClass.
pub fn priority_class(object: &Value) -> Vec<FieldError> {
    let root = Path::Root;
    let name = object::name(object);
    let value = object::int(object, "value").unwrap_or(0);
    let mut errors = Vec::new();
    if name.starts_with("system-") {
        if let Some(why) = not_a_system_class(name, value, object::flag(object, "globalDefault")) {
            let meta = root.field("metadata");
            errors.push(FieldError::forbidden(
                meta.field("name"),
                format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
                ),
            ));
        }
    } else if value > HIGHEST_USER_PRIORITY {
        errors.push(FieldError::forbidden(
            "value",
            format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"),
        ));
    }
    let policies = ["Never", "PreemptLowerPriority"];
    errors.extend(optional_one_of(object, "preemptionPolicy", &root, &policies));
    errors
}

/// Checks a changed PriorityClass: pods carry its number.
pub fn priority_class_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if !same(&new["value"], &old["value"]) {
        errors.push(FieldError::forbidden("value", "may not be changed in an update."));
    }
    let at = Path::Root.field("preemptionPolicy");
    errors.extend(immutable(new.get("preemptionPolicy"), old.get("preemptionPolicy"), &at));
    errors
}

fn not_a_system_class(name: &str, value: i64, global: bool) -> Option<String> {
    let Some((_, priority)) = SYSTEM_PRIORITIES.iter().find(|(known, _)| *known == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if value != *priority {
        return Some(format!("value of {name} PriorityClass must be {priority}"));
    }
    global.then(|| format!("globalDefault of {name} PriorityClass must be false"))
}
