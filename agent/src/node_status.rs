//! Tells the hub how the machine is, and collects images when its disk fills up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use agent_core::{
    desired::DesiredSet,
    ids::{ContainerId, PodUid},
    node,
};
use agent_image::{Digest, ImageRef};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    chain, clock, machine,
    node::Node,
    records::{self, PodRecords},
};

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

/// Removes images that no desired pod names and no container runs from. On a view with holes nothing
/// is removed, nor while something runs of which nobody knows the image.
async fn collect_images(node: &Arc<Node>) {
    let set = crate::desired_pods::DesiredPods::default().update(&node.desired.snapshot());
    let DesiredSet::Complete(pods) = set else { return };
    let Some(in_use) = in_use(&records::load(&node.ledger), &node.view.alive()) else {
        tracing::debug!("A container without a known image runs, no image is removed");
        return;
    };
    let names = pods.values().flat_map(|pod| pod.containers.iter().map(|it| it.image.clone()));
    let mut keep: BTreeSet<_> = names
        .chain(in_use.names)
        .filter_map(|name| node.images.lookup(&name.parse::<ImageRef>().ok()?))
        .map(|image| image.digest)
        .collect();
    keep.extend(in_use.digests);
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

/// Images of containers.
#[derive(Debug, Default, Eq, PartialEq)]
struct InUse {
    names: BTreeSet<String>,
    digests: BTreeSet<Digest>,
}

/// Images of the containers that have not ended, wanted or not: what a name stands for now may be
/// another image than the one that runs. `None` if one runs of which nobody knows.
fn in_use(records: &BTreeMap<PodUid, PodRecords>, alive: &[ContainerId]) -> Option<InUse> {
    let mut in_use = InUse::default();
    let mut unknown: BTreeSet<&ContainerId> = alive.iter().collect();
    for (uid, pod) in records {
        for record in pod.containers.values() {
            let is_known = unknown.remove(&record.id(*uid));
            if record.exit.is_some() && !is_known {
                continue;
            }
            in_use.names.extend(record.image.clone());
            match record.image_id.rsplit_once('@').and_then(|(_, digest)| digest.parse().ok()) {
                Some(digest) => {
                    in_use.digests.insert(digest);
                }
                // Found without a record, by an agent that had lost its ledger.
                None => return None,
            }
        }
    }
    unknown.is_empty().then_some(in_use)
}

#[cfg(test)]
mod tests {
    use agent_core::{
        ids::Attempt,
        record::{ContainerRecord, ExitRecord},
    };
    use jiff::Timestamp;

    use super::*;

    const UID: &str = "5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e";

    fn record(name: &str, digest: &str, ended: bool) -> ContainerRecord {
        let (attempt, at) = (Attempt(2), Timestamp::UNIX_EPOCH);
        let exit = ExitRecord {
            attempt,
            code: 0,
            signal: None,
            reason: "Completed".to_owned(),
            message: String::new(),
            started_at: None,
            finished_at: at,
            image_id: String::new(),
            lost: false,
        };
        ContainerRecord {
            name: name.parse().unwrap(),
            attempt,
            sandbox: Attempt(0),
            image: Some(format!("reg.io/{name}:1")),
            image_id: format!("reg.io/{name}{digest}"),
            backoff_seconds: 0,
            created_at: at,
            stop_signal: 15,
            stop: None,
            exit: ended.then_some(exit),
            last: None,
            ready: true,
            ready_changed_at: None,
        }
    }

    fn check(records: &[ContainerRecord], alive: &[&str], expect: Option<&[&str]>) {
        let uid: PodUid = UID.parse().unwrap();
        let containers = records.iter().map(|it| (it.name.clone(), it.clone())).collect();
        let pods = [(uid, PodRecords { containers, ..PodRecords::default() })].into();
        let alive: Vec<ContainerId> =
            alive.iter().map(|it| format!("{UID}.{it}").parse().unwrap()).collect();
        let found = in_use(&pods, &alive).map(|it| {
            let names: Vec<String> = it.names.into_iter().collect();
            let digests = it.digests.into_iter().map(|it| it.hex()[..2].to_owned());
            format!("{} {}", names.join(","), digests.collect::<Vec<_>>().join(","))
        });
        assert_eq!(found, expect.map(|it| it.join(" ")));
    }

    #[test]
    fn images_of_containers_that_have_not_ended_stay() {
        let digest = |hex: &str| format!("@sha256:{}", hex.repeat(32));
        let a = record("a", &digest("aa"), false);
        let b = record("b", &digest("bb"), true);
        let lost = record("lost", "", false);
        check(&[a.clone(), b.clone()], &["a.2"], Some(&["reg.io/a:1", "aa"]));
        // Written down, and about to be made.
        check(std::slice::from_ref(&a), &[], Some(&["reg.io/a:1", "aa"]));
        check(&[a.clone(), b.clone()], &["a.2", "b.2"], Some(&["reg.io/a:1,reg.io/b:1", "aa,bb"]));
        check(std::slice::from_ref(&b), &[], Some(&["", ""]));
        check(&[a.clone(), lost], &["a.2"], None);
        check(&[a], &["a.2", "c.0"], None);
    }
}
