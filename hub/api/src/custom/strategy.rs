//! The rules of writes of custom resources.

use std::sync::Arc;

use serde_json::Value;

use super::check::{check_change, check_lists};
use super::rules;
use super::structural::{Node, fill, prune};
use crate::object;
use crate::status::FieldError;
use crate::strategy::Strategy;
use crate::write::WriteContext;

/// What one version of a definition asks of its objects.
#[derive(Debug)]
pub(super) struct CustomStrategy {
    pub(super) node: Arc<Node>,
    pub(super) has_status: bool,
}

impl CustomStrategy {
    fn check(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut errors = check_change(new, old, &self.node);
        errors.extend(check_lists(new, &self.node));
        // Rules count on the structure: they are evaluated only over what has it.
        if errors.is_empty() {
            errors = rules::check(new, old, &self.node);
        }
        errors
    }
}

impl Strategy for CustomStrategy {
    fn default(&self, object: &mut Value) {
        prune(object, &self.node, 0);
        fill(object, &self.node);
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        if self.has_status {
            object::as_map(object).remove("status");
        }
    }

    fn prepare_status(&self, new: &mut Value, _old: &Value) {
        self.default(new);
    }

    fn keeps_metadata_in_status(&self) -> bool {
        true
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        self.check(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        self.check(new, Some(old))
    }

    fn validate_status(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        self.check(new, Some(old))
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    /// Everything but metadata counts, and but the status where that is written apart.
    fn is_new_generation(&self, new: &Value, old: &Value) -> bool {
        let counts = |key: &str| key != "metadata" && !(self.has_status && key == "status");
        let fields = |it: &Value| {
            let map = it.as_object().cloned().unwrap_or_default();
            map.into_iter().filter(|(key, _)| counts(key)).collect::<Vec<_>>()
        };
        fields(new) != fields(old)
    }
}
