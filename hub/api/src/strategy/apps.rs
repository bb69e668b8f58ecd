//! Deployments and ReplicaSets.

use serde_json::{Value, json};

use super::Strategy;
use crate::defaults;
use crate::status::FieldError;
use crate::validation;
use crate::write::WriteContext;

/// Deployments.
#[derive(Debug)]
pub struct Deployment;

impl Strategy for Deployment {
    fn default(&self, object: &mut Value) {
        defaults::apps::deployment(object);
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object["status"] = json!({});
    }

    fn prepare_status(&self, new: &mut Value, old: &Value) {
        keep_labels(new, old);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::apps::deployment(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::apps::selector_update(new, old)
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        validation::apps::replica_status(new)
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }
}

/// ReplicaSets.
#[derive(Debug)]
pub struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn default(&self, object: &mut Value) {
        defaults::apps::replica_set(object);
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object["status"] = json!({"replicas": 0});
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::apps::replica_set(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::apps::selector_update(new, old)
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        validation::apps::replica_status(new)
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }
}

fn keep_labels(new: &mut Value, old: &Value) {
    if let Some(metadata) = new["metadata"].as_object_mut() {
        match old["metadata"].get("labels") {
            Some(labels) => metadata.insert("labels".to_owned(), labels.clone()),
            None => metadata.remove("labels"),
        };
    }
}
