//! Label selectors in objects.

use serde_json::Value;

use super::labels;
use crate::names;
use crate::object;
use crate::path::Path;
use crate::status::FieldError;

/// Checks a `metav1.LabelSelector`.
pub fn label_selector(selector: &Value, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(map) = selector.get("matchLabels") {
        errors.extend(labels(map, &path.field("matchLabels")));
    }
    let expressions = path.field("matchExpressions");
    for (i, expression) in object::list(selector, "matchExpressions").iter().enumerate() {
        let at = expressions.index(i);
        let values = object::list(expression, "values");
        match object::text(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                at.field("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                at.field("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(
                at.field("operator"),
                other,
                "not a valid selector operator",
            )),
        }
        let key = object::text(expression, "key");
        for wrong in names::qualified_name(key) {
            errors.push(FieldError::invalid(at.field("key"), key, wrong));
        }
        let values_path = at.field("values");
        for (j, value) in values.iter().filter_map(Value::as_str).enumerate() {
            for wrong in names::label_value(value) {
                errors.push(FieldError::invalid(values_path.index(j), value, wrong));
            }
        }
    }
    errors
}
