//! The three patches of objects: JSON patch (RFC 6902), merge patch (RFC 7386) and Kubernetes'
//! strategic merge patch, which merges lists by the keys that the schema names.
//!
//! A patch never sees defaults or validation; the caller writes the result like an update.

mod go_value;
mod strategic;

use std::borrow::Cow;

use serde_json::Value;

use crate::status::{Details, FieldError, Status};
use go_value::GoValue;

/// Most operations that a JSON patch may have.
const MAX_JSON_OPERATIONS: usize = 10_000;
/// Bytes that all copies of one JSON patch may add, as in Kubernetes: each can double the object.
const MAX_COPIED: usize = 3 << 20;
/// Values that all copies and moves of one JSON patch may touch.
const MAX_TOUCHED: usize = 1_000_000;
/// Deepest nesting that an operation may make. Values are dropped, compared and written recursively: one that is nested
/// without bound would end the process.
const MAX_DEPTH: usize = 128;

/// Applies a JSON patch.
pub fn json(document: &Value, patch: &Value) -> Result<Value, Status> {
    check_operations(patch)?;
    let operations = patch.as_array().map_or(&[][..], Vec::as_slice);
    let count = operations.len();
    if count > MAX_JSON_OPERATIONS {
        return Err(Status::request_entity_too_large(&format!(
            "The allowed maximum operations in a JSON patch is {MAX_JSON_OPERATIONS}, got {count}"
        )));
    }
    let mut document = document.clone();
    let mut cost = Cost::default();
    for operation in operations {
        let operation: json_patch::PatchOperation =
            serde_json::from_value(operation.clone()).map_err(|_| unprocessable())?;
        cost.charge(&document, &operation)?;
        if is_test_for_absence(&document, &operation) {
            continue;
        }
        json_patch::patch_unsafe(&mut document, std::slice::from_ref(&operation))
            .map_err(|_| unprocessable())?;
    }
    Ok(document)
}

/// For Kubernetes what is absent equals null: controllers test so that nobody has set a list before they add it.
fn is_test_for_absence(document: &Value, operation: &json_patch::PatchOperation) -> bool {
    let json_patch::PatchOperation::Test(test) = operation else { return false };
    let path = test.path.as_str();
    let parent = path.rsplit_once('/').and_then(|(parent, _)| document.pointer(parent));
    test.value.is_null() && parent.is_some_and(Value::is_object) && document.pointer(path).is_none()
}

/// Refuses what has not the types of a JSON patch, in the words of Go's decoder.
fn check_operations(patch: &Value) -> Result<(), Status> {
    let refuse = |found: &Value, wanted: &str| {
        let found = json_type(found);
        Err(Status::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {found} into Go {wanted}"
        )))
    };
    let Value::Array(operations) = patch else {
        if patch.is_null() {
            return Ok(());
        }
        return refuse(patch, "value of type []handlers.jsonPatchOp");
    };
    for operation in operations {
        let Value::Object(operation) = operation else {
            return refuse(operation, "value of type handlers.jsonPatchOp");
        };
        for field in ["op", "path", "from"] {
            match operation.get(field) {
                None | Some(Value::Null | Value::String(_)) => {}
                Some(other) => {
                    let wanted = format!("struct field jsonPatchOp.{field} of type string");
                    return refuse(other, &wanted);
                }
            }
        }
    }
    Ok(())
}

/// What a patch has cost so far.
#[derive(Default)]
struct Cost {
    touched: usize,
    copied: usize,
}

impl Cost {
    /// Bounds what operations can make of an object: a few copies could fill the memory, and each operation can put
    /// something deep where something deep ended.
    fn charge(
        &mut self,
        document: &Value,
        operation: &json_patch::PatchOperation,
    ) -> Result<(), Status> {
        use json_patch::PatchOperation;
        let put = |to: &str, value: &Value| {
            let depth = to.matches('/').count();
            if is_deeper(value, depth) { Err(unprocessable()) } else { Ok(()) }
        };
        let (from, to, is_copy) = match operation {
            PatchOperation::Copy(it) => (&it.from, &it.path, true),
            PatchOperation::Move(it) => (&it.from, &it.path, false),
            PatchOperation::Add(it) => return put(it.path.as_str(), &it.value),
            PatchOperation::Replace(it) => return put(it.path.as_str(), &it.value),
            PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
        };
        // What is not there is refused by the operation itself.
        let Some(source) = document.pointer(from.as_str()) else { return Ok(()) };
        let depth = to.as_str().matches('/').count();
        let size = self.measure(source, depth).ok_or_else(unprocessable)?;
        if is_copy {
            self.copied = self.copied.saturating_add(size);
        }
        if self.copied > MAX_COPIED { Err(unprocessable()) } else { Ok(()) }
    }

    /// About how many bytes the value has; none if it is too deep or too much was touched.
    fn measure(&mut self, value: &Value, depth: usize) -> Option<usize> {
        self.touched += 1;
        if depth > MAX_DEPTH || self.touched > MAX_TOUCHED {
            return None;
        }
        let mut size = 2;
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => size += 4,
            Value::String(text) => size += text.len(),
            Value::Array(items) => {
                for item in items {
                    size += self.measure(item, depth + 1)? + 1;
                }
            }
            Value::Object(entries) => {
                for (name, value) in entries {
                    size += name.len() + self.measure(value, depth + 1)? + 4;
                }
            }
        }
        Some(size)
    }
}

/// Whether a value at that depth reaches deeper than an operation may.
fn is_deeper(value: &Value, depth: usize) -> bool {
    depth > MAX_DEPTH
        || match value {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
            Value::Array(items) => items.iter().any(|it| is_deeper(it, depth + 1)),
            Value::Object(entries) => entries.values().any(|it| is_deeper(it, depth + 1)),
        }
}

/// Refuses a merge patch, or a strategic one, that is no object.
///
/// # Errors
/// `BadRequest`.
pub fn check_object(patch: &Value) -> Result<(), Status> {
    match patch {
        Value::Object(_) | Value::Null => Ok(()),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Status::bad_request(format!(
                "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                json_type(patch)
            )))
        }
    }
}

/// What a patched object that cannot be read again is refused with. `shown` is the object, or the
/// patch.
pub fn invalid_result(shown: &str, why: &str) -> Status {
    // What the decoder says of an object as a whole is not said here.
    let why = match why.find("strict decoding error:") {
        Some(at) => why.get(at..).unwrap_or(why),
        None => why,
    };
    Status::invalid("", "", "", vec![FieldError::invalid("patch", shown, why)])
}

/// A value as Go prints it: `map[name:web]`.
pub fn go_text(value: &Value) -> String {
    GoValue(value.clone()).to_string()
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Applies a merge patch.
pub fn merge(document: &Value, patch: &Value) -> Value {
    let mut document = document.clone();
    json_patch::merge(&mut document, patch);
    document
}

/// Applies a strategic merge patch to an object of the schema definition.
pub fn strategic(document: &Value, patch: &Value, definition: &str) -> Result<Value, Status> {
    strategic::apply(document, patch, definition).map_err(|err| {
        if err.is_about_content() {
            unprocessable()
        } else if err.is_about_form() {
            Status::bad_request(err.to_string())
        } else {
            // The real server takes all others for errors of its own.
            Status::unknown(err.to_string())
        }
    })
}

/// What Kubernetes answers when a well-formed patch does not fit the object.
fn unprocessable() -> Status {
    Status {
        code: 422,
        reason: Cow::Borrowed("Invalid"),
        message: "the server rejected our request due to an error in our request".to_owned(),
        details: Some(Box::new(Details::default())),
        continue_token: None,
    }
}

#[cfg(test)]
mod tests;
