//! Measures decisions a second: `cargo run --release -p hub-scheduler --example throughput -- 5000 50000 50`.
//!
//! Pods come from as many templates as there are workloads in a middling cluster, and half of them
//! ask for nodes by label.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![expect(clippy::print_stdout, reason = "a measurement prints its result")]

use std::time::Instant;

use hub_scheduler::{Decision, Scheduler};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Different templates, if not said otherwise.
const N_TEMPLATES: usize = 50;

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|it| it.parse().ok());
    let n_nodes = arguments.next().unwrap_or(5_000);
    let n_pods = arguments.next().unwrap_or(50_000);
    let n_templates = arguments.next().unwrap_or(N_TEMPLATES);

    let mut scheduler = Scheduler::new();
    for place in 0..n_nodes {
        scheduler.handle_node(&node(place));
    }
    let pods: Vec<Value> = (0..n_pods).map(|place| pod(place, place % n_templates)).collect();
    let start = Instant::now();
    for pod in &pods {
        scheduler.handle_pod(pod);
    }
    let taken_in = start.elapsed();
    let start = Instant::now();
    let mut n_bound = 0_usize;
    while let Some(decision) = scheduler.poll_decision(Timestamp::UNIX_EPOCH) {
        n_bound += usize::from(matches!(decision, Decision::Bind { .. }));
    }
    let decided = start.elapsed();
    println!(
        "{n_bound} of {n_pods} pods bound to {n_nodes} nodes: {} ms, {} decisions/s \
         (taking the pods in: {} ms)",
        decided.as_millis(),
        n_pods as u128 * 1_000_000 / decided.as_micros().max(1),
        taken_in.as_millis(),
    );
}

fn node(place: usize) -> Value {
    json!({
        "metadata": {"name": format!("node-{place:05}"), "labels": {"zone": format!("z{}", place % 3)}},
        "status": {"allocatable": {"cpu": "16", "memory": "64Gi", "pods": "110"}},
    })
}

fn pod(place: usize, template: usize) -> Value {
    let requests = json!({
        "cpu": format!("{}m", 50 + 10 * template), "memory": format!("{}Mi", 64 + 8 * template),
    });
    let mut spec = json!({"containers": [{"resources": {"requests": requests}}]});
    if template.is_multiple_of(2) {
        spec["nodeSelector"] = json!({"zone": format!("z{}", template % 3)});
    }
    let name = format!("pod-{place:06}");
    json!({"metadata": {"namespace": "default", "name": name, "uid": name}, "spec": spec})
}
