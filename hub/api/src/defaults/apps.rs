//! Defaults of the kinds of `apps`.

use serde_json::{Value, json};

use super::{pod, volumes};
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

/// Fills in a DaemonSet.
pub fn daemon_set(object: &mut Value) {
    let spec = object::ensure(object, "spec");
    object::default(spec, "revisionHistoryLimit", 10);
    let strategy = object::as_map(spec.entry("updateStrategy").or_insert(Value::Null));
    object::default_text(strategy, "type", "RollingUpdate");
    if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
        let rolling = object::as_map(strategy.entry("rollingUpdate").or_insert(Value::Null));
        object::default(rolling, "maxUnavailable", 1);
        object::default(rolling, "maxSurge", 0);
    }
    template(object);
}

/// Fills in a StatefulSet.
pub fn stateful_set(object: &mut Value) {
    let spec = object::ensure(object, "spec");
    object::default_text(spec, "podManagementPolicy", "OrderedReady");
    object::default(spec, "replicas", 1);
    object::default(spec, "revisionHistoryLimit", 10);
    let strategy = object::as_map(spec.entry("updateStrategy").or_insert(Value::Null));
    object::default_text(strategy, "type", "RollingUpdate");
    if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
        let rolling = object::as_map(strategy.entry("rollingUpdate").or_insert(Value::Null));
        object::default(rolling, "partition", 0);
        object::default(rolling, "maxUnavailable", 1);
    }
    let retention = spec.entry("persistentVolumeClaimRetentionPolicy").or_insert(Value::Null);
    let retention = object::as_map(retention);
    object::default_text(retention, "whenDeleted", "Retain");
    object::default_text(retention, "whenScaled", "Retain");
    for claim in object::items_mut(&mut object["spec"], "volumeClaimTemplates") {
        volumes::claim(claim);
        let map = object::as_map(claim);
        map.insert("apiVersion".to_owned(), json!("v1"));
        map.insert("kind".to_owned(), json!("PersistentVolumeClaim"));
        object::default_text(object::ensure(claim, "status"), "phase", "Pending");
    }
    template(object);
}
