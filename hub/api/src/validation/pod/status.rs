//! What nodes say of pods.

use std::net::IpAddr;

use serde_json::Value;

use super::super::ip;
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

/// Checks a changed status of a Pod.
pub fn status_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::Root.field("status");
    let mut errors: Vec<FieldError> = super::mirror_update(new, old).into_iter().collect();
    let node = object::text(new, "status.nominatedNodeName");
    if !node.is_empty() {
        for wrong in names::dns1123_subdomain(node) {
            errors.push(FieldError::invalid(path.field("nominatedNodeName"), node, wrong));
        }
    }
    let statuses = path.field("containerStatuses");
    if !has_own_rules(old) {
        errors.extend(transitions(new, old, &statuses));
    }
    for list in ["podIPs", "hostIPs"] {
        errors.extend(addresses(&new["status"], list, &path.field(list)));
    }
    errors
}

/// Whether containers are restarted by what they say themselves, not by what the pod says.
fn has_own_rules(pod: &Value) -> bool {
    let mut containers = object::list(pod, "spec.containers").iter();
    object::text(pod, "spec.restartPolicy") == "Always"
        || containers.any(|it| !object::text(it, "restartPolicy").is_empty())
}

/// What ended and is not to be restarted stays ended.
fn transitions(new: &Value, old: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let retries = object::text(old, "spec.restartPolicy") == "OnFailure";
    for before in object::list(old, "status.containerStatuses") {
        let Some(ended) = object::get(before, "state.terminated") else { continue };
        if retries && object::int(ended, "exitCode").unwrap_or(0) != 0 {
            continue;
        }
        let name = object::text(before, "name");
        let after = object::list(new, "status.containerStatuses").iter().enumerate();
        for (i, after) in after.filter(|it| object::text(it.1, "name") == name) {
            if object::get(after, "state.terminated").is_none() {
                let why = "may not be transitioned to non-terminated state";
                errors.push(FieldError::forbidden(path.index(i).field("state"), why));
            }
        }
    }
    errors
}

/// Addresses are valid, and one of each family.
fn addresses(status: &Value, list: &str, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let texts: Vec<&str> =
        object::list(status, list).iter().map(|it| object::text(it, "ip")).collect();
    for (i, text) in texts.iter().enumerate() {
        errors.extend(ip(text, path.index(i)));
    }
    let parsed: Vec<IpAddr> = texts.iter().filter_map(|it| it.parse().ok()).collect();
    let n_new = parsed.iter().filter(|it| it.is_ipv4()).count();
    if n_new > 1 || parsed.len() - n_new > 1 {
        let why = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(path, object::list(status, list).to_vec(), why));
    }
    errors
}
