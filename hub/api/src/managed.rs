//! Who manages which field: `metadata.managedFields`, and server-side apply.
//!
//! Follows <https://kubernetes.io/docs/reference/using-api/server-side-apply/>. Every write that is
//! no apply goes through [`track`]; an apply through [`apply`], which makes the object and its entries
//! at once. Both know types through [`model::Model`] and versions through [`Versions`].

pub mod element;
pub mod model;
pub mod set;

mod apply;
mod entries;
mod quiet;
mod reset;
mod scale;
mod track;
mod versions;
mod walk;

pub use apply::{ApplyError, Conflict, apply};
pub use entries::{check_entries, manager_from_user_agent};
pub use reset::Scope;
pub use scale::{from_scale, to_scale};
pub use track::{keep_times, track};
pub use versions::{OneVersion, Versions};

use serde_json::Value;

/// What a write says about itself.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// Who writes: the `fieldManager` parameter, or what the user agent gives.
    pub manager: &'a str,
    /// The version of the API that the objects are in.
    pub api_version: &'a str,
    /// Their kind.
    pub kind: &'a str,
    /// What is written of the object, empty for the object itself.
    pub subresource: &'a str,
    /// What such a write can change.
    pub scope: &'a Scope,
    /// The time, as objects have it.
    pub time: &'a str,
}

/// Takes `metadata.managedFields` out of an object.
pub fn take_entries(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

/// Sets `metadata.managedFields`, or removes it.
pub fn set_entries(object: &mut Value, entries: Option<Value>) {
    let Some(entries) = entries else {
        take_entries(object);
        return;
    };
    crate::object::ensure(object, "metadata").insert("managedFields".to_owned(), entries);
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
