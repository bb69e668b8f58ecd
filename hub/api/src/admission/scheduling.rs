//! Priority, tolerations and runtime classes of new pods; default classes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::object;
use crate::quantity::Quantity;

/// Classes that exist even before anybody made them, and their priorities.
pub const SYSTEM_PRIORITIES: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// The class of a name, of those that exist and those that always do.
pub fn system_class(name: &str) -> Option<Value> {
    let (name, value) = SYSTEM_PRIORITIES.into_iter().find(|(it, _)| *it == name)?;
    Some(json!({"metadata": {"name": name}, "value": value}))
}

/// The class that pods without one get: of several defaults the lowest.
pub fn default_class(classes: &[Value]) -> Option<&Value> {
    classes
        .iter()
        .filter(|it| object::flag(it, "globalDefault"))
        .min_by_key(|it| object::int(it, "value").unwrap_or(0))
}

/// Priority: gives a pod the priority and preemption policy of its class.
///
/// # Errors
/// The pod names another priority or policy than its class has.
pub fn set_priority(pod: &mut Value, class: Option<&Value>) -> Result<(), String> {
    let priority = class.and_then(|it| object::int(it, "value")).unwrap_or(0);
    let policy = match class.map(|it| object::text(it, "preemptionPolicy")) {
        None | Some("") => "PreemptLowerPriority",
        Some(policy) => policy,
    }
    .to_owned();
    let spec = object::ensure(pod, "spec");
    if let Some(given) = spec.get("priority").and_then(Value::as_i64).filter(|it| *it != priority) {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        ));
    }
    let given = spec.get("preemptionPolicy").and_then(Value::as_str).unwrap_or_default();
    if !given.is_empty() && given != policy {
        return Err(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        ));
    }
    if let Some(class) = class {
        spec.insert("priorityClassName".to_owned(), json!(object::name(class)));
    }
    spec.insert("priority".to_owned(), json!(priority));
    spec.insert("preemptionPolicy".to_owned(), json!(policy));
    Ok(())
}

/// DefaultTolerationSeconds: what a pod endures when nobody said. Here without a time limit: a
/// node that is merely out of reach certainly still runs its pods.
pub fn default_tolerations(pod: &mut Value) {
    let spec = object::ensure(pod, "spec");
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(tolerations) = tolerations.as_array_mut() else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = tolerations.iter().any(|it| {
            matches!(object::text(it, "key"), k if k.is_empty() || k == key)
                && matches!(object::text(it, "effect"), "" | "NoExecute")
        });
        if !covered {
            tolerations.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute"}));
        }
    }
}

/// ExtendedResourceToleration: who asks for a device endures the taint of its nodes.
pub fn extended_resource_tolerations(pod: &mut Value) {
    let mut devices = BTreeSet::new();
    for container in super::containers(&pod["spec"], &["containers", "initContainers"]) {
        for (name, _) in object::entries(container, "resources.requests") {
            if is_extended(name) {
                devices.insert(name.clone());
            }
        }
    }
    if devices.is_empty() {
        return;
    }
    let spec = object::ensure(pod, "spec");
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(tolerations) = tolerations.as_array_mut() else { return };
    for device in devices {
        let wanted = json!({"key": device, "operator": "Exists", "effect": "NoSchedule"});
        if !tolerations.contains(&wanted) {
            tolerations.push(wanted);
        }
    }
}

/// Whether a resource is a device of somebody's: `example.com/dongle`.
pub fn is_extended(name: &str) -> bool {
    name.split_once('/')
        .is_some_and(|(domain, _)| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
        && !name.starts_with("requests.")
}

/// RuntimeClass: overhead, node selector and tolerations of the class.
///
/// # Errors
/// The pod says otherwise.
pub fn set_runtime_class(pod: &mut Value, class: &Value) -> Result<(), String> {
    let wanted = object::get(class, "overhead.podFixed");
    let given = object::get(pod, "spec.overhead");
    match (given, wanted) {
        (Some(given), _) if !same_resources(given, wanted.unwrap_or(&Value::Null)) => {
            return Err(
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
                    .to_owned(),
            );
        }
        (None, Some(wanted)) => {
            let wanted = wanted.clone();
            object::ensure(pod, "spec").insert("overhead".to_owned(), wanted);
        }
        (Some(_) | None, _) => {}
    }
    let spec = object::ensure(pod, "spec");
    for (key, value) in object::entries(class, "scheduling.nodeSelector") {
        let selector = spec.entry("nodeSelector").or_insert_with(|| json!({}));
        match selector.get(key) {
            Some(other) if other != value => {
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                    value.as_str().unwrap_or_default(),
                    other.as_str().unwrap_or_default()
                ));
            }
            Some(_) => {}
            None => drop(object::as_map(selector).insert(key.clone(), value.clone())),
        }
    }
    let added = object::list(class, "scheduling.tolerations");
    if !added.is_empty() {
        let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
        if let Some(tolerations) = tolerations.as_array_mut() {
            for toleration in added {
                if !tolerations.contains(toleration) {
                    tolerations.push(toleration.clone());
                }
            }
        }
    }
    Ok(())
}

fn same_resources(one: &Value, other: &Value) -> bool {
    let read = |list: &Value| -> Vec<(String, Option<i128>)> {
        let map = list.as_object().into_iter().flatten();
        map.map(|(name, amount)| {
            let parsed = Quantity::parse(amount.as_str().unwrap_or_default()).ok();
            (name.clone(), parsed.map(Quantity::nano_value))
        })
        .collect()
    };
    read(one) == read(other)
}
