//! Updating objects, their status and a namespace's finalizers.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::create::{invalid_unless_empty, set_scope, set_type};
use super::{WriteContext, strip_server_fields};
use crate::object;
use crate::status::{FieldError, Status, quote};
use crate::strategy::Strategy;
use crate::validation::meta;

/// Turns a whole new object into the one to store: [`prepare_update`] and [`finish_update`], with
/// no admission between them.
pub fn update(new: Value, old: &Value, context: &WriteContext<'_>) -> Result<Value, Status> {
    finish_update(prepare_update(new, old, context)?, old, context)
}

/// The first half of an update, up to admission: what the server owns, and defaults. The status
/// stays where it is written apart.
pub fn prepare_update(
    mut new: Value,
    old: &Value,
    context: &WriteContext<'_>,
) -> Result<Value, Status> {
    let resource = context.resource;
    keep_metadata(&mut new, old, context)?;
    if resource.has_status() {
        keep_field(&mut new, old, "status");
    }
    set_type(&mut new, context);
    resource.strategy.default(&mut new);
    Ok(new)
}

/// The second half of an update, after admission may have changed the object: what the server
/// sets, and validation.
pub fn finish_update(
    mut new: Value,
    old: &Value,
    context: &WriteContext<'_>,
) -> Result<Value, Status> {
    let resource = context.resource;
    let strategy = &*resource.strategy;
    if resource.has_status() {
        keep_field(&mut new, old, "status");
    }
    strategy.prepare_update(&mut new, old);
    set_generation(&mut new, old, strategy);

    let mut errors = meta::validate_update(&new, old, resource);
    errors.extend(strategy.validate(&new));
    errors.extend(strategy.validate_update(&new, old));
    errors.dedup();
    invalid_unless_empty(context, &new, errors)?;
    set_type(&mut new, context);
    Ok(new)
}

/// Takes the status (and labels, annotations, finalizers) of the new object, all else stays:
/// [`prepare_status`] and [`finish_status`], with no admission between them.
pub fn update_status(new: Value, old: &Value, context: &WriteContext<'_>) -> Result<Value, Status> {
    finish_status(prepare_status(new, old, context)?, old, context)
}

/// The first half of an update of the status, up to admission.
pub fn prepare_status(
    mut new: Value,
    old: &Value,
    context: &WriteContext<'_>,
) -> Result<Value, Status> {
    keep_metadata(&mut new, old, context)?;
    keep_all_but_status(&mut new, old, context);
    set_type(&mut new, context);
    Ok(new)
}

/// The second half of an update of the status, after admission may have changed the object.
pub fn finish_status(
    mut new: Value,
    old: &Value,
    context: &WriteContext<'_>,
) -> Result<Value, Status> {
    let resource = context.resource;
    keep_all_but_status(&mut new, old, context);
    keep_meta_fields(&mut new, old, &["generation", "generateName", "ownerReferences"]);
    resource.strategy.prepare_status_at(&mut new, old, context.now);
    let mut errors = meta::validate_update(&new, old, resource);
    errors.extend(resource.strategy.validate_status(&new, old));
    invalid_unless_empty(context, &new, errors)?;
    set_type(&mut new, context);
    Ok(new)
}

/// The first half of what writes a part of an object (`finalize`, `ephemeralcontainers`), up to
/// admission; the functions of those parts are the second.
pub fn prepare_part(
    mut new: Value,
    old: &Value,
    context: &WriteContext<'_>,
) -> Result<Value, Status> {
    keep_metadata(&mut new, old, context)?;
    set_type(&mut new, context);
    Ok(new)
}

/// Restores what admission may not touch, and fills in defaults of what it added. `old` is the
/// stored object, `None` at a creation.
pub fn after_admission(new: &mut Value, old: Option<&Value>, context: &WriteContext<'_>) {
    super::prune_nulls(new, context.resource);
    object::ensure(new, "metadata");
    if let Some(old) = old {
        keep_meta_fields(new, old, &["name"]);
        keep_meta_fields(new, old, &KEPT);
    }
    match context.namespace.filter(|_| context.resource.namespaced) {
        Some(namespace) => new["metadata"]["namespace"] = json!(namespace),
        None => drop(object::ensure(new, "metadata").remove("namespace")),
    }
    object::ensure(new, "metadata").remove("resourceVersion");
    set_type(new, context);
    context.resource.strategy.default(new);
}

/// Takes `spec.finalizers` of the new namespace, all else stays. See [`super::is_gone`].
pub fn finalize(mut new: Value, old: &Value, context: &WriteContext<'_>) -> Result<Value, Status> {
    keep_metadata(&mut new, old, context)?;
    let finalizers = object::get(&new, "spec.finalizers").cloned();
    let metadata = new["metadata"].take();
    let mut out = old.clone();
    out["metadata"] = metadata;
    let spec = object::ensure(&mut out, "spec");
    match finalizers {
        Some(finalizers) => spec.insert("finalizers".to_owned(), finalizers),
        None => spec.remove("finalizers"),
    };
    let errors = meta::validate_update(&out, old, context.resource);
    invalid_unless_empty(context, &out, errors)?;
    set_type(&mut out, context);
    Ok(out)
}

/// Checks that the new object is the old one's next state, and keeps what the server owns.
pub(super) fn keep_metadata(
    new: &mut Value,
    old: &Value,
    context: &WriteContext<'_>,
) -> Result<(), Status> {
    let resource = context.resource;
    super::prune_nulls(new, context.resource);
    object::ensure(new, "metadata");
    strip_server_fields(new);
    set_scope(new, context)?;
    let (name, uid) = (object::name(new), object::uid(new));
    let (old_name, old_uid) = (object::name(old), object::uid(old));
    let wanted = context.name.unwrap_or(old_name);
    if name.is_empty() {
        new["metadata"]["name"] = json!(old_name);
    } else if name != wanted {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({wanted})"
        )));
    } else if !uid.is_empty() && uid != old_uid {
        return Err(Status::conflict(
            &resource.group,
            &resource.plural,
            name,
            &format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}"
            ),
        ));
    }
    keep_meta_fields(new, old, &KEPT);
    Ok(())
}

/// What of an object's metadata the server alone decides.
const KEPT: [&str; 5] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];

/// No finalizer may be added to what is being deleted.
pub(crate) fn added_finalizers(new: &Value, old: &Value) -> Option<FieldError> {
    if !object::is_terminating(old) {
        return None;
    }
    let names = |it| object::list(it, "metadata.finalizers").iter().filter_map(Value::as_str);
    let before: BTreeSet<&str> = names(old).collect();
    let added: Vec<String> = names(new).filter(|it| !before.contains(it)).map(quote).collect();
    if added.is_empty() {
        return None;
    }
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        added.join(", ")
    );
    Some(FieldError::forbidden("metadata.finalizers", detail))
}

fn keep_meta_fields(new: &mut Value, old: &Value, fields: &[&str]) {
    let metadata = object::ensure(new, "metadata");
    for field in fields {
        match old["metadata"].get(*field) {
            Some(value) => metadata.insert((*field).to_owned(), value.clone()),
            None => metadata.remove(*field),
        };
    }
}

fn keep_field(new: &mut Value, old: &Value, field: &str) {
    let map = object::as_map(new);
    match old.get(field) {
        Some(value) => map.insert(field.to_owned(), value.clone()),
        None => map.remove(field),
    };
}

/// Who writes the status may write of the metadata what the kind lets them.
fn keep_all_but_status(new: &mut Value, old: &Value, context: &WriteContext<'_>) {
    keep_all_but(new, old, &["metadata", "status"]);
    if context.resource.strategy.keeps_metadata_in_status() {
        let metadata = object::ensure(new, "metadata");
        metadata.retain(|key, _| key == "managedFields");
        let kept = old["metadata"].as_object().into_iter().flatten();
        let is_kept = |key: &str| !matches!(key, "managedFields" | "resourceVersion");
        metadata.extend(
            kept.filter(|(key, _)| is_kept(key)).map(|(key, it)| (key.clone(), it.clone())),
        );
    }
}

fn keep_all_but(new: &mut Value, old: &Value, taken: &[&str]) {
    let map = object::as_map(new);
    map.retain(|key, _| taken.contains(&key.as_str()));
    for (key, value) in old.as_object().into_iter().flatten() {
        if !taken.contains(&key.as_str()) {
            map.insert(key.clone(), value.clone());
        }
    }
}

fn set_generation(new: &mut Value, old: &Value, strategy: &dyn Strategy) {
    if strategy.generation_fields().is_empty() {
        return;
    }
    let changed = strategy.is_new_generation(new, old);
    let generation = object::int(old, "metadata.generation").unwrap_or(1);
    new["metadata"]["generation"] = json!(generation.saturating_add(i64::from(changed)));
}
