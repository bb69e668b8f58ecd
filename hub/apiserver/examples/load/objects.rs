//! What is written: pods of 2 KiB that nobody schedules, or values of that size.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use crate::{
    connection::{Connection, Failure, Target},
    grpc,
};

/// Of an object as it is sent.
const SIZE: usize = 2048;
/// Of the keys in etcd.
pub(crate) const PREFIX: &str = "/registry/pods/default/";
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";

/// Creates one object and waits until it is acknowledged.
pub(crate) async fn create(
    target: &Target,
    connection: &mut Connection,
    name: &str,
) -> Result<(), Failure> {
    if target.is_etcd() {
        return put(connection, name).await;
    }
    let request = Request::post(connection.url(PODS)).header("content-type", "application/json");
    connection.call(request, pod(name)).await.map(drop)
}

/// Updates its status, as a kubelet does.
pub(crate) async fn update_status(
    target: &Target,
    connection: &mut Connection,
    name: &str,
    number: usize,
) -> Result<(), Failure> {
    if target.is_etcd() {
        return put(connection, name).await;
    }
    let status = json!({"status": {
        "phase": "Running",
        "podIP": format!("10.42.{}.{}", number / 250 % 250, number % 250),
        "conditions": [{"type": "Ready", "status": if number.is_multiple_of(2) { "True" } else { "False" },
                        "lastTransitionTime": "2026-11-20T08:00:00Z"}],
        "containerStatuses": [{"name": "main", "image": "registry.example/app:1", "imageID": "",
                               "ready": number.is_multiple_of(2), "restartCount": number,
                               "state": {"running": {"startedAt": "2026-11-20T08:00:00Z"}}}],
    }});
    let request = Request::patch(connection.url(&format!("{PODS}/{name}/status")))
        .header("content-type", "application/strategic-merge-patch+json");
    connection.call(request, status.to_string().into()).await.map(drop)
}

async fn put(connection: &mut Connection, name: &str) -> Result<(), Failure> {
    let message = grpc::put(&format!("{PREFIX}{name}"), &[b'x'; SIZE])?;
    let request = grpc::request(connection, "KV/Put");
    connection.call(request, message).await.map(drop)
}

fn pod(name: &str) -> Bytes {
    let object = |text: &str| -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name,
                "labels": {"app": "load", "tier": "backend"},
                "annotations": {"example.com/text": text},
            },
            "spec": {
                // Nobody's: what is measured is the API.
                "schedulerName": "nobody",
                "automountServiceAccountToken": false,
                "containers": [{
                    "name": "main",
                    "image": "registry.example/app:1",
                    "command": ["/bin/app", "--listen", ":8080"],
                    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                    "ports": [{"name": "web", "containerPort": 8080}],
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                    "readinessProbe": {"httpGet": {"path": "/", "port": "web"}},
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }],
                "volumes": [{"name": "data", "emptyDir": {}}],
            },
        })
    };
    let rest = SIZE.saturating_sub(object("").to_string().len());
    object(&"x".repeat(rest)).to_string().into()
}
