//! PersistentVolumes and PersistentVolumeClaims.

use serde_json::Value;

use super::{immutable, labels, pod, quantity, required, same, selector, volume_source};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::status::FieldError;

const ACCESS_MODES: &[&str] =
    &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];
const ALONE: &str = "may not use ReadWriteOncePod with other access modes";

/// Fields of the spec of a PersistentVolume that are not its source.
const NOT_SOURCES: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// Checks a PersistentVolume.
pub fn volume(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let path = Path::Root.field("spec");
    let mut errors = Vec::new();
    if object::list(spec, "accessModes").is_empty() {
        errors.push(FieldError::required(path.field("accessModes"), ""));
    }
    errors.extend(access_modes(spec, &path));
    errors.extend(capacity(spec, &path.field("capacity")));
    errors.extend(super::optional_one_of(
        spec,
        "persistentVolumeReclaimPolicy",
        &path,
        &["Delete", "Recycle", "Retain"],
    ));
    if let Some(affinity) = object::get(spec, "nodeAffinity") {
        errors.extend(node_affinity(affinity, &path.field("nodeAffinity")));
    }
    errors.extend(source(spec, &path));
    let is_root = object::get(spec, "hostPath").is_some()
        && object::text(spec, "hostPath.path").trim_matches('/').is_empty();
    if is_root && object::text(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        errors.push(FieldError::forbidden(
            path.field("persistentVolumeReclaimPolicy"),
            "may not be 'recycle' for a hostPath mount of '/'",
        ));
    }
    errors.extend(class_names(spec, &path));
    let attributes = object::get(spec, "volumeAttributesClassName").is_some();
    if attributes && object::get(spec, "csi").is_none() {
        errors.push(FieldError::required(
            path.field("csi"),
            "has to be specified when using volumeAttributesClassName",
        ));
    }
    errors
}

/// Checks a changed PersistentVolume: its source stays.
pub fn volume_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::Root.field("spec");
    let (new, old) = (&new["spec"], &old["spec"]);
    let mut errors = Vec::new();
    let (source, before) = (only_source(new), only_source(old));
    if !same(&source, &before) {
        let changed = pod::changes(&source, &before, &path);
        errors.push(FieldError::forbidden(
            path.field("persistentvolumesource"),
            format!("spec.persistentvolumesource is immutable after creation\n{changed}"),
        ));
    }
    let field = |it: &'static str| (new.get(it), old.get(it));
    let (mode, old_mode) = field("volumeMode");
    errors.extend(immutable(mode, old_mode, &path.field("volumeMode")));
    let (affinity, old_affinity) = field("nodeAffinity");
    if old_affinity.is_some_and(|it| !it.is_null()) {
        errors.extend(immutable(affinity, old_affinity, &path.field("nodeAffinity")));
    }
    errors.extend(attributes_update(new, old, &path));
    errors
}

/// Checks a PersistentVolumeClaim.
pub fn claim(object: &Value) -> Vec<FieldError> {
    claim_spec(&object["spec"], &Path::Root.field("spec"))
}

/// Checks the template of a claim: its labels, its annotations and its spec.
pub(super) fn claim_template(template: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let meta = path.field("metadata");
    let mut errors = labels(object::labels(template), &meta.field("labels"));
    errors.extend(claim_spec(&template["spec"], &path.field("spec")));
    errors
}

fn claim_spec(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if object::list(spec, "accessModes").is_empty() {
        let why = "at least 1 access mode is required";
        errors.push(FieldError::required(path.field("accessModes"), why));
    }
    if let Some(selector) = object::get(spec, "selector") {
        errors.extend(selector::label_selector(selector, &path.field("selector")));
    }
    errors.extend(access_modes(spec, path));
    let resources = path.field("resources");
    match spec["resources"]["requests"].get("storage") {
        None => errors.push(FieldError::required(resources.key("storage"), "")),
        Some(amount) => errors.extend(positive(amount, &resources.key("storage"))),
    }
    errors.extend(class_names(spec, path));
    errors.extend(data_sources(spec, path));
    errors
}

/// Checks a changed PersistentVolumeClaim: it may be bound, and grow while it is.
pub fn claim_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::Root.field("spec");
    let mut errors = Vec::new();
    let (spec, before) = (&new["spec"], &old["spec"]);
    let mut munged = spec.clone();
    let mut keep: Vec<&str> = vec!["volumeAttributesClassName"];
    if object::text(before, "volumeName").is_empty() {
        keep.push("volumeName");
    }
    if before.get("storageClassName").is_none_or(Value::is_null) && class_annotation(old) {
        keep.push("storageClassName");
    }
    pod::keep(&mut munged, before, &keep);
    let size = |it: &Value| it["resources"]["requests"].get("storage").and_then(quantity);
    let bound = object::text(new, "status.phase") == "Bound";
    if bound && munged["resources"].get("requests").is_some() {
        munged["resources"]["requests"]["storage"] =
            before["resources"]["requests"].get("storage").cloned().unwrap_or_default();
    }
    if !same(&munged, before) {
        let changed = pod::changes(&munged, before, &path);
        errors.push(FieldError::forbidden(
            path,
            format!(
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{changed}"
            ),
        ));
    }
    if let (Some(after), Some(before)) = (size(spec), size(before))
        && after < before
    {
        let has = new["status"]["capacity"].get("storage").and_then(quantity);
        if has.is_none_or(|it| after <= it) {
            let storage = path.field("resources");
            let storage = storage.field("requests");
            errors.push(FieldError::forbidden(
                storage.field("storage"),
                "field can not be less than status.capacity",
            ));
        }
    }
    errors.extend(immutable(
        spec.get("volumeMode"),
        before.get("volumeMode"),
        &path.field("volumeMode"),
    ));
    errors.extend(attributes_update(spec, before, &path));
    errors
}

/// Checks the status of a PersistentVolumeClaim.
pub fn claim_status(object: &Value) -> Vec<FieldError> {
    let path = Path::Root.field("status");
    let mut errors = Vec::new();
    for list in ["capacity", "allocatedResources"] {
        let at = path.field(list);
        for (name, amount) in object["status"][list].as_object().into_iter().flatten() {
            if quantity(amount).is_none_or(Quantity::is_negative) {
                let why = "must be a valid resource quantity";
                errors.push(FieldError::invalid(at.key(name), amount.clone(), why));
            }
        }
    }
    errors
}

fn access_modes(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let at = path.field("accessModes");
    let modes: Vec<&str> =
        object::list(spec, "accessModes").iter().filter_map(Value::as_str).collect();
    let unknown = modes.iter().filter(|it| !ACCESS_MODES.contains(it));
    let mut errors: Vec<FieldError> =
        unknown.map(|it| FieldError::not_supported(at, *it, ACCESS_MODES)).collect();
    let single = modes.contains(&"ReadWriteOncePod");
    if single && modes.iter().any(|it| *it != "ReadWriteOncePod") {
        errors.push(FieldError::forbidden(at, ALONE));
    }
    errors
}

fn capacity(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let capacity = spec.get("capacity").and_then(Value::as_object);
    let Some(capacity) = capacity.filter(|it| !it.is_empty()) else {
        errors.push(FieldError::required(*path, ""));
        let none = Value::Object(serde_json::Map::new());
        errors.push(FieldError::not_supported(*path, none, &["storage"]));
        return errors;
    };
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        errors.push(FieldError::not_supported(*path, capacity.clone(), &["storage"]));
    }
    for (name, amount) in capacity {
        errors.extend(positive(amount, &path.key(name)));
    }
    errors
}

fn positive(amount: &Value, path: &Path<'_>) -> Option<FieldError> {
    match quantity(amount) {
        Some(it) if it > Quantity::ZERO => None,
        Some(it) => Some(FieldError::invalid(path, it.to_string(), "must be greater than zero")),
        None => Some(FieldError::invalid(path, amount.clone(), "must be a quantity")),
    }
}

fn node_affinity(affinity: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let at = path.field("required");
    match object::get(affinity, "required") {
        None => vec![FieldError::required(at, "must specify required node constraints")],
        Some(required) => pod::node_selector(required, &at),
    }
}

fn source(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut first = true;
    for (kind, source) in spec.as_object().into_iter().flatten() {
        if NOT_SOURCES.contains(&kind.as_str()) || source.is_null() {
            continue;
        }
        let at = path.field(kind);
        if !first {
            errors.push(FieldError::forbidden(at, "may not specify more than 1 volume type"));
            continue;
        }
        first = false;
        match kind.as_str() {
            "csi" => {
                errors.extend(volume_source::csi_driver(source, &at));
                errors.extend(required(source, "volumeHandle", &at));
                errors.extend(csi_secrets(source, &at));
            }
            "local" => {
                errors.extend(required(source, "path", &at));
                let text = object::text(source, "path");
                errors.extend(pod::no_back_steps(text, &at.field("path")));
                if object::get(spec, "nodeAffinity").is_none() {
                    let why = "Local volume requires node affinity";
                    errors.push(FieldError::required(path.field("nodeAffinity"), why));
                }
            }
            kind => errors.extend(volume_source::check(kind, source, &at)),
        }
    }
    if first {
        errors.push(FieldError::required(*path, "must specify a volume type"));
    }
    errors
}

fn csi_secrets(source: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
        "nodeStageSecretRef",
    ] {
        if let Some(secret) = object::get(source, field) {
            let at = path.field(field);
            errors.extend(required(secret, "name", &at));
            errors.extend(required(secret, "namespace", &at));
        }
    }
    errors
}

fn class_names(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let class = object::text(spec, "storageClassName");
    if !class.is_empty() {
        for wrong in names::dns1123_subdomain(class) {
            errors.push(FieldError::invalid(path.field("storageClassName"), class, wrong));
        }
    }
    errors.extend(super::optional_one_of(spec, "volumeMode", path, VOLUME_MODES));
    let class = object::text(spec, "volumeAttributesClassName");
    if !class.is_empty() {
        for wrong in names::dns1123_subdomain(class) {
            errors.push(FieldError::invalid(path.field("volumeAttributesClassName"), class, wrong));
        }
    }
    errors
}

fn data_sources(spec: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (source, reference) = (object::get(spec, "dataSource"), object::get(spec, "dataSourceRef"));
    for (field, it) in [("dataSource", source), ("dataSourceRef", reference)] {
        let Some(it) = it else { continue };
        let at = path.field(field);
        errors.extend(required(it, "name", &at));
        errors.extend(required(it, "kind", &at));
        let group = object::text(it, "apiGroup");
        let kind = object::text(it, "kind");
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            errors.push(FieldError::invalid(at, kind, ""));
        }
        if !group.is_empty() {
            for wrong in names::dns1123_subdomain(group) {
                errors.push(FieldError::invalid(at.field("apiGroup"), group, wrong));
            }
        }
    }
    let at = path.field("dataSource");
    if let (Some(source), Some(reference)) = (source, reference) {
        if !object::text(reference, "namespace").is_empty() {
            errors.push(FieldError::invalid(
                path,
                at.to_string(),
                "may not be specified when dataSourceRef.namespace is specified",
            ));
        } else if !same(source, reference) {
            errors.push(FieldError::invalid(path, at.to_string(), "must match dataSourceRef"));
        }
    }
    errors
}

fn attributes_update(new: &Value, old: &Value, path: &Path<'_>) -> Option<FieldError> {
    let field = "volumeAttributesClassName";
    let before = old.get(field).filter(|it| !it.is_null())?;
    match new.get(field).and_then(Value::as_str) {
        None => Some(FieldError::forbidden(
            path.field(field),
            "update from non-nil value to nil is forbidden",
        )),
        Some("") if before != "" => Some(FieldError::forbidden(
            path.field(field),
            "update from non-empty value to an empty string is forbidden",
        )),
        Some(_) => None,
    }
}

/// Whether the class was said by the annotation that was there before the field.
fn class_annotation(claim: &Value) -> bool {
    object::annotation(claim, "volume.beta.kubernetes.io/storage-class").is_some()
}

fn only_source(spec: &Value) -> Value {
    let mut spec = spec.clone();
    object::as_map(&mut spec).retain(|key, _| !NOT_SOURCES.contains(&key.as_str()));
    spec
}
