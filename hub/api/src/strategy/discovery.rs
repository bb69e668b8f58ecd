//! Strategies of `discovery.k8s.io`.

use serde_json::Value;

use super::Strategy;
use crate::defaults;
use crate::status::FieldError;
use crate::validation;

/// EndpointSlices.
#[derive(Debug)]
pub struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn default(&self, object: &mut Value) {
        defaults::discovery::endpoint_slice(object);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::discovery::endpoint_slice(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::discovery::endpoint_slice_update(new, old)
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["addressType", "endpoints", "ports"]
    }
}
