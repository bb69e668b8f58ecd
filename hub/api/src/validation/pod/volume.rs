//! Volumes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::{one_of, required, volume_source, volumes};
use super::container::{descending, no_back_steps};
use super::env::resource_ref;
use super::projected;
use crate::names;
use crate::object;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::status::FieldError;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const DOWNWARD_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Checks all volumes and returns them by name.
pub(super) fn all<'a>(
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
            "projected" => {
                mode(source, "defaultMode", &path, errors);
                projected::sources(source, &path, errors);
            }
            "persistentVolumeClaim" => errors.extend(required(source, "claimName", &path)),
            "image" => {
                errors.extend(required(source, "reference", &path));
                let policies = &["Always", "IfNotPresent", "Never"];
                errors.extend(one_of(source, "pullPolicy", &path, policies));
            }
            "csi" => {
                errors.extend(volume_source::csi_driver(source, &path));
                if let Some(secret) = object::get(source, "nodePublishSecretRef") {
                    errors.extend(required(secret, "name", &path.field("nodePublishSecretRef")));
                }
            }
            "ephemeral" => {
                let at = path.field("volumeClaimTemplate");
                match object::get(source, "volumeClaimTemplate") {
                    None => errors.push(FieldError::required(at, "")),
                    Some(template) => errors.extend(volumes::claim_template(template, &at)),
                }
            }
            "gitRepo" => {
                errors.extend(required(source, "repository", &path));
                let directory = object::text(source, "directory");
                errors.extend(descending(directory, &path.field("directory")));
            }
            kind => errors.extend(volume_source::check(kind, source, &path)),
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

fn files(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    mode(source, "defaultMode", path, errors);
    key_items(source, path, errors);
}

pub(super) fn key_items(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let items = path.field("items");
    for (i, item) in object::list(source, "items").iter().enumerate() {
        let at = items.index(i);
        errors.extend(required(item, "key", &at));
        errors.extend(required(item, "path", &at));
        local_path(object::text(item, "path"), &at.field("path"), errors);
        mode(item, "mode", &at, errors);
    }
}

pub(super) fn downward_items(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
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
pub(super) fn local_path(text: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
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
