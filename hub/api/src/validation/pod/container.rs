//! Containers of all three sorts: names, images, ports, mounts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::{ip, one_of, optional_one_of};
use super::{Pod, claims, env, os, probe, resources, restart, security};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

pub(super) fn containers(pod: Pod<'_>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    let main = object::list(pod.spec, "containers");
    let main_path = path.field("containers");
    if main.is_empty() {
        errors.push(FieldError::required(main_path, ""));
    }
    for (i, container) in main.iter().enumerate() {
        let at = main_path.index(i);
        common(pod, container, &at, &mut seen, errors);
        lifecycle(pod, container, &at, errors);
        restart::policy(container, &at, errors);
    }
    host_port_conflicts(main, &main_path, errors);

    let init_path = path.field("initContainers");
    for (i, container) in object::list(pod.spec, "initContainers").iter().enumerate() {
        let at = init_path.index(i);
        common(pod, container, &at, &mut seen, errors);
        match object::text(container, "restartPolicy") {
            "Always" => lifecycle(pod, container, &at, errors),
            policy => {
                if !matches!(policy, "" | "Never" | "OnFailure") {
                    errors.push(FieldError::not_supported(
                        at.field("restartPolicy"),
                        policy,
                        &["Always", "Never", "OnFailure"],
                    ));
                }
                restart::rules(container, &at, errors);
                for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                    if object::get(container, field).is_some() {
                        errors.push(FieldError::forbidden(
                            at.field(field),
                            "may not be set for init containers without restartPolicy=Always",
                        ));
                    }
                }
            }
        }
    }

    let ephemeral_path = path.field("ephemeralContainers");
    for (i, container) in object::list(pod.spec, "ephemeralContainers").iter().enumerate() {
        let at = ephemeral_path.index(i);
        common(pod, container, &at, &mut seen, errors);
        ephemeral(pod, container, &at, errors);
    }
}

fn common<'a>(
    pod: Pod<'_>,
    container: &'a Value,
    at: &Path<'_>,
    seen: &mut BTreeSet<&'a str>,
    errors: &mut Vec<FieldError>,
) {
    let name = object::text(container, "name");
    if name.is_empty() {
        errors.push(FieldError::required(at.field("name"), ""));
    } else {
        for wrong in names::dns1123_label(name) {
            errors.push(FieldError::invalid(at.field("name"), name, wrong));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(at.field("name"), name));
        }
    }
    let image = object::text(container, "image");
    if image.is_empty() {
        errors.push(FieldError::required(at.field("image"), ""));
    } else if image.trim() != image {
        errors.push(FieldError::invalid(
            at.field("image"),
            image,
            "must not have leading or trailing whitespace",
        ));
    }
    errors.extend(one_of(
        container,
        "terminationMessagePolicy",
        at,
        &["FallbackToLogsOnError", "File"],
    ));
    ports(pod, container, &at.field("ports"), errors);
    errors.extend(env::env(container, &at.field("env")));
    errors.extend(env::env_from(container, &at.field("envFrom")));
    mounts(pod, container, &at.field("volumeMounts"), errors);
    devices(pod, container, &at.field("volumeDevices"), errors);
    errors.extend(one_of(container, "imagePullPolicy", at, &["Always", "IfNotPresent", "Never"]));
    if let Some(requirements) = object::get(container, "resources") {
        errors.extend(resources::requirements(requirements, &at.field("resources")));
        errors.extend(claims::used(pod.spec, requirements, &at.field("resources")));
    }
    resize_policy(pod, container, at, errors);
    if let Some(signal) = object::get(container, "lifecycle.stopSignal").and_then(Value::as_str) {
        let lifecycle = at.field("lifecycle");
        errors.extend(os::stop_signal(pod.spec, signal, &lifecycle.field("stopSignal")));
    }
    errors.extend(security::container(pod.spec, container, &at.field("securityContext")));
}

fn lifecycle(pod: Pod<'_>, container: &Value, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = at.field("lifecycle");
    for field in ["postStart", "preStop"] {
        if let Some(handler) =
            object::get(container, "lifecycle").and_then(|it| object::get(it, field))
        {
            let grace = object::int(pod.spec, "terminationGracePeriodSeconds").unwrap_or(0);
            errors.extend(probe::lifecycle_handler(handler, grace, &path.field(field)));
        }
    }
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(it) = object::get(container, kind) {
            errors.extend(probe::probe(it, kind, &at.field(kind)));
        }
    }
}

/// What a container that joins a running pod has no use for.
const NOT_EPHEMERAL: [&str; 8] = [
    "ports",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
];

fn ephemeral(pod: Pod<'_>, container: &Value, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    for field in NOT_EPHEMERAL {
        if object::get(container, field).is_some() {
            errors.push(FieldError::forbidden(
                at.field(field),
                "cannot be set for an Ephemeral Container",
            ));
        }
    }
    if object::get(container, "resources")
        .is_some_and(|it| it.as_object().is_some_and(|it| !it.is_empty()))
    {
        errors.push(FieldError::forbidden(
            at.field("resources"),
            "cannot be set for an Ephemeral Container",
        ));
    }
    let mounts = at.field("volumeMounts");
    for (i, mount) in object::list(container, "volumeMounts").iter().enumerate() {
        for field in ["subPath", "subPathExpr"] {
            if !object::text(mount, field).is_empty() {
                errors.push(FieldError::forbidden(
                    mounts.index(i).field(field),
                    "cannot be set for an Ephemeral Container",
                ));
            }
        }
    }
    let target = object::text(container, "targetContainerName");
    let mut all =
        object::list(pod.spec, "containers").iter().chain(object::list(pod.spec, "initContainers"));
    if !target.is_empty() && !all.any(|it| object::text(it, "name") == target) {
        errors.push(FieldError::not_found(at.field("targetContainerName"), target));
    }
}

fn resize_policy(pod: Pod<'_>, container: &Value, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = at.field("resizePolicy");
    let mut seen = BTreeSet::new();
    for policy in object::list(container, "resizePolicy") {
        let name = object::text(policy, "resourceName");
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(path, name));
        }
        if !matches!(name, "cpu" | "memory") {
            errors.push(FieldError::not_supported(path, name, &["cpu", "memory"]));
        }
        match object::text(policy, "restartPolicy") {
            "" => errors.push(FieldError::required(path, "")),
            "NotRequired" => {}
            "RestartContainer" if object::text(pod.spec, "restartPolicy") == "Never" => {
                errors.push(FieldError::invalid(
                    path,
                    "RestartContainer",
                    "must be 'NotRequired' when `restartPolicy` is 'Never'",
                ));
            }
            "RestartContainer" => {}
            other => {
                let known = &["NotRequired", "RestartContainer"];
                errors.push(FieldError::not_supported(path, other, known));
            }
        }
    }
}

fn ports(pod: Pod<'_>, container: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let host_network = object::flag(pod.spec, "hostNetwork");
    let mut seen = BTreeSet::new();
    for (i, port) in object::list(container, "ports").iter().enumerate() {
        let at = path.index(i);
        let name = object::text(port, "name");
        if !name.is_empty() {
            let wrong = names::port_name(name);
            if wrong.is_empty() {
                if !seen.insert(name) {
                    errors.push(FieldError::duplicate(at.field("name"), name));
                }
            } else {
                for wrong in wrong {
                    errors.push(FieldError::invalid(at.field("name"), name, wrong));
                }
            }
        }
        let number = object::int(port, "containerPort").unwrap_or(0);
        if number == 0 {
            errors.push(FieldError::required(at.field("containerPort"), ""));
        } else {
            for wrong in names::port_number(number) {
                errors.push(FieldError::invalid(at.field("containerPort"), number, wrong));
            }
        }
        let host = object::int(port, "hostPort").unwrap_or(0);
        if host != 0 {
            for wrong in names::port_number(host) {
                errors.push(FieldError::invalid(at.field("hostPort"), host, wrong));
            }
            if host_network && host != number {
                errors.push(FieldError::invalid(
                    at.field("containerPort"),
                    number,
                    "must match `hostPort` when `hostNetwork` is true",
                ));
            }
        }
        let address = object::text(port, "hostIP");
        if !address.is_empty() {
            errors.extend(ip(address, at.field("hostIP")));
        }
        errors.extend(one_of(port, "protocol", &at, &["SCTP", "TCP", "UDP"]));
    }
}

fn host_port_conflicts(containers: &[Value], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        let at = path.index(i);
        let ports = at.field("ports");
        for (j, port) in object::list(container, "ports").iter().enumerate() {
            let host = object::int(port, "hostPort").unwrap_or(0);
            if host == 0 {
                continue;
            }
            let (protocol, address) =
                (object::text(port, "protocol"), object::text(port, "hostIP"));
            let key = format!("{protocol}/{address}/{host}");
            let item = ports.index(j);
            if !seen.insert(key.clone()) {
                errors.push(FieldError::duplicate(item.field("hostPort"), key));
            }
        }
    }
}

fn mounts(pod: Pod<'_>, container: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let privileged = object::flag(container, "securityContext.privileged");
    for (i, mount) in object::list(container, "volumeMounts").iter().enumerate() {
        let at = path.index(i);
        let name = object::text(mount, "name");
        if name.is_empty() {
            errors.push(FieldError::required(at.field("name"), ""));
        } else if !pod.volumes.contains_key(name) {
            errors.push(FieldError::not_found(at.field("name"), name));
        }
        let target = object::text(mount, "mountPath");
        if target.is_empty() {
            errors.push(FieldError::required(at.field("mountPath"), ""));
        } else if seen.insert(target, i).is_some() {
            errors.push(FieldError::invalid(at.field("mountPath"), target, "must be unique"));
        }
        let (sub, expression) =
            (object::text(mount, "subPath"), object::text(mount, "subPathExpr"));
        if !sub.is_empty() {
            errors.extend(descending(sub, &at.field("subPath")));
        }
        if !expression.is_empty() {
            if !sub.is_empty() {
                errors.push(FieldError::invalid(
                    at.field("subPathExpr"),
                    expression,
                    "subPathExpr and subPath are mutually exclusive",
                ));
            }
            errors.extend(descending(expression, &at.field("subPathExpr")));
        }
        errors.extend(optional_one_of(
            mount,
            "mountPropagation",
            &at,
            &["Bidirectional", "HostToContainer", "None"],
        ));
        errors.extend(recursive(mount, &at));
        if object::text(mount, "mountPropagation") == "Bidirectional" && !privileged {
            errors.push(FieldError::forbidden(
                at.field("mountPropagation"),
                "Bidirectional mount propagation is available only to privileged containers",
            ));
        }
    }
}

/// A mount that is read-only all the way down must be read-only, and come from nowhere else.
fn recursive(mount: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = at.field("recursiveReadOnly");
    match object::text(mount, "recursiveReadOnly") {
        "" | "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !object::flag(mount, "readOnly") {
                let why = "may only be specified when readOnly is true";
                errors.push(FieldError::forbidden(path, why));
            }
            if !matches!(object::text(mount, "mountPropagation"), "" | "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                errors.push(FieldError::forbidden(path, why));
            }
        }
        other => {
            let known = &["Disabled", "Enabled", "IfPossible"];
            errors.push(FieldError::not_supported(path, other, known));
        }
    }
    errors
}

fn devices(pod: Pod<'_>, container: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (i, device) in object::list(container, "volumeDevices").iter().enumerate() {
        let at = path.index(i);
        let name = object::text(device, "name");
        match pod.volumes.get(name) {
            _ if name.is_empty() => errors.push(FieldError::required(at.field("name"), "")),
            None => errors.push(FieldError::not_found(at.field("name"), name)),
            Some(volume) => {
                let claim = ["persistentVolumeClaim", "ephemeral"]
                    .iter()
                    .any(|it| object::get(volume, it).is_some());
                if !claim {
                    errors.push(FieldError::invalid(
                        at.field("name"),
                        name,
                        "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                    ));
                }
            }
        }
        let target = object::text(device, "devicePath");
        let path_at = at.field("devicePath");
        if target.is_empty() {
            errors.push(FieldError::required(path_at, ""));
        } else {
            errors.extend(no_back_steps(target, &path_at));
            let mounted = object::list(container, "volumeMounts");
            if mounted.iter().any(|it| object::text(it, "mountPath") == target) {
                let why = "must not already exist in volumeMounts";
                errors.push(FieldError::invalid(path_at, target, why));
            }
            if !seen.insert(target) {
                errors.push(FieldError::invalid(path_at, target, "must be unique"));
            }
        }
    }
}

/// Checks a path that must stay below where it starts.
pub(super) fn descending(text: &str, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if text.starts_with('/') {
        errors.push(FieldError::invalid(path, text, "must be a relative path"));
    }
    errors.extend(no_back_steps(text, path));
    errors
}

/// Checks that no part of a path is `..`.
pub(in crate::validation) fn no_back_steps(text: &str, path: &Path<'_>) -> Option<FieldError> {
    text.split('/')
        .any(|it| it == "..")
        .then(|| FieldError::invalid(path, text, "must not contain '..'"))
}
