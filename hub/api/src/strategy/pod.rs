//! Pods.

use serde_json::{Value, json};

use super::Strategy;
use crate::defaults;
use crate::object;
use crate::status::FieldError;
use crate::validation;
use crate::warnings;
use crate::write::WriteContext;

/// Pods.
#[derive(Debug)]
pub struct Pod;

impl Strategy for Pod {
    fn default(&self, object: &mut Value) {
        defaults::pod::pod(object);
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        let class = defaults::pod::qos_class(object);
        object["status"] = json!({"phase": "Pending", "qosClass": class});
        if !object::list(object, "spec.schedulingGates").is_empty() {
            object["status"]["conditions"] = json!([{
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null,
                "lastTransitionTime": null,
            }]);
        }
    }

    fn prepare_status(&self, new: &mut Value, old: &Value) {
        defaults::pod::status(new);
        // The class is decided once, at creation.
        if let Some(class) = object::get(old, "status.qosClass") {
            object::ensure(new, "status").insert("qosClass".to_owned(), class.clone());
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::pod::pod(object)
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        validation::pod::create(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::pod::update(new, old)
    }

    fn validate_status(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::pod::status_update(new, old)
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings::pod(object)
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn grace_period(&self, object: &Value, wanted: Option<i64>) -> Option<i64> {
        let unscheduled = object::text(object, "spec.nodeName").is_empty();
        let finished = matches!(object::text(object, "status.phase"), "Failed" | "Succeeded");
        if unscheduled || finished {
            return Some(0);
        }
        wanted.or_else(|| object::int(object, "spec.terminationGracePeriodSeconds")).or(Some(0))
    }
}
