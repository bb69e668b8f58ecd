//! Defaults of Services, and what an update keeps of what was allocated.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::core::mirror_first;
use crate::object;

/// Fills in a Service.
pub fn service(object: &mut Value) {
    let spec = object::ensure(object, "spec");
    object::default_text(spec, "type", "ClusterIP");
    object::default_text(spec, "sessionAffinity", "None");
    if spec.get("sessionAffinity").and_then(Value::as_str) == Some("ClientIP") {
        let config = object::as_map(spec.entry("sessionAffinityConfig").or_insert(Value::Null));
        let client = object::as_map(config.entry("clientIP").or_insert(Value::Null));
        object::default(client, "timeoutSeconds", 10800);
    } else {
        spec.remove("sessionAffinityConfig");
    }
    let ty = spec.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let node_ports = needs_node_ports(&ty);
    let external_ips =
        spec.get("externalIPs").and_then(Value::as_array).is_some_and(|it| !it.is_empty());
    if node_ports || needs_cluster_ip(&ty) && external_ips {
        object::default_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if needs_cluster_ip(&ty) {
        object::default_text(spec, "internalTrafficPolicy", "Cluster");
        mirror_first(spec, "clusterIP", "clusterIPs");
        let family = family_of(spec);
        object::default(spec, "ipFamilies", json!([family]));
        object::default_text(spec, "ipFamilyPolicy", "SingleStack");
    }
    if ty == "LoadBalancer" {
        object::default(spec, "allocateLoadBalancerNodePorts", true);
    }
    for port in object::items_mut(&mut object["spec"], "ports") {
        let port = object::as_map(port);
        object::default_text(port, "protocol", "TCP");
        let target = port.get("targetPort");
        if target.is_none_or(|it| it.is_null() || *it == 0 || *it == "") {
            let own = port.get("port").cloned().unwrap_or(Value::Null);
            port.insert("targetPort".to_owned(), own);
        }
    }
}

/// Whether Services of that type have an address of their own.
pub fn needs_cluster_ip(ty: &str) -> bool {
    matches!(ty, "ClusterIP" | "NodePort" | "LoadBalancer")
}

/// Whether Services of that type have ports on nodes.
pub fn needs_node_ports(ty: &str) -> bool {
    matches!(ty, "NodePort" | "LoadBalancer")
}

/// Writes an allocated address into a Service.
pub fn set_cluster_ip(object: &mut Value, address: &str) {
    let spec = object::ensure(object, "spec");
    spec.insert("clusterIP".to_owned(), json!(address));
    spec.insert("clusterIPs".to_owned(), json!([address]));
}

/// Keeps addresses and node ports that an update leaves out, and drops those that its type has not.
pub fn keep_allocations(new: &mut Value, old: &Value) {
    let (new_type, old_type) =
        (object::text(new, "spec.type").to_owned(), object::text(old, "spec.type"));
    let both_addressed = needs_cluster_ip(&new_type) && needs_cluster_ip(old_type);
    let no_address = object::text(new, "spec.clusterIP").is_empty();
    let spec = object::ensure(new, "spec");
    if both_addressed && no_address {
        for key in ["clusterIP", "clusterIPs"] {
            if let Some(value) = old["spec"].get(key) {
                spec.insert(key.to_owned(), value.clone());
            }
        }
    }
    if !needs_cluster_ip(&new_type) && needs_cluster_ip(old_type) {
        for key in ["clusterIP", "clusterIPs"] {
            if spec.get(key) == old["spec"].get(key) {
                spec.remove(key);
            }
        }
        for key in ["ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            spec.remove(key);
        }
    }
    if !needs_node_ports(&new_type) && spec.get("externalIPs").is_none() {
        spec.remove("externalTrafficPolicy");
    }
    if new_type != "LoadBalancer" {
        spec.remove("allocateLoadBalancerNodePorts");
        for key in ["loadBalancerClass", "healthCheckNodePort"] {
            if spec.get(key) == old["spec"].get(key) {
                spec.remove(key);
            }
        }
    }
    let before: BTreeMap<(&str, i64), i64> = object::list(old, "spec.ports")
        .iter()
        .filter_map(|it| Some((port_key(it), object::int(it, "nodePort")?)))
        .collect();
    for port in object::items_mut(&mut new["spec"], "ports") {
        let before = before.get(&port_key(port)).copied().unwrap_or(0);
        let wanted = object::int(port, "nodePort").unwrap_or(0);
        if needs_node_ports(&new_type) && wanted == 0 && before != 0 {
            port["nodePort"] = json!(before);
        }
        if !needs_node_ports(&new_type) && wanted != 0 && wanted == before {
            object::as_map(port).remove("nodePort");
        }
    }
}

fn port_key(port: &Value) -> (&str, i64) {
    (object::text(port, "protocol"), object::int(port, "port").unwrap_or(0))
}

fn family_of(spec: &Map<String, Value>) -> &'static str {
    match spec.get("clusterIP").and_then(Value::as_str) {
        Some(address) if address.contains(':') => "IPv6",
        _ => "IPv4",
    }
}
