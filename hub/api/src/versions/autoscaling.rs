//! `autoscaling/v1`: it has a field for the processor alone. All else of `v2` is kept in
//! annotations, as Kubernetes keeps it, so that nothing is lost by who reads and writes it.

use serde_json::{Map, Value, json};

use crate::object;
use crate::resource::Conversion;

/// `v1` over `v2`.
pub const V1: Conversion = Conversion { show, store };

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn show(object: &mut Value) {
    let mut annotations = Map::new();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let mut others = Vec::new();
        for metric in take_list(spec, "metrics") {
            match utilization(&metric, "target") {
                Some(percent) => {
                    spec.insert("targetCPUUtilizationPercentage".to_owned(), percent);
                }
                None => others.push(old_metric(&metric, "target", "target")),
            }
        }
        if !others.is_empty() {
            note(&mut annotations, METRICS, &others.into());
        }
        if let Some(behavior) = spec.remove("behavior").filter(|it| !it.is_null()) {
            note(&mut annotations, BEHAVIOR, &behavior);
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        object::default(status, "currentReplicas", 0);
        object::default(status, "desiredReplicas", 0);
        let metrics = take_list(status, "currentMetrics");
        for metric in &metrics {
            if let Some(percent) = utilization(metric, "current") {
                status.insert("currentCPUUtilizationPercentage".to_owned(), percent);
            }
        }
        if !metrics.is_empty() {
            let metrics = metrics.iter().map(|it| old_metric(it, "current", "current")).collect();
            note(&mut annotations, CURRENT_METRICS, &Value::Array(metrics));
        }
        let conditions = take_list(status, "conditions");
        if !conditions.is_empty() {
            note(&mut annotations, CONDITIONS, &conditions.into());
        }
    }
    if !annotations.is_empty() {
        let metadata = object::ensure(object, "metadata");
        let map = object::as_map(metadata.entry("annotations").or_insert(Value::Null));
        map.append(&mut annotations);
    }
}

fn store(object: &mut Value) {
    let mut noted = take_notes(object);
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let percent = spec.remove("targetCPUUtilizationPercentage");
        let mut metrics: Vec<Value> = list(noted.remove(METRICS))
            .iter()
            .map(|it| new_metric(it, "target", "target"))
            .collect();
        if let Some(percent) = percent.filter(|it| !it.is_null()) {
            let target = json!({"type": "Utilization", "averageUtilization": percent});
            metrics
                .push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
        }
        if !metrics.is_empty() {
            spec.insert("metrics".to_owned(), metrics.into());
        }
        if let Some(behavior) = noted.remove(BEHAVIOR).filter(Value::is_object) {
            spec.insert("behavior".to_owned(), behavior);
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let percent = status.remove("currentCPUUtilizationPercentage");
        let mut metrics: Vec<Value> = list(noted.remove(CURRENT_METRICS))
            .iter()
            .map(|it| new_metric(it, "current", "current"))
            .collect();
        let known = metrics.iter().any(|it| utilization(it, "current").is_some());
        if let Some(percent) = percent.filter(|it| !it.is_null() && !known) {
            let current = json!({"averageUtilization": percent});
            let metric = json!({"name": "cpu", "current": current});
            metrics.push(json!({"type": "Resource", "resource": metric}));
        }
        if !metrics.is_empty() {
            status.insert("currentMetrics".to_owned(), metrics.into());
        }
        let conditions = list(noted.remove(CONDITIONS));
        if !conditions.is_empty() {
            status.insert("conditions".to_owned(), conditions.into());
        }
    }
}

/// The percentage of the processor that a metric is about, if it is about that.
fn utilization(metric: &Value, side: &str) -> Option<Value> {
    let resource = metric.get("resource").filter(|it| object::text(it, "name") == "cpu")?;
    let side = resource.get(side)?;
    side.get("averageUtilization").filter(|it| !it.is_null()).cloned()
}

/// Fields of a metric in the notation of the annotation: `v2` nests what older versions had flat.
/// `(v2 path below the source, older name)`, for each type of source.
fn fields(kind: &str, side: &str) -> Vec<(&'static str, &'static str, &'static str)> {
    let target = side == "target";
    let names = |a: &'static str, b: &'static str| if target { a } else { b };
    match kind {
        "resource" | "containerResource" => vec![
            ("", "name", "name"),
            ("", "container", "container"),
            (
                "side",
                "averageUtilization",
                names("targetAverageUtilization", "currentAverageUtilization"),
            ),
            ("side", "averageValue", names("targetAverageValue", "currentAverageValue")),
        ],
        "pods" => vec![
            ("metric", "name", "metricName"),
            ("metric", "selector", "selector"),
            ("side", "averageValue", names("targetAverageValue", "currentAverageValue")),
        ],
        "object" => vec![
            ("", "describedObject", "target"),
            ("metric", "name", "metricName"),
            ("metric", "selector", "selector"),
            ("side", "value", names("targetValue", "currentValue")),
            ("side", "averageValue", "averageValue"),
        ],
        "external" => vec![
            ("metric", "name", "metricName"),
            ("metric", "selector", "metricSelector"),
            ("side", "value", names("targetValue", "currentValue")),
            ("side", "averageValue", names("targetAverageValue", "currentAverageValue")),
        ],
        _ => Vec::new(),
    }
}

const KINDS: [&str; 5] = ["resource", "containerResource", "pods", "object", "external"];

fn old_metric(metric: &Value, side: &str, place: &str) -> Value {
    let mut out = json!({"type": metric["type"]});
    for kind in KINDS {
        let Some(source) = metric.get(kind).filter(|it| !it.is_null()) else { continue };
        let mut old = Map::new();
        for (part, new_name, old_name) in fields(kind, side) {
            let holder = match part {
                "" => Some(source),
                "metric" => source.get("metric"),
                _ => source.get(place),
            };
            if let Some(value) = holder.and_then(|it| it.get(new_name)).filter(|it| !it.is_null()) {
                old.insert(old_name.to_owned(), value.clone());
            }
        }
        out[kind] = old.into();
    }
    out
}

fn new_metric(metric: &Value, side: &str, place: &str) -> Value {
    let mut out = json!({"type": metric["type"]});
    for kind in KINDS {
        let Some(old) = metric.get(kind).filter(|it| it.is_object()) else { continue };
        let mut source = json!({});
        for (part, new_name, old_name) in fields(kind, side) {
            let Some(value) = old.get(old_name).filter(|it| !it.is_null()) else { continue };
            match part {
                "" => source[new_name] = value.clone(),
                "metric" => source["metric"][new_name] = value.clone(),
                _ => source[place][new_name] = value.clone(),
            }
        }
        if side == "target" {
            let target = &mut source["target"];
            let ty = if target.get("averageUtilization").is_some() {
                "Utilization"
            } else if target.get("averageValue").is_some() {
                "AverageValue"
            } else {
                "Value"
            };
            target["type"] = json!(ty);
        }
        out[kind] = source;
    }
    out
}

fn note(annotations: &mut Map<String, Value>, key: &str, value: &Value) {
    annotations.insert(key.to_owned(), json!(value.to_string()));
}

/// Takes the annotations that stand for fields out of an object. What cannot be read is dropped,
/// as Kubernetes drops it.
fn take_notes(object: &mut Value) -> Map<String, Value> {
    let mut out = Map::new();
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return out;
    };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else {
        return out;
    };
    for key in [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR] {
        let read = annotations.remove(key);
        let read = read.as_ref().and_then(Value::as_str);
        if let Some(value) = read.and_then(|it| serde_json::from_str(it).ok()) {
            out.insert(key.to_owned(), value);
        }
    }
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    out
}

fn take_list(map: &mut Map<String, Value>, key: &str) -> Vec<Value> {
    list(map.remove(key))
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Value {
        json!({
            "metadata": {"name": "a"},
            "spec": {
                "minReplicas": 1, "maxReplicas": 3,
                "metrics": [
                    {"type": "Pods", "pods": {
                        "metric": {"name": "m", "selector": {"matchLabels": {"a": "b"}}},
                        "target": {"type": "AverageValue", "averageValue": "5"},
                    }},
                    {"type": "Object", "object": {
                        "describedObject": {"kind": "Service", "name": "s"},
                        "metric": {"name": "m"},
                        "target": {"type": "Value", "value": "10"},
                    }},
                    {"type": "Resource", "resource": {
                        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70},
                    }},
                ],
                "behavior": {"scaleUp": {"selectPolicy": "Max"}},
            },
            "status": {
                "currentReplicas": 2, "desiredReplicas": 2,
                "currentMetrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "current": {"averageUtilization": 40, "averageValue": "100m"},
                }}],
                "conditions": [{"type": "AbleToScale", "status": "True"}],
            },
        })
    }

    #[test]
    fn the_older_version_shows_the_processor_and_notes_the_rest() {
        let mut object = stored();
        show(&mut object);
        assert_eq!(
            object["spec"],
            json!({"minReplicas": 1, "maxReplicas": 3, "targetCPUUtilizationPercentage": 70})
        );
        assert_eq!(
            object["status"],
            json!({
                "currentReplicas": 2, "desiredReplicas": 2,
                "currentCPUUtilizationPercentage": 40,
            })
        );
        let noted: Value =
            serde_json::from_str(object::annotation(&object, METRICS).unwrap()).unwrap();
        assert_eq!(
            noted[0],
            json!({"type": "Pods", "pods": {
                "metricName": "m", "selector": {"matchLabels": {"a": "b"}},
                "targetAverageValue": "5",
            }})
        );
        assert_eq!(
            object::annotation(&object, CURRENT_METRICS).unwrap(),
            "[{\"resource\":{\"currentAverageUtilization\":40,\"currentAverageValue\":\"100m\",\"name\":\"cpu\"},\"type\":\"Resource\"}]"
        );
    }

    #[test]
    fn nothing_is_lost_on_the_way_there_and_back() {
        let mut object = stored();
        show(&mut object);
        store(&mut object);
        assert_eq!(object, stored());
        let broken =
            json!({"metadata": {"annotations": {METRICS: "{"}}, "spec": {"maxReplicas": 2}});
        let mut object = broken;
        store(&mut object);
        assert_eq!(object, json!({"metadata": {}, "spec": {"maxReplicas": 2}}));
    }
}
