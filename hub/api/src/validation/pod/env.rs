//! Environment variables.

use serde_json::Value;

use super::super::required;
use super::volume::field_ref;
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

pub(super) fn env(container: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, variable) in object::list(container, "env").iter().enumerate() {
        let at = path.index(i);
        let name = object::text(variable, "name");
        if name.is_empty() {
            errors.push(FieldError::required(at.field("name"), ""));
        } else {
            for wrong in names::env_name(name) {
                errors.push(FieldError::invalid(at.field("name"), name, wrong));
            }
        }
        if let Some(source) = object::get(variable, "valueFrom") {
            let has_value = !object::text(variable, "value").is_empty();
            errors.extend(value_from(source, has_value, &at.field("valueFrom")));
        }
    }
    errors
}

pub(super) fn env_from(container: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, source) in object::list(container, "envFrom").iter().enumerate() {
        let at = path.index(i);
        let prefix = object::text(source, "prefix");
        if !prefix.is_empty() {
            for wrong in names::env_name(prefix) {
                errors.push(FieldError::invalid(at.field("prefix"), prefix, wrong));
            }
        }
        let mut count = 0;
        for field in ["configMapRef", "secretRef"] {
            if let Some(reference) = object::get(source, field) {
                count += 1;
                errors.extend(required(reference, "name", &at.field(field)));
            }
        }
        match count {
            0 => errors.push(FieldError::invalid(
                at,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            )),
            1 => {}
            _ => errors.push(FieldError::invalid(
                at,
                "",
                "may not have more than one field specified at a time",
            )),
        }
    }
    errors
}

fn value_from(source: &Value, has_value: bool, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut count = 0;
    if let Some(field) = object::get(source, "fieldRef") {
        count += 1;
        errors.extend(field_ref(field, FIELDS, &path.field("fieldRef")));
    }
    if let Some(field) = object::get(source, "resourceFieldRef") {
        count += 1;
        errors.extend(resource_ref(field, false, &path.field("resourceFieldRef")));
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = object::get(source, kind) {
            count += 1;
            errors.extend(key_ref(reference, &path.field(kind)));
        }
    }
    if let Some(reference) = object::get(source, "fileKeyRef") {
        count += 1;
        let at = path.field("fileKeyRef");
        for field in ["key", "volumeName", "path"] {
            errors.extend(required(reference, field, &at));
        }
    }
    if count == 0 {
        errors.push(FieldError::invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ));
    } else if has_value {
        errors.push(FieldError::invalid(
            path,
            "",
            "may not be specified when `value` is not empty",
        ));
    } else if count > 1 {
        errors.push(FieldError::invalid(
            path,
            "",
            "may not have more than one field specified at a time",
        ));
    }
    errors
}

fn key_ref(reference: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(required(reference, "name", path));
    let key = object::text(reference, "key");
    if key.is_empty() {
        errors.push(FieldError::required(path.field("key"), ""));
    } else {
        for wrong in names::config_key(key) {
            errors.push(FieldError::invalid(path.field("key"), key, wrong));
        }
    }
    errors
}

/// Checks a reference to a container's own resources; in a volume it names the container.
pub(super) fn resource_ref(field: &Value, in_volume: bool, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if in_volume {
        errors.extend(required(field, "containerName", path));
    }
    let resource = object::text(field, "resource");
    let huge = ["limits.hugepages-", "requests.hugepages-"];
    if resource.is_empty() {
        errors.push(FieldError::required(path.field("resource"), ""));
    } else if !RESOURCES.contains(&resource) && !huge.iter().any(|it| resource.starts_with(it)) {
        errors.push(FieldError::not_supported(path.field("resource"), resource, RESOURCES));
    }
    errors
}
