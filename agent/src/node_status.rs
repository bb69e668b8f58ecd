//! Tells the hub how the machine is, and collects images when its disk fills up.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use agent_core::{desired::DesiredSet, node};
use agent_image::ImageRef;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{chain, clock, machine, node::Node};

/// How often the machine is looked at.
const LOOK: Duration = Duration::from_secs(20);
/// The status is sent at least this often, changed or not.
const HEARTBEAT: Duration = Duration::from_secs(300);
/// Used part of the disk, in percent, above which images that nobody uses are removed.
const COLLECT_ABOVE_PERCENT: u64 = 85;

/// Runs until the agent stops.
pub async fn run(node: Arc<Node>, shutdown: CancellationToken) {
    let mut sent: Option<(Value, Duration)> = None;
    let mut cidr_rx = node.network.subscribe();
    loop {
        look(&node).await;
        let machine = node.machine();
        let ready = match node.network.cidr() {
            Some(_) => Ok(()),
            None => Err("container runtime network not ready: the node has no pod CIDR yet"),
        };
        let previous = sent.as_ref().map(|(status, _)| status);
        let now = node.clock.now();
        let mut status = node::node_object(&node.config.node_name, &machine, ready, previous, now);
        if let Some(ip) = node.config.node_ip {
            status["status"]["addresses"][0] =
                serde_json::json!({"type": "InternalIP", "address": ip.to_string()});
        }
        let at = clock::monotonic();
        let due = sent.as_ref().is_none_or(|(known, since)| {
            at.saturating_sub(*since) >= HEARTBEAT || node::differs(known, &status)
        });
        if due {
            node.outbox.node_status(&status);
            sent = Some((status, at));
        }
        // Both are cancel-safe.
        tokio::select! {
            () = shutdown.cancelled() => return,
            // The network lives as long as the node.
            _ = cidr_rx.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn look(node: &Arc<Node>) {
    let reader = Arc::clone(node);
    let read = tokio::task::spawn_blocking(move || {
        let config = &reader.config;
        machine::read(&config.state_dir, &config.bridge, &reader.images)
    });
    // A cut-off look changes nothing.
    let Ok(machine) = read.await else { return };
    let used = machine.disk_total.saturating_sub(machine.disk_available);
    let full = machine.disk_total > 0 && used > machine.disk_total / 100 * COLLECT_ABOVE_PERCENT;
    node.set_machine(machine);
    if full {
        collect_images(node).await;
    }
}

/// Removes images that no desired pod names. On a view with holes nothing is removed.
async fn collect_images(node: &Arc<Node>) {
    let set = crate::desired_pods::DesiredPods::default().update(&node.desired.snapshot());
    let DesiredSet::Complete(pods) = set else { return };
    let names = pods.values().flat_map(|pod| pod.containers.iter().map(|it| it.image.clone()));
    let keep: BTreeSet<_> = names
        .filter_map(|name| node.images.lookup(&name.parse::<ImageRef>().ok()?))
        .map(|image| image.digest)
        .collect();
    let images = node.images.clone();
    match tokio::task::spawn_blocking(move || images.gc(&keep)).await {
        Ok(Ok(report)) if report.freed_bytes > 0 => {
            tracing::info!(bytes = report.freed_bytes, "Removed images that nobody uses");
        }
        Ok(Ok(_)) => {}
        Ok(Err(err)) => tracing::warn!(error = chain(&err), "Could not remove unused images"),
        Err(err) => tracing::error!(error = %err, "The removal of unused images panicked"),
    }
}
