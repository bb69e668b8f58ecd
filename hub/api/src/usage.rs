//! Objects of `metrics.k8s.io`: made of what a node said of itself, at the moment somebody asks.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::object;
use crate::quantity::{Format, Quantity};
use crate::time;

/// What something uses.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// CPU time per time, in billionths of a core.
    pub cpu_nanocores: u64,
    /// Memory that cannot be dropped at once, in bytes.
    pub memory: u64,
    /// Time over which CPU was measured.
    pub window: Duration,
}

impl Usage {
    fn to_value(self) -> Value {
        let cpu = Quantity::from_nano(i128::from(self.cpu_nanocores), Format::DecimalSi);
        let memory = i64::try_from(self.memory).unwrap_or(i64::MAX);
        let memory = Quantity::from_value(memory, Format::BinarySi);
        json!({ "cpu": cpu.to_string(), "memory": memory.to_string() })
    }
}

/// The `NodeMetrics` of a Node. `at` is the end of the window.
pub fn of_node(node: &Value, usage: Usage, at: Timestamp, now: Timestamp) -> Value {
    let mut made = head("NodeMetrics", node, usage.window, at, now);
    made["usage"] = usage.to_value();
    made
}

/// The `PodMetrics` of a Pod: containers by name. `at` is the end of the window.
pub fn of_pod(pod: &Value, containers: &[(&str, Usage)], at: Timestamp, now: Timestamp) -> Value {
    let window = containers.iter().map(|(_, it)| it.window).max().unwrap_or_default();
    let mut made = head("PodMetrics", pod, window, at, now);
    let containers = containers.iter();
    made["containers"] =
        containers.map(|(name, it)| json!({ "name": name, "usage": it.to_value() })).collect();
    made
}

fn head(kind: &str, of: &Value, window: Duration, at: Timestamp, now: Timestamp) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), object::name(of).into());
    if !object::namespace(of).is_empty() {
        metadata.insert("namespace".to_owned(), object::namespace(of).into());
    }
    metadata.insert("creationTimestamp".to_owned(), time::format(now).into());
    if let Some(labels) = object::labels(of).as_object().filter(|it| !it.is_empty()) {
        metadata.insert("labels".to_owned(), labels.clone().into());
    }
    json!({
        "kind": kind,
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": metadata,
        "timestamp": time::format(at),
        "window": go_duration(window),
    })
}

/// A duration as Go prints it, to milliseconds: `15.02s`, `1m30s`.
fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if (1..1000).contains(&millis) {
        return format!("{millis}ms");
    }
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = format!("{millis:03}");
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    let seconds = format!("{seconds}{point}{fraction}s");
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, _) => format!("{minutes}m{seconds}"),
        _ => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_as_in_go() {
        for (millis, expected) in [
            (0, "0s"),
            (20, "20ms"),
            (999, "999ms"),
            (1000, "1s"),
            (15_020, "15.02s"),
            (90_000, "1m30s"),
            (3_600_500, "1h0m0.5s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn metrics_have_the_labels_of_what_they_are_of() {
        let at = time::parse("2026-11-20T08:00:00Z").unwrap();
        let usage = |cpu_nanocores, memory| Usage {
            cpu_nanocores,
            memory,
            window: Duration::from_secs(15),
        };
        let pod = json!({"metadata": {
            "name": "p", "namespace": "n", "labels": {"app": "a"}, "uid": "u",
        }});
        let containers = [("a", usage(1_500_000, 2 << 20)), ("b", usage(123_456_789, 1000))];
        let expected = json!({
            "kind": "PodMetrics",
            "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {
                "name": "p",
                "namespace": "n",
                "creationTimestamp": "2026-11-20T08:00:00Z",
                "labels": {"app": "a"},
            },
            "timestamp": "2026-11-20T08:00:00Z",
            "window": "15s",
            "containers": [
                {"name": "a", "usage": {"cpu": "1500u", "memory": "2Mi"}},
                {"name": "b", "usage": {"cpu": "123456789n", "memory": "1k"}},
            ],
        });
        assert_eq!(of_pod(&pod, &containers, at, at), expected);
        let node = json!({"metadata": {"name": "n"}});
        let made = of_node(&node, usage(2_000_000_000, u64::MAX), at, at);
        assert_eq!(made["usage"]["cpu"], "2");
        assert_eq!(made["usage"]["memory"], "9223372036854775807");
    }
}
