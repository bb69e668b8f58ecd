//! Strategies: what is special about the writes of each kind. Everything general is in [`crate::write`].

use std::fmt;

use jiff::Timestamp;
use serde_json::Value;

use crate::names;
use crate::status::FieldError;
use crate::write::WriteContext;

pub mod admissionregistration;
pub mod apiregistration;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod flowcontrol;
pub mod networking;
pub mod node;
pub mod policy;
pub mod rbac;
pub mod resource;
pub mod scheduling;
pub mod storage;
pub mod storagemigration;
pub mod trust;
pub mod volumes;

mod pod;
mod rules;
mod service;

pub use self::pod::Pod;
pub use self::rules::{Rules, drop_status};
pub use self::service::SERVICE;

/// What is special about the writes of one kind.
pub trait Strategy: fmt::Debug + Send + Sync {
    /// Fills in what the client left out. Idempotent.
    fn default(&self, _object: &mut Value) {}

    /// Checks a name: returns what is wrong with it.
    fn check_name(&self, name: &str) -> Vec<String> {
        names::dns1123_subdomain(name)
    }

    /// Sets what the server decides about a new object, after defaults.
    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        if let Some(map) = object.as_object_mut() {
            map.remove("status");
        }
    }

    /// Sets what the server decides about a changed object, after defaults.
    fn prepare_update(&self, _new: &mut Value, _old: &Value) {}

    /// Sets what the server decides about a changed status.
    fn prepare_status(&self, _new: &mut Value, _old: &Value) {}

    /// As [`Self::prepare_status`], where what the server decides depends on the time.
    fn prepare_status_at(&self, new: &mut Value, old: &Value, _now: Timestamp) {
        self.prepare_status(new, old);
    }

    /// Whether who writes the status may write nothing else: not even labels, annotations and finalizers.
    fn keeps_metadata_in_status(&self) -> bool {
        false
    }

    /// Checks a whole object, beyond its metadata.
    fn validate(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Checks what must hold only when an object is made.
    fn validate_create(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Checks a change, beyond what holds of the new object by itself.
    fn validate_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Checks a changed status.
    fn validate_status(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// What of a new or changed object is allowed, but hardly meant: clients print it.
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Top-level fields whose change is a new generation; none where objects have no generation.
    fn generation_fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether a change makes a new generation.
    fn is_new_generation(&self, new: &Value, old: &Value) -> bool {
        self.generation_fields().iter().any(|it| new.get(it) != old.get(it))
    }

    /// Whether a PUT on a name that does not exist creates the object.
    fn creates_on_update(&self) -> bool {
        false
    }

    /// Seconds the object may take to terminate; absent where it goes at once.
    fn grace_period(&self, _object: &Value, _wanted: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether something besides finalizers in the metadata keeps a terminating object.
    fn holds_deletion(&self, _object: &Value) -> bool {
        false
    }

    /// Sets what the server decides about an object that is marked as terminating.
    fn prepare_delete(&self, _object: &mut Value) {}
}

/// A kind without rules of its own.
#[derive(Debug)]
pub struct Plain;

impl Strategy for Plain {
    fn prepare_create(&self, _object: &mut Value, _context: &WriteContext<'_>) {}
}
