//! Creating objects.

use serde_json::{Value, json};

use super::{WriteContext, strip_server_fields};
use crate::object;
use crate::status::{FieldError, Status};
use crate::time;
use crate::validation::meta;

/// Longest part of a generated name before its suffix.
const MAX_GENERATED_BASE: usize = 58;

/// Turns what a client wants created into the object to store: [`prepare_create`] and
/// [`finish_create`], with no admission between them.
pub fn create(object: Value, context: &WriteContext<'_>) -> Result<Value, Status> {
    finish_create(prepare_create(object, context)?, context)
}

/// The first half of a creation, up to admission: scope, name and defaults.
pub fn prepare_create(mut object: Value, context: &WriteContext<'_>) -> Result<Value, Status> {
    super::prune_nulls(&mut object, context.resource);
    object::ensure(&mut object, "metadata");
    if !object::resource_version(&object).is_empty() {
        return Err(Status::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    strip_server_fields(&mut object);
    set_scope(&mut object, context)?;
    check_name(&mut object, context)?;
    set_type(&mut object, context);
    context.resource.strategy.default(&mut object);
    Ok(object)
}

/// The second half of a creation, after admission may have changed the object: what the server
/// sets, and validation.
pub fn finish_create(mut object: Value, context: &WriteContext<'_>) -> Result<Value, Status> {
    let resource = context.resource;
    let strategy = &*resource.strategy;
    generate_name(&mut object, context);
    let metadata = object::ensure(&mut object, "metadata");
    metadata.insert("uid".to_owned(), json!(context.uid));
    metadata.insert("creationTimestamp".to_owned(), json!(time::format(context.now)));
    for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        metadata.remove(key);
    }
    if !strategy.generation_fields().is_empty() {
        metadata.insert("generation".to_owned(), json!(1));
    }

    strategy.prepare_create(&mut object, context);
    let mut errors = meta::validate(&object, resource);
    errors.extend(strategy.validate(&object));
    errors.extend(strategy.validate_create(&object));
    invalid_unless_empty(context, &object, errors)?;
    set_type(&mut object, context);
    Ok(object)
}

/// A 422 with all causes, if there are any.
pub(super) fn invalid_unless_empty(
    context: &WriteContext<'_>,
    object: &Value,
    errors: Vec<FieldError>,
) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    let resource = context.resource;
    let shown = match object::name(object) {
        "" => object::text(object, "metadata.generateName"),
        name => name,
    };
    Err(Status::invalid(&resource.group, &resource.kind, shown, errors))
}

pub(super) fn set_type(object: &mut Value, context: &WriteContext<'_>) {
    let map = object::as_map(object);
    map.insert("apiVersion".to_owned(), json!(context.resource.api_version()));
    map.insert("kind".to_owned(), json!(context.resource.kind));
}

/// Makes object and path agree about the namespace.
pub(super) fn set_scope(object: &mut Value, context: &WriteContext<'_>) -> Result<(), Status> {
    let named = object::namespace(object).to_owned();
    let metadata = object::ensure(object, "metadata");
    if !context.resource.namespaced {
        metadata.remove("namespace");
        return Ok(());
    }
    let wanted = context.namespace.unwrap_or_default();
    if named.is_empty() {
        metadata.insert("namespace".to_owned(), json!(wanted));
    } else if named != wanted {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Makes object and path agree about the name.
fn check_name(object: &mut Value, context: &WriteContext<'_>) -> Result<(), Status> {
    let name = object::name(object);
    match context.name {
        Some(wanted) if name.is_empty() && !has_name_base(object) => {
            object["metadata"]["name"] = json!(wanted);
            Ok(())
        }
        Some(wanted) if !name.is_empty() && wanted != name => Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({wanted})"
        ))),
        Some(_) | None => Ok(()),
    }
}

fn has_name_base(object: &Value) -> bool {
    !object::text(object, "metadata.generateName").is_empty()
}

fn generate_name(object: &mut Value, context: &WriteContext<'_>) {
    if !object::name(object).is_empty() || !has_name_base(object) {
        return;
    }
    let base = object::text(object, "metadata.generateName");
    let mut end = base.len().min(MAX_GENERATED_BASE);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let name = format!("{}{}", &base[..end], context.suffix);
    object["metadata"]["name"] = json!(name);
}
