//! Services. Their addresses are allocated by the server, not here.

use serde_json::{Value, json};

use super::Strategy;
use crate::defaults;
use crate::names;
use crate::status::FieldError;
use crate::validation;
use crate::write::WriteContext;

/// Services.
#[derive(Debug)]
pub struct Service;

impl Strategy for Service {
    fn default(&self, object: &mut Value) {
        defaults::service::service(object);
    }

    fn check_name(&self, name: &str) -> Vec<String> {
        names::dns1035_label(name)
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object["status"] = json!({"loadBalancer": {}});
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        defaults::service::keep_allocations(new, old);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::service::service(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::service::update(new, old)
    }

    fn creates_on_update(&self) -> bool {
        true
    }
}
