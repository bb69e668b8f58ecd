//! Strategies of `apps`.

use serde_json::{Value, json};

use super::Rules;
use crate::defaults;
use crate::object;
use crate::path::Path;
use crate::validation::apps;
use crate::warnings;

/// What all workloads with a pod template share.
pub(super) const WORKLOAD: Rules = Rules {
    prepare_create: |object, _| object["status"] = json!({}),
    warnings: |object| warnings::of_template(object, &Path::Root.field("spec").field("template")),
    generation_fields: &["spec"],
    ..Rules::PLAIN
};

/// Deployments.
pub static DEPLOYMENT: Rules = Rules {
    default: defaults::apps::deployment,
    prepare_status: keep_labels,
    validate: apps::deployment,
    validate_update: apps::selector_update,
    validate_status: |new, _| apps::replica_status(new),
    ..WORKLOAD
};

/// ReplicaSets.
pub static REPLICA_SET: Rules = Rules {
    default: defaults::apps::replica_set,
    prepare_create: |object, _| object["status"] = json!({"replicas": 0}),
    validate: apps::replica_set,
    validate_update: apps::selector_update,
    validate_status: |new, _| apps::replica_status(new),
    ..WORKLOAD
};

/// DaemonSets.
pub static DAEMON_SET: Rules = Rules {
    default: defaults::apps::daemon_set,
    prepare_create: |object, _| {
        set_template_generation(object, 1);
        object["status"] = json!({
            "currentNumberScheduled": 0, "desiredNumberScheduled": 0,
            "numberMisscheduled": 0, "numberReady": 0,
        });
    },
    prepare_update: |new, old| {
        let before = object::annotation(old, TEMPLATE_GENERATION).and_then(|it| it.parse().ok());
        let changed = new["spec"].get("template") != old["spec"].get("template");
        set_template_generation(new, before.unwrap_or(1_i64).saturating_add(changed.into()));
    },
    validate: apps::daemon_set,
    validate_update: apps::selector_update,
    validate_status: |new, _| apps::daemon_set_status(new),
    ..WORKLOAD
};

/// StatefulSets.
pub static STATEFUL_SET: Rules = Rules {
    default: defaults::apps::stateful_set,
    prepare_create: |object, _| {
        object["status"] = json!({"replicas": 0, "availableReplicas": 0});
    },
    validate: apps::stateful_set,
    validate_update: apps::stateful_set_update,
    validate_status: |new, _| apps::stateful_set_status(new),
    ..WORKLOAD
};

/// ControllerRevisions.
pub static CONTROLLER_REVISION: Rules = Rules {
    prepare_create: |_, _| {},
    validate: apps::controller_revision,
    validate_update: apps::controller_revision_update,
    ..Rules::PLAIN
};

/// Where Kubernetes shows how often the template changed, a field of older versions.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

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
