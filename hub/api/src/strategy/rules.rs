//! Strategies as tables: for kinds whose rules are a handful of functions.

use serde_json::Value;

use super::Strategy;
use crate::names;
use crate::status::FieldError;
use crate::write::WriteContext;

/// The rules of one kind. What is left out is as for any kind, see [`Rules::PLAIN`].
#[derive(Debug)]
pub struct Rules {
    /// Fills in what the client left out. Idempotent.
    pub default: fn(&mut Value),
    /// Checks a name.
    pub check_name: fn(&str) -> Vec<String>,
    /// Sets what the server decides about a new object.
    pub prepare_create: fn(&mut Value, &WriteContext<'_>),
    /// Sets what the server decides about a changed object.
    pub prepare_update: fn(&mut Value, &Value),
    /// Sets what the server decides about a changed status.
    pub prepare_status: fn(&mut Value, &Value),
    /// Checks what must hold only when an object is made, after [`Self::validate`].
    pub validate_create: fn(&Value) -> Vec<FieldError>,
    /// Checks a change, after [`Self::validate`].
    pub validate_update: fn(&Value, &Value) -> Vec<FieldError>,
    /// Checks a changed status.
    pub validate_status: fn(&Value, &Value) -> Vec<FieldError>,
    /// Checks a whole object.
    pub validate: fn(&Value) -> Vec<FieldError>,
    /// What is allowed, but hardly meant.
    pub warnings: fn(&Value) -> Vec<String>,
    /// Whether something besides finalizers in the metadata keeps a terminating object.
    pub holds_deletion: fn(&Value) -> bool,
    /// Sets what the server decides about an object that is marked as terminating.
    pub prepare_delete: fn(&mut Value),
    /// Top-level fields whose change is a new generation.
    pub generation_fields: &'static [&'static str],
    /// Whether a PUT creates.
    pub creates_on_update: bool,
}

impl Rules {
    /// A kind without rules: its status, if it has any, is not the creator's to say.
    pub const PLAIN: Self = Self {
        default: |_| {},
        check_name: names::dns1123_subdomain,
        prepare_create: |object, _| drop_status(object),
        prepare_update: |_, _| {},
        prepare_status: |_, _| {},
        validate_create: |_| Vec::new(),
        validate_update: |_, _| Vec::new(),
        validate_status: |_, _| Vec::new(),
        validate: |_| Vec::new(),
        warnings: |_| Vec::new(),
        holds_deletion: |_| false,
        prepare_delete: |_| {},
        generation_fields: &[],
        creates_on_update: false,
    };
}

/// Takes away what a creator says about the status.
pub fn drop_status(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
}

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        (self.default)(object);
    }

    fn check_name(&self, name: &str) -> Vec<String> {
        (self.check_name)(name)
    }

    fn prepare_create(&self, object: &mut Value, context: &WriteContext<'_>) {
        (self.prepare_create)(object, context);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        (self.prepare_update)(new, old);
    }

    fn prepare_status(&self, new: &mut Value, old: &Value) {
        (self.prepare_status)(new, old);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        (self.validate)(object)
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        (self.validate_create)(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        (self.validate_update)(new, old)
    }

    fn validate_status(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        (self.validate_status)(new, old)
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        (self.warnings)(object)
    }

    fn holds_deletion(&self, object: &Value) -> bool {
        (self.holds_deletion)(object)
    }

    fn prepare_delete(&self, object: &mut Value) {
        (self.prepare_delete)(object);
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        self.generation_fields
    }

    fn creates_on_update(&self) -> bool {
        self.creates_on_update
    }
}
