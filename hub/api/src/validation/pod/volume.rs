//! Volumes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::{one_of, required};
use super::container::no_back_steps;
use super::env::resource_ref;
use crate::names;
use crate::object;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::status::FieldError;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const HOST_PATH_TYPES: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];
const DOWNWARD_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Checks all volumes and returns them by name.
pub(super) fn volumes<'a>(
    spec: &'a Value,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) -> BTreeMap<&'a str, &'a Value> {
    let mut out = BTreeMap::new();
    for (i, volume) in object::list(spec, "volumes").iter().enumerate() {
        let at = path.index(i);
        source(volume, &at, errors);
        let name = object::text(volume, "name");
        if name.is_empty() {
            errors.push(FieldError::required(at.field("name"), ""));
            continue;
        }
        for wrong in names::dns1123_label(name) {
            errors.push(FieldError::invalid(at.field("name"), name, wrong));
        }
        if out.insert(name, volume).is_some() {
            errors.push(FieldError::duplicate(at.field("name"), name));
        }
    }
    out
}

fn source(volume: &Value, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut first = true;
    for (kind, source) in volume.as_object().into_iter().flatten() {
        if kind == "name" || source.is_null() {
            continue;
        }
        let path = at.field(kind);
        if !first {
            errors.push(FieldError::forbidden(path, "may not specify more than 1 volume type"));
            continue;
        }
        first = false;
        match kind.as_str() {
            "emptyDir" => empty_dir(source, &path, errors),
            "hostPath" => host_path(source, &path, errors),
            "secret" => {
                errors.extend(required(source, "secretName", &path));
                files(source, &path, errors);
            }
            "configMap" => {
                errors.extend(required(source, "name", &path));
                files(source, &path, errors);
            }
            "downwardAPI" => {
                mode(source, "defaultMode", &path, errors);
                downward_items(source, &path, errors);
            }
            "projected" => projected(source, &path, errors),
            "persistentVolumeClaim" => errors.extend(required(source, "claimName", &path)),
            "nfs" => {
                errors.extend(required(source, "server", &path));
                errors.extend(required(source, "path", &path));
            }
            "image" => {
                errors.extend(required(source, "reference", &path));
                let policies = &["Always", "IfNotPresent", "Never"];
                errors.extend(one_of(source, "pullPolicy", &path, policies));
            }
            "csi" => errors.extend(required(source, "driver", &path)),
            _ => {}
        }
    }
    if first {
        errors.push(FieldError::required(*at, "must specify a volume type"));
    }
}

fn empty_dir(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let limit = object::text(source, "sizeLimit");
    if Quantity::parse(limit).is_ok_and(Quantity::is_negative) {
        errors.push(FieldError::forbidden(
            path.field("sizeLimit"),
            "SizeLimit field must be a valid resource quantity",
        ));
    }
}

fn host_path(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let text = object::text(source, "path");
    errors.extend(required(source, "path", path));
    errors.extend(no_back_steps(text, &path.field("path")));
    let ty = object::text(source, "type");
    if !HOST_PATH_TYPES.contains(&ty) {
        errors.push(FieldError::not_supported(path.field("type"), ty, HOST_PATH_TYPES));
    }
}

fn files(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    mode(source, "defaultMode", path, errors);
    key_items(source, path, errors);
}

fn key_items(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let items = path.field("items");
    for (i, item) in object::list(source, "items").iter().enumerate() {
        let at = items.index(i);
        errors.extend(required(item, "key", &at));
        errors.extend(required(item, "path", &at));
        local_path(object::text(item, "path"), &at.field("path"), errors);
        mode(item, "mode", &at, errors);
    }
}

fn downward_items(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let items = path.field("items");
    for (i, item) in object::list(source, "items").iter().enumerate() {
        let at = items.index(i);
        errors.extend(required(item, "path", &at));
        local_path(object::text(item, "path"), &at.field("path"), errors);
        match (object::get(item, "fieldRef"), object::get(item, "resourceFieldRef")) {
            (Some(field), None) => {
                errors.extend(field_ref(field, DOWNWARD_FIELDS, &at.field("fieldRef")));
            }
            (None, Some(field)) => {
                errors.extend(resource_ref(field, true, &at.field("resourceFieldRef")));
            }
            (Some(_), Some(_)) => errors.push(FieldError::invalid(
                at,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            )),
            (None, None) => errors.push(FieldError::required(
                at.field("fieldRef"),
                "one of fieldRef and resourceFieldRef is required",
            )),
        }
        mode(item, "mode", &at, errors);
    }
}

fn projected(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    mode(source, "defaultMode", path, errors);
    let sources = path.field("sources");
    for (i, source) in object::list(source, "sources").iter().enumerate() {
        let at = sources.index(i);
        let mut first = true;
        for (kind, part) in source.as_object().into_iter().flatten() {
            let part_path = at.field(kind);
            if !first {
                let why = "may not specify more than 1 volume type per source";
                errors.push(FieldError::forbidden(part_path, why));
                continue;
            }
            first = false;
            match kind.as_str() {
                "configMap" | "secret" => {
                    errors.extend(required(part, "name", &part_path));
                    key_items(part, &part_path, errors);
                }
                "downwardAPI" => downward_items(part, &part_path, errors),
                "serviceAccountToken" => {
                    let seconds = object::int(part, "expirationSeconds").unwrap_or(3600);
                    if seconds < 600 {
                        errors.push(FieldError::invalid(
                            part_path.field("expirationSeconds"),
                            seconds,
                            "may not specify a duration less than 10 minutes",
                        ));
                    }
                    errors.extend(required(part, "path", &part_path));
                    local_path(object::text(part, "path"), &part_path.field("path"), errors);
                }
                _ => {}
            }
        }
        if first {
            errors.push(FieldError::required(at, "must specify a volume source"));
        }
    }
}

/// Checks a reference to a field of the pod itself.
pub(super) fn field_ref(field: &Value, known: &[&str], path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(required(field, "apiVersion", path));
    let text = object::text(field, "fieldPath");
    if text.is_empty() {
        errors.push(FieldError::required(path.field("fieldPath"), ""));
        return errors;
    }
    let subscripted = |key: &str| {
        let rest = text.strip_prefix(key)?;
        rest.strip_prefix("['")?.strip_suffix("']")
    };
    let key = subscripted("metadata.labels").or_else(|| subscripted("metadata.annotations"));
    match key {
        Some(key) => {
            for wrong in names::qualified_name(&key.to_lowercase()) {
                errors.push(FieldError::invalid(*path, key, wrong));
            }
        }
        None if known.contains(&text) => {}
        None => errors.push(FieldError::not_supported(path.field("fieldPath"), text, known)),
    }
    errors
}

/// Checks the path of a file inside a volume.
fn local_path(text: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if text.starts_with('/') {
        errors.push(FieldError::invalid(path, text, "must be a relative path"));
    }
    errors.extend(no_back_steps(text, path));
    // Names with two leading dots are the volume's own.
    if text.starts_with("..") && text != ".." && !text.starts_with("../") {
        errors.push(FieldError::invalid(path, text, "must not start with '..'"));
    }
}

fn mode(source: &Value, field: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(mode) = object::int(source, field).filter(|it| !(0..=0o777).contains(it)) {
        errors.push(FieldError::invalid(path.field(field), mode, MODE));
    }
}
