//! Defaults of the kinds of `autoscaling`.

use serde_json::{Map, Value, json};

use crate::object;

/// Fills in a HorizontalPodAutoscaler.
pub fn horizontal_pod_autoscaler(object: &mut Value) {
    let spec = object::ensure(object, "spec");
    object::default(spec, "minReplicas", 1);
    if spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        spec.insert("metrics".to_owned(), json!([metric]));
    }
    if let Some(behavior) = spec.get_mut("behavior").filter(|it| !it.is_null()) {
        let behavior = object::as_map(behavior);
        let up = rules(behavior, "scaleUp", || {
            json!([
                {"type": "Pods", "value": 4, "periodSeconds": 15},
                {"type": "Percent", "value": 100, "periodSeconds": 15},
            ])
        });
        object::default(up, "stabilizationWindowSeconds", 0);
        rules(
            behavior,
            "scaleDown",
            || json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]),
        );
    }
}

fn rules<'a>(
    behavior: &'a mut Map<String, Value>,
    direction: &str,
    policies: impl FnOnce() -> Value,
) -> &'a mut Map<String, Value> {
    let rules = object::as_map(behavior.entry(direction).or_insert(Value::Null));
    object::default_text(rules, "selectPolicy", "Max");
    if rules.get("policies").is_none_or(Value::is_null) {
        rules.insert("policies".to_owned(), policies());
    }
    rules
}
