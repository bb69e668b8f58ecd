//! Kinds with few rules: configuration, namespaces, nodes, endpoints, events.

use serde_json::{Value, json};

use super::Rules;
use super::apps::WORKLOAD;
use crate::defaults::core;
use crate::names;
use crate::object;
use crate::path::Path;
use crate::validation::{self, config, limits, nodes};

/// ConfigMaps.
pub static CONFIG_MAP: Rules = Rules {
    validate: config::config_map,
    validate_update: config::config_map_update,
    ..Rules::PLAIN
};

/// Secrets.
pub static SECRET: Rules = Rules {
    default: core::secret,
    validate: config::secret,
    validate_update: config::secret_update,
    ..Rules::PLAIN
};

/// ServiceAccounts.
pub static SERVICE_ACCOUNT: Rules = Rules::PLAIN;

/// Namespaces. Their finalizers change through `finalize` alone.
pub static NAMESPACE: Rules = Rules {
    default: core::namespace,
    check_name: names::dns1123_label,
    prepare_create: |object, _| {
        let spec = object::ensure(object, "spec");
        let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
        if let Some(finalizers) = finalizers.as_array_mut()
            && !finalizers.contains(&json!("kubernetes"))
        {
            finalizers.push(json!("kubernetes"));
        }
        object["status"] = json!({"phase": "Active"});
    },
    prepare_update: keep_spec,
    holds_deletion: |object| !object::list(object, "spec.finalizers").is_empty(),
    prepare_delete: show_terminating,
    ..Rules::PLAIN
};

/// Nodes. A node registers itself together with its status.
pub static NODE: Rules = Rules {
    default: core::node,
    prepare_create: |_, _| {},
    prepare_status: |new, _| core::node(new),
    validate: nodes::node,
    validate_update: nodes::update,
    validate_status: |new, _| nodes::node(new),
    ..Rules::PLAIN
};

/// Endpoints.
pub static ENDPOINTS: Rules = Rules {
    default: core::endpoints,
    validate: validation::endpoints::endpoints,
    creates_on_update: true,
    ..Rules::PLAIN
};

/// Events.
pub static EVENT: Rules = Rules {
    default: core::event,
    validate: validation::event::event,
    creates_on_update: true,
    ..Rules::PLAIN
};

/// LimitRanges.
pub static LIMIT_RANGE: Rules = Rules {
    default: core::limit_range,
    validate: limits::limit_range,
    creates_on_update: true,
    ..Rules::PLAIN
};

/// ResourceQuotas.
pub static RESOURCE_QUOTA: Rules = Rules {
    default: core::resource_quota,
    prepare_create: |object, _| object["status"] = json!({}),
    prepare_status: |new, _| core::resource_quota(new),
    validate: limits::resource_quota,
    validate_update: limits::resource_quota_update,
    validate_status: |new, _| limits::resource_quota_status(new),
    ..Rules::PLAIN
};

/// PodTemplates.
pub static POD_TEMPLATE: Rules = Rules {
    default: core::pod_template,
    validate: |object| {
        validation::pod::template(&object["template"], &Path::Root.field("template"))
    },
    generation_fields: &["template"],
    ..Rules::PLAIN
};

/// ReplicationControllers.
pub static REPLICATION_CONTROLLER: Rules = Rules {
    default: core::replication_controller,
    prepare_create: |object, _| object["status"] = json!({"replicas": 0}),
    validate: validation::apps::replication_controller,
    validate_status: |new, _| validation::apps::replica_status(new),
    ..WORKLOAD
};

fn keep_spec(new: &mut Value, old: &Value) {
    let map = object::as_map(new);
    match old.get("spec") {
        Some(spec) => map.insert("spec".to_owned(), spec.clone()),
        None => map.remove("spec"),
    };
}

fn show_terminating(namespace: &mut Value) {
    if object::is_terminating(namespace) {
        object::ensure(namespace, "status").insert("phase".to_owned(), json!("Terminating"));
        // Kubernetes shows no grace on namespaces.
        object::ensure(namespace, "metadata").remove("deletionGracePeriodSeconds");
    }
}
