//! Metadata of every object.

use serde_json::Value;

use super::{immutable, labels};
use crate::names;
use crate::object;
use crate::path::Path;
use crate::resource::Resource;
use crate::status::FieldError;
use crate::write::added_finalizers;

/// Bytes that all annotations of an object may have together.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Checks `metadata` of an object of `resource`.
pub fn validate(object: &Value, resource: &Resource) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let meta = Path::Root.field("metadata");
    let base = object::text(object, "metadata.generateName");
    if !base.is_empty() {
        // What follows the base is alphanumeric: a trailing dash is no end.
        let probe = match base.strip_suffix('-') {
            Some(rest) => format!("{rest}a"),
            None => base.to_owned(),
        };
        for wrong in resource.strategy.check_name(&probe) {
            errors.push(FieldError::invalid(meta.field("generateName"), base, wrong));
        }
    }
    let name = object::name(object);
    if name.is_empty() {
        errors.push(FieldError::required(meta.field("name"), "name or generateName is required"));
    } else {
        for wrong in resource.strategy.check_name(name) {
            errors.push(FieldError::invalid(meta.field("name"), name, wrong));
        }
    }
    if resource.namespaced {
        let namespace = object::namespace(object);
        if namespace.is_empty() {
            errors.push(FieldError::required(meta.field("namespace"), ""));
        } else {
            for wrong in names::dns1123_label(namespace) {
                errors.push(FieldError::invalid(meta.field("namespace"), namespace, wrong));
            }
        }
    }
    errors.extend(labels(object::labels(object), &meta.field("labels")));
    errors.extend(annotations(object, &meta.field("annotations")));
    errors.extend(owner_references(object, &meta));
    errors.extend(finalizers(object, &meta));
    errors
}

/// Checks `metadata` of a changed object: the whole of it, and the change.
pub fn validate_update(new: &Value, old: &Value, resource: &Resource) -> Vec<FieldError> {
    let mut errors = validate(new, resource);
    errors.extend(added_finalizers(new, old));
    let meta = Path::Root.field("metadata");
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        let (new, old) = (new["metadata"].get(field), old["metadata"].get(field));
        errors.extend(immutable(new, old, &meta.field(field)));
    }
    errors
}

/// Checks labels and annotations alone.
pub(crate) fn labels_and_annotations(object: &Value) -> Vec<FieldError> {
    let meta = Path::Root.field("metadata");
    let mut errors = labels(object::labels(object), &meta.field("labels"));
    errors.extend(annotations(object, &meta.field("annotation")));
    errors
}

fn annotations(object: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in object::entries(object, "metadata.annotations") {
        // The rule is on the lower-case form.
        for wrong in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(path, key.as_str(), wrong));
        }
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > MAX_ANNOTATIONS {
        errors.push(FieldError::too_long(path, MAX_ANNOTATIONS));
    }
    errors
}

fn owner_references(object: &Value, meta: &Path<'_>) -> Vec<FieldError> {
    let path = meta.field("ownerReferences");
    let mut errors = Vec::new();
    let mut controllers: Vec<&str> = Vec::new();
    for (i, owner) in object::list(object, "metadata.ownerReferences").iter().enumerate() {
        let at = path.index(i);
        if object::text(owner, "apiVersion").is_empty() {
            errors.push(FieldError::invalid(
                at.field("apiVersion"),
                "",
                "version must not be empty",
            ));
        }
        for field in ["kind", "name", "uid"] {
            if object::text(owner, field).is_empty() {
                errors.push(FieldError::invalid(at.field(field), "", "must not be empty"));
            }
        }
        if object::flag(owner, "controller") {
            controllers.push(object::text(owner, "name"));
        }
    }
    if let [first, second, ..] = controllers.as_slice() {
        errors.push(FieldError::invalid(
            path,
            object["metadata"]["ownerReferences"].clone(),
            format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {second}"
            ),
        ));
    }
    errors
}

fn finalizers(object: &Value, meta: &Path<'_>) -> Vec<FieldError> {
    let path = meta.field("finalizers");
    let finalizers = object::list(object, "metadata.finalizers");
    let mut errors = Vec::new();
    for finalizer in finalizers.iter().filter_map(Value::as_str) {
        for wrong in names::qualified_name(finalizer) {
            errors.push(FieldError::invalid(path, finalizer, wrong));
        }
    }
    let has = |name: &str| finalizers.iter().any(|it| it == name);
    if has("orphan") && has("foregroundDeletion") {
        errors.push(FieldError::invalid(
            path,
            finalizers.to_vec(),
            "finalizer orphan and foregroundDeletion cannot be both set",
        ));
    }
    errors
}
