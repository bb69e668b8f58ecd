//! Manifests of what tests run: busybox in pods and Deployments. What a test is about it writes itself.

use serde_json::{Value, json};

/// The small image in the tests' registry.
pub(crate) const BUSYBOX: &str = "10.99.0.1:5000/outbye/busybox:1";

/// A container `c` in which a shell runs this.
pub(crate) fn shell(script: &str) -> Value {
    json!({"name": "c", "image": BUSYBOX, "command": ["sh", "-c", script]})
}

/// The same object with more fields.
pub(crate) fn with(mut object: Value, more: Value) -> Value {
    let (Value::Object(fields), Value::Object(more)) = (&mut object, more) else {
        panic!("both must be objects")
    };
    fields.extend(more);
    object
}

/// The spec of pods that are gone a second after they were asked to end.
pub(crate) fn spec(containers: &[Value]) -> Value {
    json!({"terminationGracePeriodSeconds": 1, "containers": containers})
}

/// A pod that is found by the label `app`.
pub(crate) fn pod(name: &str, spec: &Value) -> Value {
    let metadata = json!({"name": name, "labels": {"app": name}});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

/// A Deployment of pods that are found by the label `app`.
pub(crate) fn deployment(name: &str, replicas: u32, spec: &Value) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    })
}

/// Several objects in one file.
pub(crate) fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}
