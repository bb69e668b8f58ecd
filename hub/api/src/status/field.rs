//! One broken rule about one field, in the words of Kubernetes' `field.Error`.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Value, json};

use super::{Cause, quote};

/// One broken rule about one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Path of the field: `spec.containers[0].image`.
    pub field: String,
    /// Which kind of rule is broken.
    pub kind: FieldErrorKind,
    /// The value that breaks it.
    pub bad_value: Value,
    /// More words, or empty.
    pub detail: String,
}

/// Kinds of broken rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FieldErrorKind {
    /// The same value stands twice where it must be unique.
    Duplicate,
    /// The field may not be set or changed here.
    Forbidden,
    /// Something of ours broke while looking at the field.
    Internal,
    /// The value is malformed.
    Invalid,
    /// The value refers to something that is not there.
    NotFound,
    /// The value is none of those known.
    NotSupported,
    /// The value must be set.
    Required,
    /// The value is too long.
    TooLong,
    /// The list is too long.
    TooMany,
    /// The value has the wrong type.
    TypeInvalid,
}

impl FieldErrorKind {
    fn words(self) -> &'static str {
        match self {
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::Internal => "Internal error",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotFound => "Not found",
            Self::NotSupported => "Unsupported value",
            Self::Required => "Required value",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::Internal => "InternalError",
            Self::Invalid => "FieldValueInvalid",
            Self::NotFound => "FieldValueNotFound",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Required => "FieldValueRequired",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

impl FieldError {
    fn new(
        field: impl Into<String>,
        kind: FieldErrorKind,
        bad_value: Value,
        detail: impl Into<String>,
    ) -> Self {
        Self { field: field.into(), kind, bad_value, detail: detail.into() }
    }

    /// The value must be set.
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(field, FieldErrorKind::Required, json!(""), detail)
    }

    /// The value is malformed.
    pub fn invalid(
        field: impl Into<String>,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(field, FieldErrorKind::Invalid, value.into(), detail)
    }

    /// The value has the wrong type.
    pub fn type_invalid(
        field: impl Into<String>,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(field, FieldErrorKind::TypeInvalid, value.into(), detail)
    }

    /// The field may not be set or changed here.
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(field, FieldErrorKind::Forbidden, json!(""), detail)
    }

    /// The value stands twice.
    pub fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(field, FieldErrorKind::Duplicate, value.into(), "")
    }

    /// The value refers to nothing.
    pub fn not_found(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(field, FieldErrorKind::NotFound, value.into(), "")
    }

    /// The value is none of `supported`.
    pub fn not_supported(
        field: impl Into<String>,
        value: impl Into<Value>,
        supported: &[&str],
    ) -> Self {
        let quoted: Vec<String> = supported.iter().map(|it| quote(it)).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        Self::new(field, FieldErrorKind::NotSupported, value.into(), detail)
    }

    /// The value has more than `max` bytes.
    pub fn too_long(field: impl Into<String>, max: usize) -> Self {
        Self::new(
            field,
            FieldErrorKind::TooLong,
            json!(""),
            format!("may not be more than {max} bytes"),
        )
    }

    /// The list has more than `max` items.
    pub fn too_many(field: impl Into<String>, count: usize, max: usize) -> Self {
        Self::new(
            field,
            FieldErrorKind::TooMany,
            json!(count),
            format!("must have at most {max} items"),
        )
    }

    /// The message without the field.
    pub fn body(&self) -> String {
        let words = self.kind.words();
        let mut out = match self.kind {
            FieldErrorKind::Required
            | FieldErrorKind::Forbidden
            | FieldErrorKind::TooLong
            | FieldErrorKind::Internal => words.to_owned(),
            FieldErrorKind::Duplicate
            | FieldErrorKind::Invalid
            | FieldErrorKind::NotFound
            | FieldErrorKind::NotSupported
            | FieldErrorKind::TooMany
            | FieldErrorKind::TypeInvalid => match self.bad_value.as_str() {
                Some(text) => format!("{words}: {}", quote(text)),
                None => format!("{words}: {}", self.bad_value),
            },
        };
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }

    pub(super) fn to_cause(&self) -> Cause {
        Cause {
            reason: Cow::Borrowed(self.kind.reason()),
            message: self.body(),
            field: self.field.clone(),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}
