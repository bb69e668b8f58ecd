//! The rules of every write: what a request may set, what the server sets, and what stays.
//!
//! Order of a write: the caller decodes (or patches), `prepare_*` fills defaults, the caller lets
//! admission see and change the object, `finish_*` sets what the server decides and validates, the
//! caller lets admission look once more, and stores. Objects that come out carry no `metadata.resourceVersion`:
//! storage stamps it.

use jiff::Timestamp;
use serde_json::Value;

use crate::object;
use crate::resource::Resource;

mod approval;
mod create;
mod delete;
pub mod disruption;
mod pod;
mod scale;
mod update;

pub use approval::update_approval;
pub use create::{create, finish_create, prepare_create};
pub use delete::{
    DeleteOptions, Deletion, Preconditions, Propagation, delete, delete_warning, is_gone,
};
pub use pod::{bind, resize, update_ephemeral_containers};
pub use scale::{get_scale, get_scale_of, prepare_scale, put_scale};
pub(crate) use update::added_finalizers;
pub use update::{
    after_admission, finalize, finish_status, finish_update, prepare_part, prepare_status,
    prepare_update, update, update_status,
};

/// What a write is about, and the fresh material it may need.
#[derive(Clone, Copy, Debug)]
pub struct WriteContext<'a> {
    /// The resource of the path.
    pub resource: &'a Resource,
    /// The namespace of the path.
    pub namespace: Option<&'a str>,
    /// The name of the path.
    pub name: Option<&'a str>,
    /// The time of the write.
    pub now: Timestamp,
    /// A fresh UID.
    pub uid: &'a str,
    /// Five fresh characters for `generateName`, see [`SUFFIX_ALPHABET`].
    pub suffix: &'a str,
}

/// The characters Kubernetes draws suffixes from: no vowels, nothing that reads like another.
pub const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Takes nulls away, which mean absent; but in custom resources some are values.
fn prune_nulls(object: &mut Value, resource: &Resource) {
    if resource.custom.is_none() {
        object::prune_nulls(object);
    } else if let Some(metadata) = object.get_mut("metadata") {
        object::prune_nulls(metadata);
    }
}

/// Removes what clients may send but the server alone decides or does not keep.
fn strip_server_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in ["resourceVersion", "selfLink"] {
            metadata.remove(key);
        }
        // An empty map or list is absent, as in every typed client; but no managed fields are the
        // wish to forget them, see `managed::track`.
        metadata.retain(|key, value| match value {
            Value::Object(map) => !map.is_empty(),
            Value::Array(items) => !items.is_empty() || key == "managedFields",
            Value::String(text) => !text.is_empty(),
            Value::Null => false,
            Value::Bool(_) | Value::Number(_) => true,
        });
    }
}

#[cfg(test)]
mod tests;
