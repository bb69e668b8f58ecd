//! Strategies of `apps`.

use serde_json::{Value, json};

use super::Strategy;
use crate::defaults;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;
use crate::validation;
use crate::warnings;
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

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings::of_template(object, &Path::Root.field("spec").field("template"))
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

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings::of_template(object, &Path::Root.field("spec").field("template"))
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }
}

/// DaemonSets.
#[derive(Debug)]
pub struct DaemonSet;

/// Where Kubernetes shows how often the template changed, a field of older versions.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

impl Strategy for DaemonSet {
    fn default(&self, object: &mut Value) {
        defaults::apps::daemon_set(object);
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        set_template_generation(object, 1);
        object["status"] = json!({
            "currentNumberScheduled": 0, "desiredNumberScheduled": 0,
            "numberMisscheduled": 0, "numberReady": 0,
        });
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        let before = object::annotation(old, TEMPLATE_GENERATION).and_then(|it| it.parse().ok());
        let changed = new["spec"].get("template") != old["spec"].get("template");
        set_template_generation(new, before.unwrap_or(1_i64).saturating_add(changed.into()));
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::apps::daemon_set(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::apps::selector_update(new, old)
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        validation::apps::daemon_set_status(new)
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings::of_template(object, &Path::Root.field("spec").field("template"))
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }
}

/// StatefulSets.
#[derive(Debug)]
pub struct StatefulSet;

impl Strategy for StatefulSet {
    fn default(&self, object: &mut Value) {
        defaults::apps::stateful_set(object);
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object["status"] = json!({"replicas": 0, "availableReplicas": 0});
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::apps::stateful_set(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::apps::stateful_set_update(new, old)
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        validation::apps::stateful_set_status(new)
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings::of_template(object, &Path::Root.field("spec").field("template"))
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }
}

/// ControllerRevisions.
#[derive(Debug)]
pub struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn prepare_create(&self, _object: &mut Value, _context: &WriteContext<'_>) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::apps::controller_revision(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::apps::controller_revision_update(new, old)
    }
}

fn set_template_generation(object: &mut Value, generation: i64) {
    let metadata = object::ensure(object, "metadata");
    let annotations = object::as_map(metadata.entry("annotations").or_insert(Value::Null));
    annotations.insert(TEMPLATE_GENERATION.to_owned(), json!(generation.to_string()));
}

fn keep_labels(new: &mut Value, old: &Value) {
    if let Some(metadata) = new["metadata"].as_object_mut() {
        match old["metadata"].get("labels") {
            Some(labels) => metadata.insert("labels".to_owned(), labels.clone()),
            None => metadata.remove("labels"),
        };
    }
}
