//! Strategies of `autoscaling`.

use serde_json::{Value, json};

use super::Strategy;
use crate::defaults;
use crate::status::FieldError;
use crate::validation;
use crate::write::WriteContext;

/// HorizontalPodAutoscalers.
#[derive(Debug)]
pub struct HorizontalPodAutoscaler;

impl Strategy for HorizontalPodAutoscaler {
    fn default(&self, object: &mut Value) {
        defaults::autoscaling::horizontal_pod_autoscaler(object);
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object["status"] = json!({"desiredReplicas": 0});
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::autoscaling::horizontal_pod_autoscaler(object)
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        validation::autoscaling::status(new)
    }
}
