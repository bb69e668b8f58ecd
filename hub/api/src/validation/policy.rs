//! Checks of the kinds of `policy`.

use serde_json::Value;

use super::{fields, not_negative, optional_one_of, selector};
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

/// Checks a PodDisruptionBudget.
pub fn budget(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = Vec::new();
    let (least, most) = (object::get(spec, "minAvailable"), object::get(spec, "maxUnavailable"));
    if least.is_some() && most.is_some() {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid(path, spec.clone(), detail));
    }
    for (field, value) in [("minAvailable", least), ("maxUnavailable", most)] {
        if let Some(value) = value {
            errors.extend(fields::count_or_share(value, &path.field(field)));
        }
    }
    errors.extend(selector::label_selector(&spec["selector"], &path.field("selector")));
    let policies = ["AlwaysAllow", "IfHealthyBudget"];
    errors.extend(optional_one_of(spec, "unhealthyPodEvictionPolicy", &path, &policies));
    errors
}

/// Checks the status of a PodDisruptionBudget.
pub fn budget_status(object: &Value) -> Vec<FieldError> {
    let status = &object["status"];
    let path = Path::Root.field("status");
    let mut errors = fields::conditions(status, &path);
    for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        errors.extend(not_negative(status, field, &path));
    }
    errors
}
