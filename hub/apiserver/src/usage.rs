//! What nodes and their pods use, asked of the nodes when somebody asks us: nothing is sent
//! otherwise, and nothing is stored. Answers hold for a short while, so that many who ask cost a
//! node one answer.
//!
//! **Invariant**: a node's word counts for itself and for pods that are bound to it, and for their
//! containers by name; all else that it says is dropped here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_sync::stats::{self, MAX_REPORT, Report};
use agent_sync::stream::{Channel, StreamKind, StreamRequest};
use futures_util::{StreamExt, stream};
use hub_api::object;
use hub_api::usage::Usage;
use jiff::Timestamp;
use serde_json::Value;

use crate::limits::{USAGE_CONCURRENCY, USAGE_LIFE, USAGE_MAX_WINDOW, USAGE_TIMEOUT};
use crate::streaming::{Frames, NodeStreams};

/// Nodes that are remembered.
const MAX_NODES: usize = 1 << 16;

/// What nodes said last.
#[derive(Debug, Default)]
pub(crate) struct Usages {
    nodes: Mutex<BTreeMap<String, Slot>>,
}

/// Whoever holds it asks the node; others wait for that answer.
type Slot = Arc<tokio::sync::Mutex<Option<Said>>>;

/// What a node said, or that it said nothing.
#[derive(Clone, Debug)]
struct Said {
    at: Timestamp,
    usage: Option<Arc<NodeUsage>>,
}

/// What a node said.
#[derive(Debug)]
pub(crate) struct NodeUsage {
    /// When the answer came: the end of its windows.
    pub(crate) at: Timestamp,
    /// The machine as a whole.
    pub(crate) machine: Option<Usage>,
    /// Containers by name, by the UID of their pod.
    pods: BTreeMap<String, BTreeMap<String, Usage>>,
}

impl NodeUsage {
    /// What the running containers of a pod use, in the order of its specification. The pod must
    /// be bound to the node. `None` if the node said nothing of it.
    pub(crate) fn of_pod<'a>(&self, pod: &'a Value) -> Option<Vec<(&'a str, Usage)>> {
        let said = self.pods.get(object::uid(pod))?;
        let lists = ["spec.initContainers", "spec.containers", "spec.ephemeralContainers"];
        let names = lists
            .iter()
            .flat_map(|path| object::list(pod, path))
            .map(|it| object::text(it, "name"));
        let known: Vec<(&str, Usage)> =
            names.filter_map(|name| Some((name, *said.get(name)?))).collect();
        (!known.is_empty()).then_some(known)
    }
}

impl Usages {
    /// What these nodes use, as far as they say so in time.
    pub(crate) async fn ask(
        &self,
        streams: &dyn NodeStreams,
        names: impl IntoIterator<Item = &str>,
        now: &(dyn Fn() -> Timestamp + Send + Sync),
    ) -> BTreeMap<String, Arc<NodeUsage>> {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let asking = names.into_iter().map(|name| async move {
            let usage = self.ask_one(streams, &name, now).await?;
            Some((name, usage))
        });
        stream::iter(asking)
            .buffer_unordered(USAGE_CONCURRENCY)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    async fn ask_one(
        &self,
        streams: &dyn NodeStreams,
        name: &str,
        now: &(dyn Fn() -> Timestamp + Send + Sync),
    ) -> Option<Arc<NodeUsage>> {
        let slot = self.slot(name);
        let mut said = slot.lock().await;
        if let Some(said) = said.as_ref().filter(|it| is_fresh(it.at, now())) {
            return said.usage.clone();
        }
        let asking = fetch(streams, name);
        let report = match tokio::time::timeout(USAGE_TIMEOUT, asking).await {
            Ok(Some(report)) => Some(report),
            Ok(None) => {
                tracing::debug!(node = name, "A node did not say what it uses");
                None
            }
            Err(_) => {
                tracing::debug!(node = name, timeout = ?USAGE_TIMEOUT, "A node was asked in vain what it uses");
                None
            }
        };
        let at = now();
        let usage = report.map(|it| Arc::new(checked(it, at)));
        *said = Some(Said { at, usage: usage.clone() });
        usage
    }

    fn slot(&self, name: &str) -> Slot {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if nodes.len() >= MAX_NODES && !nodes.contains_key(name) {
            nodes.clear();
        }
        nodes.entry(name.to_owned()).or_default().clone()
    }
}

fn is_fresh(at: Timestamp, now: Timestamp) -> bool {
    // A clock that was set back makes nothing younger.
    Duration::try_from(now.duration_since(at)).is_ok_and(|age| age < USAGE_LIFE)
}

/// `None` if the node is not there, breaks off or talks nonsense.
async fn fetch(streams: &dyn NodeStreams, node: &str) -> Option<Report> {
    let opened = streams.open(node, StreamRequest::of_node(StreamKind::Stats)).await.ok()?;
    // Dropped at the end only: that would tell the node to stop.
    let _send = opened.send;
    let mut frames = Frames::new(opened.recv);
    let mut json = Vec::new();
    loop {
        match frames.next().await? {
            (Channel::Stdout, payload) => {
                if json.len() + payload.len() > MAX_REPORT {
                    tracing::warn!(node, limit = MAX_REPORT, "A node reports more than it may");
                    return None;
                }
                json.extend_from_slice(&payload);
            }
            (Channel::Error, _) => return serde_json::from_slice(&json).ok(),
            (Channel::Stdin | Channel::Stderr | Channel::Resize | Channel::CloseStdin, _) => {}
        }
    }
}

fn checked(report: Report, at: Timestamp) -> NodeUsage {
    let pods = report.pods.into_iter().map(|pod| {
        let containers = pod.containers.into_iter();
        let containers = containers.filter_map(|it| Some((it.name, plausible(it.usage)?)));
        (pod.uid, containers.collect())
    });
    NodeUsage { at, machine: report.node.and_then(plausible), pods: pods.collect() }
}

/// Without a window there is no rate, and one that is too long says nothing about now.
fn plausible(usage: stats::Usage) -> Option<Usage> {
    let stats::Usage { cpu_nanocores, memory_working_set: memory, window_ms } = usage;
    let window = Duration::from_millis(window_ms);
    (!window.is_zero() && window <= USAGE_MAX_WINDOW).then_some(Usage {
        cpu_nanocores,
        memory,
        window,
    })
}

#[cfg(test)]
mod tests {
    use agent_sync::stats::{ContainerUsage, PodUsage};
    use serde_json::json;

    use super::*;

    #[test]
    fn only_containers_that_the_pod_has_are_believed() {
        let usage = |window_ms| stats::Usage { cpu_nanocores: 1, memory_working_set: 2, window_ms };
        let container =
            |name: &str, window| ContainerUsage { name: name.to_owned(), usage: usage(window) };
        let containers = vec![
            container("b", 10),
            container("a", 20),
            container("made-up", 10),
            container("c", 0),
        ];
        let pods = vec![
            PodUsage { uid: "u".to_owned(), containers },
            PodUsage { uid: "alien".to_owned(), containers: vec![container("x", 10)] },
        ];
        let node = Some(usage(u64::MAX));
        let said = checked(Report { node, pods }, Timestamp::UNIX_EPOCH);
        assert_eq!(said.machine, None, "the window is too long");
        let pod = |uid: &str| {
            json!({
                "metadata": {"uid": uid},
                "spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]},
            })
        };
        let of = pod("u");
        let seen = said.of_pod(&of).unwrap();
        assert_eq!(seen.iter().map(|it| it.0).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(said.of_pod(&pod("alien")), None);
        assert_eq!(said.of_pod(&pod("other")), None);
    }
}
