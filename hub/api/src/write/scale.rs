//! The `scale` subresource: `autoscaling/v1 Scale` of what has replicas.

use serde_json::{Value, json};

use super::WriteContext;
use super::update::update;
use crate::decode::{FieldValidation, Target, conform_kind};
use crate::object;
use crate::resource::Resource;
use crate::selector::LabelSelector;
use crate::status::{FieldError, Status};

const SCALE: Target<'static> = Target {
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    schema: "io.k8s.api.autoscaling.v1.Scale",
};

/// Shows an object of any resource as a `Scale`: a custom one by the paths of its definition.
pub fn get_scale_of(resource: &Resource, object: &Value) -> Result<Value, Status> {
    let Some(custom) = &resource.custom else { return get_scale(object) };
    let Some(paths) = &custom.scale else { return Err(Status::no_such_resource()) };
    let Some(replicas) = object::get(object, &paths.spec_replicas).and_then(Value::as_i64) else {
        let why = format!("the spec replicas field \".{}\" does not exist", paths.spec_replicas);
        return Err(Status::internal(why));
    };
    let found = object::int(object, &paths.status_replicas).unwrap_or(0);
    let mut status = json!({ "replicas": found });
    let selector = object::text(object, &paths.label_selector);
    if !paths.label_selector.is_empty() && !selector.is_empty() {
        status["selector"] = json!(selector);
    }
    Ok(json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": scale_metadata(object),
        "spec": { "replicas": replicas },
        "status": status,
    }))
}

fn scale_metadata(object: &Value) -> serde_json::Map<String, Value> {
    let mut metadata = serde_json::Map::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(key) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    metadata
}

/// Shows an object as a `Scale`. `metadata.resourceVersion` is shown if the object carries it.
pub fn get_scale(object: &Value) -> Result<Value, Status> {
    let selector = object::get(object, "spec.selector").unwrap_or(&Value::Null);
    let selector = if object::text(object, "kind") == "ReplicationController" {
        LabelSelector::from_map(selector)
    } else {
        LabelSelector::from_value(selector)?
    };
    let selector = selector.to_string();
    let metadata = scale_metadata(object);
    let mut status = json!({"replicas": object::int(object, "status.replicas").unwrap_or(0)});
    if !selector.is_empty() {
        status["selector"] = json!(selector);
    }
    let mut spec = json!({});
    if let Some(replicas) = object::int(object, "spec.replicas").filter(|it| *it != 0) {
        spec["replicas"] = json!(replicas);
    }
    Ok(json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": metadata,
        "spec": spec,
        "status": status,
    }))
}

/// Takes `spec.replicas` of the scale, all else stays: the whole of a write to `scale` that comes
/// after admission of the [`prepare_scale`]d scale.
pub fn put_scale(scale: &Value, old: &Value, context: &WriteContext<'_>) -> Result<Value, Status> {
    let scale = &prepare_scale(scale.clone(), old, context)?;
    let wanted = object::name(old);
    let replicas = object::int(scale, "spec.replicas").unwrap_or(0);
    if replicas < 0 {
        let wrong =
            FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(Status::invalid("autoscaling", "Scale", wanted, vec![wrong]));
    }
    let mut new = old.clone();
    let path = context.resource.custom.as_ref().and_then(|it| it.scale.as_ref());
    set_replicas(&mut new, path.map_or("spec.replicas", |it| &it.spec_replicas), replicas);
    update(new, old, context)
}

/// Reads a scale that a client sent, and checks that it is one of this object.
pub fn prepare_scale(
    scale: Value,
    old: &Value,
    context: &WriteContext<'_>,
) -> Result<Value, Status> {
    let resource = context.resource;
    // A count of the wrong type must never read as zero.
    let scale = conform_kind(SCALE, &scale, FieldValidation::Ignore)?.object;
    let name = object::name(&scale);
    let wanted = object::name(old);
    if !name.is_empty() && name != wanted {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({wanted})"
        )));
    }
    let (uid, old_uid) = (object::uid(&scale), object::uid(old));
    if !uid.is_empty() && uid != old_uid {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}"
        );
        return Err(Status::conflict(&resource.group, &resource.plural, wanted, &why));
    }
    Ok(scale)
}

fn set_replicas(object: &mut Value, path: &str, replicas: i64) {
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut at = object;
    for key in parents.split('.').filter(|it| !it.is_empty()) {
        at = object::as_map(at).entry(key.to_owned()).or_insert(Value::Null);
    }
    object::as_map(at).insert(last.to_owned(), json!(replicas));
}
