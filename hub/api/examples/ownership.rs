//! What the bookkeeping of managed fields costs a status update of a pod:
//! `cargo run --release -p hub-api --example ownership`.

use std::hint::black_box;

use hub_api::managed::{self, Scope, Writer, model};
use hub_api::resources;
use hub_api::write::{self, WriteContext};
use serde_json::{Value, json};

const TIME: &str = "2026-11-20T08:00:00Z";
const ROUNDS: u32 = 20_000;

fn main() {
    let pods = resources::find("", "v1", "pods").expect("there are pods");
    let versions = managed::OneVersion { api_version: "v1", model: model::of(pods) };
    let track = |live: &Value, new: &mut Value, manager: &str, subresource: &str| {
        let scope = Scope::of(pods, Some(subresource).filter(|it| !it.is_empty()));
        let writer = Writer {
            manager,
            api_version: "v1",
            kind: "Pod",
            subresource,
            scope: &scope,
            time: TIME,
        };
        managed::track(live, new, &writer, &versions);
    };
    let context = WriteContext {
        resource: pods,
        namespace: Some("default"),
        name: Some("web"),
        now: jiff::Timestamp::UNIX_EPOCH,
        uid: "0a0a0a0a-0000-4000-8000-000000000000",
        suffix: "x2x2x",
    };
    let mut made = write::create(pod(), &context).expect("the pod is valid");
    let empty = json!({"apiVersion": "v1", "kind": "Pod"});
    track(&empty, &mut made, "outbye-controllers", "");
    let mut old = with_status(&made, false);
    track(&made, &mut old, "outbye-agent", "status");
    let mut new = with_status(&old, true);
    let without = measure(|| write::update_status(new.clone(), &old, &context).is_ok());
    let cloning = measure(|| new.clone().is_object());
    let tracking = measure(|| {
        let mut new = new.clone();
        track(&old, &mut new, "outbye-agent", "status");
        new.is_object()
    });
    let quiet = measure(|| {
        let mut same = old.clone();
        track(&old, &mut same, "outbye-agent", "status");
        same.is_object()
    });
    track(&old, &mut new, "outbye-agent", "status");
    let encoding = measure(|| !new.to_string().is_empty());
    print_line("rules of the status update (prepare, defaults, validate)", without - cloning);
    print_line("tracking a change", tracking - cloning);
    print_line("tracking when nothing changed", quiet - cloning);
    print_line("encoding the object", encoding);
}

#[expect(clippy::print_stdout, reason = "this is what the example is for")]
fn print_line(what: &str, micros: f64) {
    println!("{micros:8.2} us  {what}");
}

/// Microseconds of one round.
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn measure(round: impl Fn() -> bool) -> f64 {
    let start = std::time::Instant::now();
    for _ in 0..ROUNDS {
        black_box(round());
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS)
}

fn pod() -> Value {
    let container = |name: &str| {
        json!({
            "name": name, "image": "registry/app:1",
            "ports": [{"containerPort": 80}, {"containerPort": 443}],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web", "tier": "front"}},
        "spec": {
            "containers": [container("app"), container("side")],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    })
}

fn with_status(pod: &Value, ready: bool) -> Value {
    let condition = |kind: &str| {
        let status = if ready { "True" } else { "False" };
        json!({"type": kind, "status": status, "lastTransitionTime": TIME})
    };
    let container = |name: &str| {
        json!({
            "name": name, "ready": ready, "restartCount": 0, "image": "registry/app:1",
            "imageID": "", "state": {"running": {"startedAt": TIME}},
        })
    };
    let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition);
    let containers = ["app", "side"].map(container);
    let mut out = pod.clone();
    out["status"] = json!({
        "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "startTime": TIME,
        "conditions": conditions,
        "containerStatuses": containers,
    });
    out
}
