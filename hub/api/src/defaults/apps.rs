//! Defaults of Deployments and ReplicaSets.

use serde_json::{Value, json};

use super::pod;
use crate::object;

/// Fills in a Deployment.
pub fn deployment(object: &mut Value) {
    let spec = object::ensure(object, "spec");
    object::default(spec, "replicas", 1);
    object::default(spec, "revisionHistoryLimit", 10);
    object::default(spec, "progressDeadlineSeconds", 600);
    let strategy = object::as_map(spec.entry("strategy").or_insert(Value::Null));
    object::default_text(strategy, "type", "RollingUpdate");
    if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
        let rolling = object::as_map(strategy.entry("rollingUpdate").or_insert(Value::Null));
        object::default(rolling, "maxUnavailable", json!("25%"));
        object::default(rolling, "maxSurge", json!("25%"));
    }
    template(object);
}

/// Fills in a ReplicaSet.
pub fn replica_set(object: &mut Value) {
    object::default(object::ensure(object, "spec"), "replicas", 1);
    template(object);
}

fn template(object: &mut Value) {
    if let Some(template) = object["spec"].get_mut("template") {
        pod::template(template);
    }
}
