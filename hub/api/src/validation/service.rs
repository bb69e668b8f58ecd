//! Services.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::endpoints::special_address;
use super::{ip, labels, one_of, optional_one_of};
use crate::defaults::service::{needs_cluster_ip, needs_node_ports};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const FAMILY_POLICIES: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];
const DISTRIBUTIONS: &[&str] = &["PreferClose", "PreferSameNode", "PreferSameZone"];
const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
/// Where source ranges stood before they had a field.
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const MAX_AFFINITY_SECONDS: i64 = 86400;

/// Checks a Service.
pub fn service(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = Vec::new();
    let ty = object::text(spec, "type");
    let headless = object::text(spec, "clusterIP") == "None";
    let ports = object::list(spec, "ports");
    if ports.is_empty() && !headless && ty != "ExternalName" {
        errors.push(FieldError::required(path.field("ports"), ""));
    }
    match ty {
        "LoadBalancer" | "NodePort" if headless => {
            let clusters = path.field("clusterIPs");
            errors.push(FieldError::invalid(
                clusters.index(0),
                "None",
                format!("may not be set to 'None' for {ty} services"),
            ));
        }
        "ExternalName" => errors.extend(external_name(spec, &path)),
        _ => {}
    }
    errors.extend(service_ports(ports, ty, &path.field("ports")));
    if let Some(selector) = object::get(spec, "selector") {
        errors.extend(labels(selector, &path.field("selector")));
    }
    errors.extend(one_of(spec, "sessionAffinity", &path, &["ClientIP", "None"]));
    errors.extend(session_affinity(spec, &path));
    if needs_cluster_ip(ty) {
        errors.extend(cluster_ips(spec, &path));
    }
    let externals = path.field("externalIPs");
    for (i, address) in
        object::list(spec, "externalIPs").iter().filter_map(Value::as_str).enumerate()
    {
        errors.extend(special_address(address, &externals.index(i)));
    }
    errors.extend(families(spec, ty, &path));
    errors.extend(load_balancer(object, ty, &path));
    errors.extend(optional_one_of(spec, "trafficDistribution", &path, DISTRIBUTIONS));
    errors.extend(one_of(spec, "type", &path, TYPES));
    for field in ["externalTrafficPolicy", "internalTrafficPolicy"] {
        errors.extend(optional_one_of(spec, field, &path, &["Cluster", "Local"]));
    }
    let external = object::get(spec, "externalTrafficPolicy").is_some();
    if external && !needs_node_ports(ty) && object::list(spec, "externalIPs").is_empty() {
        errors.push(FieldError::invalid(
            path.field("externalTrafficPolicy"),
            object::text(spec, "externalTrafficPolicy"),
            "may only be set for externally-accessible services",
        ));
    }
    errors.extend(unique_ports(ports, &path.field("ports")));
    errors
}

fn families(spec: &Value, ty: &str, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = path.field("ipFamilies");
    let families: Vec<&str> =
        object::list(spec, "ipFamilies").iter().filter_map(Value::as_str).collect();
    if ty == "ExternalName" {
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if object::get(spec, field).is_some() {
                let why = "may not be set for ExternalName services";
                errors.push(FieldError::forbidden(path.field(field), why));
            }
        }
        return errors;
    }
    for (i, family) in families.iter().enumerate() {
        if !FAMILIES.contains(family) {
            errors.push(FieldError::not_supported(at.index(i), *family, FAMILIES));
        }
        if families.iter().take(i).any(|it| it == family) {
            errors.push(FieldError::duplicate(at.index(i), *family));
        }
    }
    errors.extend(optional_one_of(spec, "ipFamilyPolicy", path, FAMILY_POLICIES));
    errors
}

/// What only load balancers have.
fn load_balancer(object: &Value, ty: &str, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = &object["spec"];
    let balanced = ty == "LoadBalancer";
    let at = path.field("LoadBalancerSourceRanges");
    let ranges = object::list(spec, "loadBalancerSourceRanges");
    let noted = object::annotation(object, SOURCE_RANGES);
    if !balanced && (!ranges.is_empty() || noted.is_some()) {
        errors.push(FieldError::forbidden(at, ONLY_BALANCED));
    } else {
        for (i, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
            if !is_cidr(range.trim()) {
                errors.push(FieldError::invalid(at.index(i), range, CIDR));
            }
        }
    }
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if !balanced && object::get(spec, field).is_some() {
            errors.push(FieldError::forbidden(path.field(field), ONLY_BALANCED));
        }
    }
    let class = object::text(spec, "loadBalancerClass");
    if balanced && !class.is_empty() {
        for wrong in names::qualified_name(class) {
            errors.push(FieldError::invalid(path.field("loadBalancerClass"), class, wrong));
        }
    }
    let health = object::int(spec, "healthCheckNodePort").unwrap_or(0);
    let checked = balanced && object::text(spec, "externalTrafficPolicy") == "Local";
    if health != 0 && !checked {
        errors.push(FieldError::invalid(
            path.field("healthCheckNodePort"),
            health,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ));
    }
    errors
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse() {
        Ok(std::net::IpAddr::V4(_)) => 32,
        Ok(std::net::IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|it| it <= most)
}

/// Checks a changed Service: an address, once given, stays, and so does who balances its load.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = address_update(new, old);
    let class = |it: &Value| object::get(it, "spec.loadBalancerClass").cloned();
    let balanced = |it: &Value| object::text(it, "spec.type") == "LoadBalancer";
    if balanced(new) && balanced(old) && class(new) != class(old) {
        errors.push(FieldError::invalid(
            "spec.loadBalancerClass",
            class(new),
            "may not change once set",
        ));
    }
    errors
}

fn address_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let (new_type, old_type) = (object::text(new, "spec.type"), object::text(old, "spec.type"));
    let before = object::text(old, "spec.clusterIP");
    let after = object::text(new, "spec.clusterIP");
    if !needs_cluster_ip(new_type) || !needs_cluster_ip(old_type) || before.is_empty() {
        return Vec::new();
    }
    let spec = Path::Root.field("spec");
    let clusters = spec.field("clusterIPs");
    if before == after {
        return Vec::new();
    }
    vec![FieldError::invalid(clusters.index(0), json!([after]), "may not change once set")]
}

fn external_name(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if !object::text(spec, "clusterIP").is_empty() || !object::list(spec, "clusterIPs").is_empty() {
        errors.push(FieldError::forbidden(
            path.field("clusterIPs"),
            "may not be set for ExternalName services",
        ));
    }
    let name = object::text(spec, "externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.push(FieldError::required(path.field("externalName"), ""));
    } else {
        for wrong in names::dns1123_subdomain(name) {
            errors.push(FieldError::invalid(path.field("externalName"), name, wrong));
        }
    }
    errors
}

fn session_affinity(spec: &Value, path: &Path<'_>) -> Option<FieldError> {
    let seconds = object::int(spec, "sessionAffinityConfig.clientIP.timeoutSeconds")?;
    if (1..=MAX_AFFINITY_SECONDS).contains(&seconds) {
        return None;
    }
    let config = path.field("sessionAffinityConfig");
    let client = config.field("clientIP");
    Some(FieldError::invalid(
        client.field("timeoutSeconds"),
        seconds,
        format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}"),
    ))
}

fn cluster_ips(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let list = path.field("clusterIPs");
    let addresses = object::list(spec, "clusterIPs");
    let first = object::text(spec, "clusterIP");
    if let Some(listed) = addresses.first().and_then(Value::as_str)
        && listed != first
    {
        errors.push(FieldError::invalid(
            list,
            addresses.to_vec(),
            "first value must match `clusterIP`",
        ));
    }
    for (i, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
        if address != "None" {
            errors.extend(ip(address, list.index(i)));
        }
    }
    errors
}

fn service_ports(ports: &[Value], ty: &str, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at = path.index(i);
        let name = object::text(port, "name");
        if name.is_empty() {
            if ports.len() > 1 {
                errors.push(FieldError::required(at.field("name"), ""));
            }
        } else {
            for wrong in names::dns1123_label(name) {
                errors.push(FieldError::invalid(at.field("name"), name, wrong));
            }
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(at.field("name"), name));
            }
        }
        let number = object::int(port, "port").unwrap_or(0);
        for wrong in names::port_number(number) {
            errors.push(FieldError::invalid(at.field("port"), number, wrong));
        }
        errors.extend(one_of(port, "protocol", &at, &["SCTP", "TCP", "UDP"]));
        errors.extend(port_or_name(&port["targetPort"], &at.field("targetPort")));
        let protocol_app = object::text(port, "appProtocol");
        if !protocol_app.is_empty() {
            for wrong in names::qualified_name(protocol_app) {
                errors.push(FieldError::invalid(at.field("appProtocol"), protocol_app, wrong));
            }
        }
        let node_port = object::int(port, "nodePort").unwrap_or(0);
        if node_port != 0 && !needs_node_ports(ty) {
            errors.push(FieldError::forbidden(
                at.field("nodePort"),
                format!("may not be used when `type` is '{ty}'"),
            ));
        }
        if !(0..=65535).contains(&node_port) {
            let wrong = "must be between 1 and 65535, inclusive";
            errors.push(FieldError::invalid(at.field("nodePort"), node_port, wrong));
        }
    }
    errors
}

/// Checks the number or the name of a port.
pub(super) fn port_or_name(port: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let wrong = match port.as_str() {
        Some(name) => names::port_name(name),
        None => names::port_number(port.as_i64().unwrap_or(0)),
    };
    wrong.into_iter().map(|it| FieldError::invalid(path, port.clone(), it)).collect()
}

fn unique_ports(ports: &[Value], path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    let mut seen_node = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at = path.index(i);
        let protocol = object::text(port, "protocol");
        let number = object::int(port, "port").unwrap_or(0);
        if !seen.insert((protocol, number)) {
            let shown = json!({"protocol": protocol, "port": number});
            errors.push(FieldError::duplicate(at, shown));
        }
        let node_port = object::int(port, "nodePort").unwrap_or(0);
        if node_port != 0 && !seen_node.insert((protocol, node_port)) {
            errors.push(FieldError::duplicate(at.field("nodePort"), node_port));
        }
    }
    errors
}
