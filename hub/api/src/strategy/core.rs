//! Kinds with few rules: configuration, namespaces, nodes, endpoints, events.

use serde_json::{Value, json};

use super::Strategy;
use crate::defaults;
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;
use crate::validation;
use crate::warnings;
use crate::write::WriteContext;

/// ConfigMaps.
#[derive(Debug)]
pub struct ConfigMap;

impl Strategy for ConfigMap {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::config::config_map(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::config::config_map_update(new, old)
    }
}

/// Secrets.
#[derive(Debug)]
pub struct Secret;

impl Strategy for Secret {
    fn default(&self, object: &mut Value) {
        defaults::core::secret(object);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::config::secret(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::config::secret_update(new, old)
    }
}

/// ServiceAccounts.
#[derive(Debug)]
pub struct ServiceAccount;

impl Strategy for ServiceAccount {}

/// Namespaces.
#[derive(Debug)]
pub struct Namespace;

impl Strategy for Namespace {
    fn default(&self, object: &mut Value) {
        defaults::core::namespace(object);
    }

    fn check_name(&self, name: &str) -> Vec<String> {
        names::dns1123_label(name)
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        let spec = object::ensure(object, "spec");
        let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
        if let Some(finalizers) = finalizers.as_array_mut()
            && !finalizers.contains(&json!("kubernetes"))
        {
            finalizers.push(json!("kubernetes"));
        }
        object["status"] = json!({"phase": "Active"});
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        // Finalizers change through `finalize` alone.
        let map = object::as_map(new);
        match old.get("spec") {
            Some(spec) => map.insert("spec".to_owned(), spec.clone()),
            None => map.remove("spec"),
        };
    }

    fn holds_deletion(&self, object: &Value) -> bool {
        !object::list(object, "spec.finalizers").is_empty()
    }

    fn prepare_delete(&self, object: &mut Value) {
        if object::is_terminating(object) {
            object::ensure(object, "status").insert("phase".to_owned(), json!("Terminating"));
            // Kubernetes shows no grace on namespaces.
            object::ensure(object, "metadata").remove("deletionGracePeriodSeconds");
        }
    }
}

/// Nodes.
#[derive(Debug)]
pub struct Node;

impl Strategy for Node {
    fn default(&self, object: &mut Value) {
        defaults::core::node(object);
    }

    /// A node registers itself together with its status.
    fn prepare_create(&self, _object: &mut Value, _context: &WriteContext<'_>) {}

    fn prepare_status(&self, new: &mut Value, _old: &Value) {
        defaults::core::node(new);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::nodes::node(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::nodes::update(new, old)
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        validation::nodes::node(new)
    }
}

/// Endpoints.
#[derive(Debug)]
pub struct Endpoints;

impl Strategy for Endpoints {
    fn default(&self, object: &mut Value) {
        defaults::core::endpoints(object);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::endpoints::endpoints(object)
    }

    fn creates_on_update(&self) -> bool {
        true
    }
}

/// Events.
#[derive(Debug)]
pub struct Event;

impl Strategy for Event {
    fn default(&self, object: &mut Value) {
        defaults::core::event(object);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::event::event(object)
    }

    fn creates_on_update(&self) -> bool {
        true
    }
}

/// LimitRanges.
#[derive(Debug)]
pub struct LimitRange;

impl Strategy for LimitRange {
    fn default(&self, object: &mut Value) {
        defaults::core::limit_range(object);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::limits::limit_range(object)
    }

    fn creates_on_update(&self) -> bool {
        true
    }
}

/// ResourceQuotas.
#[derive(Debug)]
pub struct ResourceQuota;

impl Strategy for ResourceQuota {
    fn default(&self, object: &mut Value) {
        defaults::core::resource_quota(object);
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object["status"] = json!({});
    }

    fn prepare_status(&self, new: &mut Value, _old: &Value) {
        defaults::core::resource_quota(new);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::limits::resource_quota(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::limits::resource_quota_update(new, old)
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        validation::limits::resource_quota_status(new)
    }
}

/// PodTemplates.
#[derive(Debug)]
pub struct PodTemplate;

impl Strategy for PodTemplate {
    fn default(&self, object: &mut Value) {
        defaults::core::pod_template(object);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::pod::template(&object["template"], &Path::Root.field("template"))
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["template"]
    }
}

/// ReplicationControllers.
#[derive(Debug)]
pub struct ReplicationController;

impl Strategy for ReplicationController {
    fn default(&self, object: &mut Value) {
        defaults::core::replication_controller(object);
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        object["status"] = json!({"replicas": 0});
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validation::apps::replication_controller(object)
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
