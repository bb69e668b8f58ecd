//! Notices when two machines use one identity, as after a disk was cloned: they push each other out without end.
//!
//! One machine opens a new connection only when its old one is dead to it. So a node whose living connection is
//! replaced again and again is two machines, or an agent that dies again and again; from two addresses, it is two.

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
    time::Duration,
};

use hub_api::{Resource, Status};
use hub_apiserver::WriteOptions;
use serde_json::{Value, json};

use super::Fleet;

/// Replacements within this time count together.
const WINDOW: Duration = Duration::from_mins(2);
/// So many of them are no accident.
pub(super) const SUSPICIOUS: usize = 6;
/// It is said again after this time.
const SILENCE: Duration = Duration::from_mins(10);
/// A connection that lasts so long is the only one.
const SETTLED: Duration = Duration::from_mins(10);
/// The condition of the Node.
const CONDITION: &str = "DuplicateIdentity";

/// What was seen of one node's connections.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    replaced: VecDeque<(Duration, Vec<IpAddr>)>,
    said: Option<Duration>,
}

/// Two machines, most likely.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Suspicion {
    addresses: BTreeSet<IpAddr>,
}

impl Sightings {
    /// A connection replaced one that was open, here or at another hub. `ends` are their addresses, as far as they matter.
    pub(super) fn replaced(&mut self, now: Duration, ends: &[IpAddr]) -> Option<Suspicion> {
        self.replaced.push_back((now, ends.to_vec()));
        while self.replaced.len() > SUSPICIOUS {
            self.replaced.pop_front();
        }
        let (first, _) = self.replaced.front()?;
        let frequent = self.replaced.len() == SUSPICIOUS && now.saturating_sub(*first) <= WINDOW;
        let said = self.said.is_some_and(|at| now.saturating_sub(at) < SILENCE);
        if !frequent || said {
            return None;
        }
        self.said = Some(now);
        let addresses = self.replaced.iter().flat_map(|(_, ends)| ends).copied().collect();
        Some(Suspicion { addresses })
    }
}

impl Suspicion {
    fn reason(&self) -> &'static str {
        if self.addresses.len() > 1 { "SeveralAddresses" } else { "ConnectionReplaced" }
    }

    fn message(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let from = addresses.join(" and ");
        if self.addresses.len() > 1 {
            format!(
                "connections from {from} replace each other: two machines use the identity of this node, as after \
                 a disk was copied; reset one of them and join it with a name of its own"
            )
        } else {
            format!(
                "connections from {from} replace each other: two machines behind it use the identity of this node, \
                 or its agent dies again and again"
            )
        }
    }
}

impl Fleet {
    /// Says it in the log, as an Event and as a condition of the Node.
    pub(super) async fn tell_suspicion(&self, node: &str, suspicion: &Suspicion) {
        let (reason, message) = (suspicion.reason(), suspicion.message());
        tracing::warn!(node, reason, message, "Two machines seem to use one identity");
        let told = async {
            self.set_condition(node, "True", reason, &message).await?;
            self.record_duplicate(node, &message).await
        };
        if let Err(status) = told.await {
            tracing::warn!(node, error = %status, "Could not tell of a doubtful identity");
        }
    }

    /// Takes the condition back once the connection has lasted. Never returns.
    pub(super) async fn settle(&self, node: &str) {
        tokio::time::sleep(SETTLED).await;
        let Ok(nodes) = row("nodes") else { return std::future::pending().await };
        let is_set = self.registry.get(nodes, None, node).is_ok_and(|entry| {
            conditions(&entry.value()).any(|it| it["type"] == CONDITION && it["status"] == "True")
        });
        if is_set
            && let Err(status) =
                self.set_condition(node, "False", "Settled", "one machine is connected").await
        {
            tracing::warn!(node, error = %status, "Could not take back a condition");
        }
        std::future::pending().await
    }

    async fn set_condition(
        &self,
        node: &str,
        status: &str,
        reason: &str,
        message: &str,
    ) -> Result<(), Status> {
        let now = hub_api::time::format(self.clock.now());
        let fresh = json!({
            "type": CONDITION,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        });
        let change = |_: &Value, old: &Value| Ok(with_condition(old, &fresh));
        let options = WriteOptions::default();
        self.registry
            .modify(row("nodes")?, None, node, Some("status"), &options, change)
            .await
            .map(drop)
    }

    async fn record_duplicate(&self, node: &str, message: &str) -> Result<(), Status> {
        let now = self.clock.now();
        let time = hub_api::time::format(now);
        let event = json!({
            "metadata": {
                "name": format!("{node}.{:x}", now.as_nanosecond()),
                "namespace": "default",
            },
            "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
            "type": "Warning",
            "reason": CONDITION,
            "message": message,
            "source": {"component": "outbye-hub"},
            "reportingComponent": "outbye-hub",
            "reportingInstance": "",
            "count": 1,
            "firstTimestamp": time,
            "lastTimestamp": time,
        });
        let options = WriteOptions::default();
        self.registry.create(row("events")?, Some("default"), event, &options).await.map(drop)
    }
}

fn row(plural: &str) -> Result<&'static Resource, Status> {
    hub_api::resources::find("", "v1", plural).ok_or_else(Status::no_such_resource)
}

fn conditions(node: &Value) -> impl Iterator<Item = &Value> {
    node["status"]["conditions"].as_array().into_iter().flatten()
}

fn with_condition(node: &Value, fresh: &Value) -> Value {
    let mut list: Vec<Value> =
        conditions(node).filter(|it| it["type"] != CONDITION).cloned().collect();
    list.push(fresh.clone());
    let mut node = super::reports::without_revision(node);
    node["status"]["conditions"] = Value::Array(list);
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(gap_seconds: u64, ends: &[&[&str]], expect: Option<&str>) {
        let mut sightings = Sightings::default();
        let suspicions: Vec<_> = (0..40)
            .filter_map(|n| {
                let ends = ends[n % ends.len()].iter().map(|it| it.parse().unwrap());
                let now = Duration::from_secs(gap_seconds) * u32::try_from(n).unwrap();
                sightings.replaced(now, &ends.collect::<Vec<_>>())
            })
            .collect();
        let reasons: Vec<_> = suspicions.iter().map(Suspicion::reason).collect();
        assert_eq!(reasons, expect.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn living_connections_that_replace_each_other_are_noticed_once() {
        check(1, &[&["10.0.0.1"], &["10.0.0.2"]], Some("SeveralAddresses"));
        check(14, &[&["10.0.0.1"]], Some("ConnectionReplaced"));
        // A node on a bad link: its old connection dies for it every half minute.
        check(30, &[&["10.0.0.1"], &["10.0.0.2"]], None);
        // Machines at two hubs: each hub sees its own one lose, at every renewal.
        check(10, &[&["10.0.0.1", "10.0.0.2"]], Some("SeveralAddresses"));
    }

    #[test]
    fn other_conditions_stay() {
        let node = json!({"metadata": {"name": "n", "resourceVersion": "5"}, "status": {"conditions": [
            {"type": "Ready", "status": "True"}, {"type": "DuplicateIdentity", "status": "True"},
        ]}});
        let fresh = json!({"type": "DuplicateIdentity", "status": "False"});
        let changed = with_condition(&node, &fresh);
        assert_eq!(
            changed["status"]["conditions"],
            json!([{"type": "Ready", "status": "True"}, fresh])
        );
    }
}
