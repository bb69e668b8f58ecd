//! Nodes: readiness, roles, addresses.

use std::collections::BTreeSet;

use serde_json::Value;

use super::cells::{condition, list, or_none, text};

pub(super) fn status(node: &Value) -> Value {
    let mut status = match condition(node, "Ready") {
        Some(ready) if ready["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    status.into()
}

/// Roles are labels: `node-role.kubernetes.io/<role>`, or `kubernetes.io/role=<role>`.
pub(super) fn roles(node: &Value) -> Value {
    let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
    let roles: BTreeSet<&str> = labels
        .filter_map(|(name, value)| match name.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if name == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|it| !it.is_empty())
        .collect();
    or_none(roles.into_iter().collect::<Vec<_>>().join(",")).into()
}

pub(super) fn internal_ip(node: &Value) -> Value {
    address(node, "InternalIP")
}

pub(super) fn external_ip(node: &Value) -> Value {
    address(node, "ExternalIP")
}

fn address(node: &Value, wanted: &str) -> Value {
    let found = list(node, "/status/addresses").iter().find(|it| it["type"] == wanted);
    or_none(found.map_or("", |it| text(it, "/address")).to_owned()).into()
}
