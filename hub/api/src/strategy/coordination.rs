//! Strategies of `coordination.k8s.io`.

use serde_json::Value;

use super::Strategy;
use crate::status::FieldError;
use crate::validation;

/// Leases.
#[derive(Debug)]
pub struct Lease;

impl Strategy for Lease {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::coordination::lease(object)
    }

    fn creates_on_update(&self) -> bool {
        true
    }
}
