//! Ingresses and IngressClasses.

use serde_json::Value;

use super::{fields, immutable, one_of};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const NOT_AN_ADDRESS: &str = "must be a DNS name, not an IP address";
const MAX_CONTROLLER: usize = 250;

/// Checks an Ingress.
pub fn ingress(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = Vec::new();
    let rules = object::list(spec, "rules");
    let default = object::get(spec, "defaultBackend");
    if rules.is_empty() && default.is_none() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(path, Value::Null, detail));
    }
    if let Some(it) = default {
        errors.extend(backend(it, &path.field("defaultBackend")));
    }
    let list = path.field("rules");
    for (i, it) in rules.iter().enumerate() {
        errors.extend(rule(it, &list.index(i)));
    }
    let list = path.field("tls");
    for (i, it) in object::list(spec, "tls").iter().enumerate() {
        let at = list.index(i);
        let hosts = at.field("hosts");
        for (j, host) in object::list(it, "hosts").iter().filter_map(Value::as_str).enumerate() {
            errors.extend(fields::all_wrong(&hosts.index(j), host, host_name(host)));
        }
        errors.extend(fields::optional_name(it, "secretName", &at, names::dns1123_subdomain));
    }
    if let Some(class) = object::get(spec, "ingressClassName").and_then(Value::as_str) {
        let wrong = names::dns1123_subdomain(class);
        errors.extend(fields::all_wrong(&path.field("ingressClassName"), class, wrong));
    }
    errors
}

/// Checks what must hold of an Ingress only when it is made.
pub fn ingress_create(object: &Value) -> Vec<FieldError> {
    let annotation = object::annotation(object, CLASS_ANNOTATION);
    let class = object::get(object, "spec.ingressClassName").and_then(Value::as_str);
    if let (Some(annotation), Some(class)) = (annotation, class)
        && annotation != class
    {
        return vec![FieldError::invalid(
            format!("annotations.{CLASS_ANNOTATION}"),
            annotation,
            "must match `ingressClassName` when both are specified",
        )];
    }
    Vec::new()
}

/// Checks the status of an Ingress, or of whatever else a load balancer serves.
pub fn load_balancer_status(object: &Value) -> Vec<FieldError> {
    let (status, balancer) = (Path::Root.field("status"), "loadBalancer");
    let (at, list) = (status.field(balancer), object::list(object, "status.loadBalancer.ingress"));
    let path = at.field("ingress");
    let mut errors = Vec::new();
    for (i, it) in list.iter().enumerate() {
        let item = path.index(i);
        let (address, host) = (object::text(it, "ip"), object::text(it, "hostname"));
        if !address.is_empty() {
            errors.extend(super::ip(address, item.field("ip")));
        }
        if !host.is_empty() {
            let at = item.field("hostname");
            errors.extend(fields::all_wrong(&at, host, names::dns1123_subdomain(host)));
            if host.parse::<std::net::IpAddr>().is_ok() {
                errors.push(FieldError::invalid(at, host, NOT_AN_ADDRESS));
            }
        }
    }
    errors
}

/// Checks an IngressClass.
pub fn ingress_class(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let controller = object::text(spec, "controller");
    let at = path.field("controller");
    let mut errors = Vec::new();
    if controller.len() > MAX_CONTROLLER {
        errors.push(FieldError::too_long(at, MAX_CONTROLLER));
    }
    errors.extend(domain_prefixed_path(controller, &at));
    if let Some(it) = object::get(spec, "parameters") {
        errors.extend(class_parameters(it, &path.field("parameters")));
    }
    errors
}

/// Checks a changed IngressClass: who serves it stays.
pub fn ingress_class_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let controller = |it| object::get(it, "spec.controller");
    let spec = Path::Root.field("spec");
    immutable(controller(new), controller(old), &spec.field("controller")).into_iter().collect()
}

fn host_name(host: &str) -> Vec<String> {
    if host.contains('*') {
        names::wildcard_subdomain(host)
    } else {
        names::dns1123_subdomain(host)
    }
}

fn rule(rule: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let host = object::text(rule, "host");
    if !host.is_empty() {
        let path = at.field("host");
        if host.parse::<std::net::IpAddr>().is_ok() {
            errors.push(FieldError::invalid(path, host, NOT_AN_ADDRESS));
        }
        errors.extend(fields::all_wrong(&path, host, host_name(host)));
    }
    if let Some(http) = object::get(rule, "http") {
        let at = at.field("http");
        let list = at.field("paths");
        let paths = object::list(http, "paths");
        if paths.is_empty() {
            errors.push(FieldError::required(list, ""));
        }
        for (i, it) in paths.iter().enumerate() {
            errors.extend(http_path(it, &list.index(i)));
        }
    }
    errors
}

fn http_path(rule: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let text = object::text(rule, "path");
    let path = at.field("path");
    let absolute = "must be an absolute path";
    let Some(ty) = object::get(rule, "pathType").and_then(Value::as_str) else {
        return vec![FieldError::required(at.field("pathType"), "pathType must be specified")];
    };
    match ty {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.push(FieldError::invalid(path, text, absolute));
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"].iter().filter(|it| text.contains(**it))
            {
                errors.push(FieldError::invalid(path, text, format!("must not contain '{part}'")));
            }
            for end in ["/..", "/."].iter().filter(|it| text.ends_with(**it)) {
                errors.push(FieldError::invalid(path, text, format!("cannot end with '{end}'")));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                errors.push(FieldError::invalid(path, text, absolute));
            }
        }
        other => errors.push(FieldError::not_supported(
            at.field("pathType"),
            other,
            &["Exact", "ImplementationSpecific", "Prefix"],
        )),
    }
    errors.extend(backend(&rule["backend"], &at.field("backend")));
    errors
}

fn backend(backend: &Value, at: &Path<'_>) -> Vec<FieldError> {
    match (object::get(backend, "resource"), object::get(backend, "service")) {
        (Some(_), Some(_)) => {
            vec![FieldError::invalid(at, "", "cannot set both resource and service backends")]
        }
        (Some(resource), None) => typed_reference(resource, &at.field("resource")),
        (None, Some(service)) => service_backend(service, at),
        (None, None) => {
            vec![FieldError::invalid(at, "", "resource or service backend is required")]
        }
    }
}

fn service_backend(service: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let path = at.field("service");
    let mut errors = fields::required_name(service, "name", &path, names::dns1035_label);
    let port = path.field("port");
    let name = object::text(service, "port.name");
    let number = object::int(service, "port.number").unwrap_or(0);
    match (name, number) {
        ("", 0) => errors.push(FieldError::required(at, "port name or number is required")),
        ("", number) => {
            for wrong in names::port_number(number) {
                errors.push(FieldError::invalid(port.field("number"), number, wrong));
            }
        }
        (name, 0) => {
            errors.extend(fields::all_wrong(&port.field("name"), name, names::port_name(name)));
        }
        _ => {
            errors.push(FieldError::invalid(at, "", "cannot set both port name & port number"));
        }
    }
    errors
}

fn typed_reference(reference: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(group) = object::get(reference, "apiGroup").and_then(Value::as_str) {
        let wrong = names::dns1123_subdomain(group);
        errors.extend(fields::all_wrong(&at.field("apiGroup"), group, wrong));
    }
    for field in ["kind", "name"] {
        match object::text(reference, field) {
            "" => {
                errors.push(FieldError::required(at.field(field), format!("{field} is required")))
            }
            text => {
                errors.extend(fields::all_wrong(&at.field(field), text, names::path_segment(text)));
            }
        }
    }
    errors
}

fn class_parameters(parameters: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = typed_reference(parameters, at);
    errors.extend(one_of(parameters, "scope", at, &["Cluster", "Namespace"]));
    let namespace = object::get(parameters, "namespace").and_then(Value::as_str);
    let path = at.field("namespace");
    match (object::text(parameters, "scope"), namespace) {
        ("Namespace", None) => {
            let detail = "`parameters.scope` is set to 'Namespace'";
            errors.push(FieldError::required(path, detail));
        }
        ("Namespace", Some(it)) => {
            errors.extend(fields::all_wrong(&path, it, names::dns1123_label(it)));
        }
        ("Cluster", Some(_)) => {
            let detail = "`parameters.scope` is set to 'Cluster'";
            errors.push(FieldError::forbidden(path, detail));
        }
        _ => {}
    }
    errors
}

/// `acme.io/foo`.
fn domain_prefixed_path(text: &str, at: &Path<'_>) -> Vec<FieldError> {
    if text.is_empty() {
        return vec![FieldError::required(at, "")];
    }
    let (host, path) = match text.split_once('/') {
        Some((host, path)) if !host.is_empty() && !path.is_empty() => (host, path),
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            return vec![FieldError::invalid(at, text, detail)];
        }
    };
    let mut errors = fields::all_wrong(at, host, names::dns1123_subdomain(host));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !path.bytes().all(plain) {
        let detail =
            "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errors.push(FieldError::invalid(at, path, detail));
    }
    errors
}
