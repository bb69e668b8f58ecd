//! Pods and pod templates.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{ip, labels, meta_of_template, one_of, optional_one_of, required};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

mod claims;
mod container;
mod env;
mod os;
mod probe;
mod projected;
mod resources;
mod restart;
mod scheduling;
mod security;
mod status;
mod update;
mod volume;

pub(super) use container::no_back_steps;
pub use status::status_update;
pub(super) use update::{changes, keep};
pub use update::{ephemeral_containers_update, resize, update};

/// What the checks of a pod's parts need to know about the whole.
#[derive(Clone, Copy, Debug)]
struct Pod<'a> {
    spec: &'a Value,
    /// Volumes by name.
    volumes: &'a BTreeMap<&'a str, &'a Value>,
}

/// Checks a Pod.
pub fn pod(object: &Value) -> Vec<FieldError> {
    let path = Path::Root.field("spec");
    let mut errors = spec(&object["spec"], &path);
    let node = object::text(object, "spec.nodeName");
    if !node.is_empty() {
        for wrong in names::dns1123_subdomain(node) {
            errors.push(FieldError::invalid(path.field("nodeName"), node, wrong));
        }
        if !object::list(object, "spec.schedulingGates").is_empty() {
            errors.push(FieldError::invalid(
                path.field("nodeName"),
                node,
                "cannot be set until all schedulingGates have been cleared",
            ));
        }
    } else if let Some(mirrored) = object::annotation(object, MIRROR) {
        let path = Path::Root.field("metadata");
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(path.field("annotations").key(MIRROR), mirrored, why));
    }
    errors
}

/// Checks what a new Pod may not have: who may make pods may not yet debug them.
pub fn create(object: &Value) -> Vec<FieldError> {
    let path = Path::Root.field("spec");
    let has_any = !object::list(object, "spec.ephemeralContainers").is_empty();
    let wrong = FieldError::forbidden(path.field("ephemeralContainers"), "cannot be set on create");
    has_any.then_some(wrong).into_iter().collect()
}

/// Annotation of pods that a node made from a file of its own.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Whether a pod is a node's own is said when it is made: other rules hold for it ever after.
fn mirror_update(new: &Value, old: &Value) -> Option<FieldError> {
    let (after, before) = (object::annotation(new, MIRROR), object::annotation(old, MIRROR));
    let why = match before {
        _ if after == before => return None,
        Some(_) => "may not remove or update mirror pod annotation",
        None => "may not add mirror pod annotation",
    };
    let metadata = Path::Root.field("metadata");
    Some(FieldError::forbidden(metadata.field("annotations").key(MIRROR), why))
}

/// Checks a binding of a pod to a node.
pub fn binding(object: &Value) -> Vec<FieldError> {
    let path = Path::Root.field("target");
    let mut errors = Vec::new();
    // Whoever leaves the kind out means a node.
    errors.extend(optional_one_of(&object["target"], "kind", &path, &["Node", "<empty>"]));
    if object::text(object, "target.name").is_empty() {
        errors.push(FieldError::required(path.field("name"), ""));
    }
    errors
}

/// Checks a pod template.
pub fn template(template: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = meta_of_template(template, &path.field("metadata"));
    let spec_path = path.field("spec");
    errors.extend(spec(&template["spec"], &spec_path));
    if !object::list(&template["spec"], "ephemeralContainers").is_empty() {
        errors.push(FieldError::forbidden(
            spec_path.field("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        ));
    }
    errors
}

/// Checks names and amounts of a list of resources.
pub fn resource_list(list: &Value, path: &Path<'_>) -> Vec<FieldError> {
    resources::list(list, path)
}

/// Checks the tolerations of a pod or of a class of pods.
pub fn tolerations(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    scheduling::tolerations(spec, path)
}

/// Checks a selector of nodes.
pub fn node_selector(selector: &Value, path: &Path<'_>) -> Vec<FieldError> {
    scheduling::node_selector(selector, path)
}

fn spec(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let volumes = volume::all(spec, &path.field("volumes"), &mut errors);
    let pod = Pod { spec, volumes: &volumes };
    container::containers(pod, path, &mut errors);
    errors.extend(one_of(spec, "restartPolicy", path, &["Always", "OnFailure", "Never"]));
    errors.extend(one_of(
        spec,
        "dnsPolicy",
        path,
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    ));
    if let Some(selector) = object::get(spec, "nodeSelector") {
        errors.extend(labels(selector, &path.field("nodeSelector")));
    }
    errors.extend(security::pod(spec, path));
    errors.extend(scheduling::affinity(spec, &path.field("affinity")));
    errors.extend(dns_config(spec, &path.field("dnsConfig")));
    errors.extend(scheduling::gates(spec, path));
    errors.extend(scheduling::topology_spread(spec, &path.field("topologySpreadConstraints")));
    errors.extend(identity(spec, path));
    errors.extend(os::os(spec, path));
    errors.extend(claims::claims(spec, &path.field("resourceClaims")));
    let secrets = path.field("imagePullSecrets");
    for (i, secret) in object::list(spec, "imagePullSecrets").iter().enumerate() {
        errors.extend(required(secret, "name", &secrets.index(i)));
    }
    if let Some(seconds) = object::int(spec, "activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        errors.push(FieldError::invalid(
            path.field("activeDeadlineSeconds"),
            seconds,
            "must be between 1 and 2147483647, inclusive",
        ));
    }
    errors.extend(super::not_negative(spec, "terminationGracePeriodSeconds", path));
    errors.extend(scheduling::tolerations(spec, &path.field("tolerations")));
    let aliases = path.field("hostAliases");
    for (i, alias) in object::list(spec, "hostAliases").iter().enumerate() {
        let at = aliases.index(i);
        errors.extend(ip(object::text(alias, "ip"), at.field("ip")));
        let hosts = at.field("hostnames");
        for (j, host) in object::list(alias, "hostnames").iter().enumerate() {
            let host = host.as_str().unwrap_or_default();
            for wrong in names::dns1123_subdomain(host) {
                errors.push(FieldError::invalid(hosts.index(j), host, wrong));
            }
        }
    }
    errors.extend(optional_one_of(
        spec,
        "preemptionPolicy",
        path,
        &["Never", "PreemptLowerPriority"],
    ));
    if let Some(overhead) = object::get(spec, "overhead") {
        errors.extend(resources::list(overhead, &path.field("overhead")));
    }
    if let Some(resources) = object::get(spec, "resources") {
        errors.extend(resources::of_pod(spec, resources, &path.field("resources")));
    }
    errors
}

/// Names by which a pod is known and by which it refers to others.
fn identity(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    type Rule = fn(&str) -> Vec<String>;
    let rules: [(&str, Rule); 5] = [
        ("serviceAccountName", names::dns1123_subdomain),
        ("hostname", names::dns1123_label),
        ("subdomain", names::dns1123_label),
        ("priorityClassName", names::dns1123_subdomain),
        ("runtimeClassName", names::dns1123_subdomain),
    ];
    for (field, rule) in rules {
        let name = object::text(spec, field);
        if !name.is_empty() {
            for wrong in rule(name) {
                errors.push(FieldError::invalid(path.field(field), name, wrong));
            }
        }
    }
    let name = object::text(spec, "hostnameOverride");
    if !name.is_empty() {
        let at = path.field("hostnameOverride");
        if name.len() > 64 {
            errors.push(FieldError::too_long(at, 64));
        }
        for wrong in names::dns1123_subdomain(name) {
            errors.push(FieldError::invalid(at, name, wrong));
        }
        if object::flag(spec, "setHostnameAsFQDN") {
            let why = "may not be set when `setHostnameAsFQDN` is true";
            errors.push(FieldError::forbidden(at, why));
        }
        if object::flag(spec, "hostNetwork") {
            let why = "may not be set when `hostNetwork` is true";
            errors.push(FieldError::forbidden(at, why));
        }
    }
    errors
}

fn dns_config(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let servers = object::list(spec, "dnsConfig.nameservers");
    let servers_path = path.field("nameservers");
    if servers.is_empty() && object::text(spec, "dnsPolicy") == "None" {
        let why = if object::get(spec, "dnsConfig").is_none() {
            return vec![FieldError::required(
                *path,
                "must provide `dnsConfig` when `dnsPolicy` is None",
            )];
        } else {
            "must provide at least one DNS nameserver when `dnsPolicy` is None"
        };
        errors.push(FieldError::required(servers_path, why));
    }
    if servers.len() > 3 {
        errors.push(FieldError::invalid(
            servers_path,
            servers.to_vec(),
            "must not have more than 3 nameservers",
        ));
    }
    for (i, server) in servers.iter().filter_map(Value::as_str).enumerate() {
        errors.extend(ip(server, servers_path.index(i)));
    }
    let searches = object::list(spec, "dnsConfig.searches");
    let searches_path = path.field("searches");
    if searches.len() > 32 {
        errors.push(FieldError::invalid(
            searches_path,
            searches.to_vec(),
            "must not have more than 32 search paths",
        ));
    }
    for (i, search) in searches.iter().filter_map(Value::as_str).enumerate() {
        let name = search.strip_suffix('.').unwrap_or(search);
        if name.is_empty() && search == "." {
            continue;
        }
        // Underscores are common in search paths, and allowed in them.
        for wrong in names::dns1123_subdomain(&name.replace('_', "a")) {
            errors.push(FieldError::invalid(searches_path.index(i), search, wrong));
        }
    }
    let options = path.field("options");
    for (i, option) in object::list(spec, "dnsConfig.options").iter().enumerate() {
        if object::text(option, "name").is_empty() {
            errors.push(FieldError::required(options.index(i), "must not be empty"));
        }
    }
    errors
}
