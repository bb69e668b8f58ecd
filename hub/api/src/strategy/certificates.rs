//! Strategies of `certificates.k8s.io`.

use serde_json::{Value, json};

use super::Strategy;
use crate::object;
use crate::status::FieldError;
use crate::validation;
use crate::write::WriteContext;

/// CertificateSigningRequests. Who asks is written into `spec` by the API server.
#[derive(Debug)]
pub struct CertificateSigningRequest;

impl Strategy for CertificateSigningRequest {
    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object::as_map(object).insert("status".to_owned(), json!({}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        // A request never changes.
        object::as_map(new).insert("spec".to_owned(), old["spec"].clone());
    }

    fn prepare_status(&self, new: &mut Value, old: &Value) {
        // Who may sign must not approve: these conditions change through `approval` alone.
        let decided = |it: &&Value| matches!(object::text(it, "type"), "Approved" | "Denied");
        let mut conditions: Vec<Value> = object::list(new, "status.conditions")
            .iter()
            .filter(|it| !decided(it))
            .cloned()
            .collect();
        conditions.extend(object::list(old, "status.conditions").iter().filter(decided).cloned());
        let status = object::ensure(new, "status");
        if conditions.is_empty() {
            status.remove("conditions");
        } else {
            status.insert("conditions".to_owned(), conditions.into());
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::certificates::request(object)
    }

    fn validate_status(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::certificates::status_update(new, old)
    }
}
