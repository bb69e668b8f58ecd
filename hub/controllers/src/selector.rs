//! Label selectors as they stand in objects, matched against label maps.

use serde_json::Value;

use crate::value::{at, is_empty, list_at, str_at};

/// Whether a `metav1.LabelSelector` matches; an empty one matches everything, an absent one nothing.
pub fn matches(selector: &Value, labels: &Value) -> bool {
    !selector.is_null()
        && map_matches(at(selector, &["matchLabels"]), labels)
        && list_at(selector, &["matchExpressions"]).iter().all(|it| requirement(it, labels))
}

/// Whether every entry of a plain selector map stands in `labels`.
pub fn map_matches(selector: &Value, labels: &Value) -> bool {
    selector
        .as_object()
        .is_none_or(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// Whether the selector selects everything there is.
pub fn selects_all(selector: &Value) -> bool {
    is_empty(at(selector, &["matchLabels"])) && is_empty(at(selector, &["matchExpressions"]))
}

fn requirement(it: &Value, labels: &Value) -> bool {
    let value = at(labels, &[str_at(it, &["key"])]).as_str();
    let is_among =
        |value: &str| list_at(it, &["values"]).iter().any(|wanted| wanted.as_str() == Some(value));
    match str_at(it, &["operator"]) {
        "In" => value.is_some_and(is_among),
        "NotIn" => !value.is_some_and(is_among),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_match_as_kubernetes() {
        let labels = json!({"app": "web", "tier": "front"});
        let check = |selector: Value, expect: bool| {
            assert_eq!(matches(&selector, &labels), expect, "{selector}");
        };
        check(json!({}), true);
        check(Value::Null, false);
        check(json!({"matchLabels": {"app": "web"}}), true);
        check(json!({"matchLabels": {"app": "web", "x": "y"}}), false);
        let expression = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        check(expression("tier", "In", json!(["front", "back"])), true);
        check(expression("tier", "NotIn", json!(["front"])), false);
        check(expression("gone", "NotIn", json!(["front"])), true);
        check(expression("gone", "Exists", json!([])), false);
        check(expression("gone", "DoesNotExist", json!([])), true);
        check(expression("gone", "Like", json!([])), false);
    }
}
