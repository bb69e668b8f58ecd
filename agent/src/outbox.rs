//! What the hub should hear, kept until it has heard it.
//!
//! Statuses: the latest wins, per pod. Events: each is kept, the oldest go first when there are
//! too many. Both survive a power cut. The node's own status is cheap to make again and changes
//! all the time, so it stays in memory: heartbeats never touch the disk.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use agent_ledger::{Change, CommitError, Ledger, Table};
use agent_sync::{ObjectKey, ReportBody, ReportKind};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

/// Events kept while the hub is out of reach.
const MAX_EVENTS: usize = 1000;
/// Acknowledged entries are deleted from the ledger together with the next write, or when so many
/// have come together. One that is left over at a power cut is sent again, which is harmless.
const MAX_STALE: usize = 64;
const RECORD_VERSION: u8 = 1;
/// So many reports no node ever makes: a record with a higher number is damaged, and counting on from it has an end.
const MAX_ORDER: u64 = 1 << 62;
const NODE_SLOT: &str = "node";

/// Reports on their way to the hub.
#[derive(Debug)]
pub struct Outbox {
    ledger: Ledger,
    state: Mutex<State>,
    /// The highest number given out.
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<u64, Entry>,
    /// The latest entry of each slot.
    slots: BTreeMap<String, u64>,
    /// Slots that may be deleted from the ledger.
    stale: Vec<String>,
    /// The last status of each pod and of the node, to be told again on a new connection.
    latest: BTreeMap<String, ReportBody>,
    next: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    slot: String,
    report: ReportBody,
}

#[derive(Deserialize, Serialize)]
struct Record {
    version: u8,
    kind: i32,
    key: String,
    uid: String,
    body: Value,
    order: u64,
}

impl Outbox {
    /// Reads what the hub has not heard yet.
    pub fn load(ledger: Ledger) -> Self {
        let mut records: Vec<(String, Record)> = ledger
            .scan(Table::Outbox)
            .into_iter()
            .filter_map(|(slot, bytes)| {
                let record: Record = serde_json::from_slice(&bytes).ok()?;
                (record.order <= MAX_ORDER).then_some((slot, record))
            })
            .collect();
        records.sort_by_key(|(_, record)| record.order);
        let mut state = State::default();
        for (slot, record) in records {
            state.next = state.next.max(record.order);
            if let Some(report) = record.into_report() {
                state.insert(slot, report);
            }
        }
        let newest = watch::Sender::new(state.next);
        Self { ledger, state: Mutex::new(state), newest }
    }

    /// The status of a pod; the JSON of `status`.
    pub async fn pod_status(&self, namespace: &str, name: &str, uid: &str, status: &Value) {
        let key = ObjectKey::new("Pod", namespace, name);
        self.put(pod_slot(uid), ReportKind::PodStatus, key, uid, status, &[]).await;
    }

    /// Nothing of the pod is left on this node.
    pub async fn pod_gone(&self, namespace: &str, name: &str, uid: &str) {
        let key = ObjectKey::new("Pod", namespace, name);
        let obsolete = [pod_slot(uid)];
        let slot = format!("gone/{uid}");
        self.put(slot, ReportKind::PodGone, key, uid, &Value::Null, &obsolete).await;
    }

    /// Neither the hub nor the node has the pod any more: its status is not told again. What the hub
    /// has not heard yet it still hears.
    pub fn forget_pod(&self, uid: &str) {
        let slot = pod_slot(uid);
        let mut state = self.lock();
        state.latest.remove(&slot);
        if !state.slots.contains_key(&slot) && !state.stale.contains(&slot) {
            state.stale.push(slot);
        }
    }

    /// An Event object with `metadata.name` and `metadata.namespace`.
    pub async fn event(&self, event: &Value) {
        let metadata = &event["metadata"];
        let (namespace, name) = (
            metadata["namespace"].as_str().unwrap_or("default"),
            metadata["name"].as_str().unwrap_or_default(),
        );
        let key = ObjectKey::new("Event", namespace, name);
        let surplus = self.lock().surplus_events();
        let slot = format!("event/{namespace}/{name}");
        self.put(slot, ReportKind::Event, key, "", event, &surplus).await;
    }

    /// The node itself: a Node object of which labels and status count. In memory only.
    pub fn node_status(&self, node: &Value) {
        let key = ObjectKey::new("Node", "", node["metadata"]["name"].as_str().unwrap_or_default());
        let report = report(ReportKind::NodeStatus, key, "", node);
        let mut state = self.lock();
        state.latest.insert(NODE_SLOT.to_owned(), report.clone());
        let newest = state.insert(NODE_SLOT.to_owned(), report);
        drop(state);
        self.newest.send_replace(newest);
    }

    /// A connection was opened: the statuses are told once more. While the node was out of reach
    /// the hub may have written its own opinion over them.
    pub fn retell(&self) {
        let mut state = self.lock();
        let again: Vec<(String, ReportBody)> = state
            .latest
            .iter()
            .filter(|(slot, _)| !state.slots.contains_key(*slot))
            .map(|(slot, report)| (slot.clone(), report.clone()))
            .collect();
        for (slot, report) in again {
            state.insert(slot, report);
        }
        let newest = state.next;
        drop(state);
        self.newest.send_replace(newest);
    }

    /// Tells when there is something new, by the number of the newest entry.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Up to `limit` entries after this number, in order.
    pub fn after(&self, seq: u64, limit: usize) -> Vec<(u64, ReportBody)> {
        self.lock()
            .entries
            .range(seq + 1..)
            .take(limit)
            .map(|(seq, entry)| (*seq, entry.report.clone()))
            .collect()
    }

    /// How many reports wait.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The hub has dealt with this report.
    pub async fn done(&self, seq: u64) {
        let stale = {
            let mut state = self.lock();
            let Some(entry) = state.entries.remove(&seq) else { return };
            if state.slots.get(&entry.slot) == Some(&seq) {
                state.slots.remove(&entry.slot);
            }
            if entry.slot != NODE_SLOT {
                state.stale.push(entry.slot);
            }
            if state.stale.len() < MAX_STALE {
                return;
            }
            state.take_stale()
        };
        if let Err(err) = self.ledger.commit(stale).await {
            report_loss(&err);
        }
    }

    async fn put(
        &self,
        slot: String,
        kind: ReportKind,
        key: ObjectKey,
        uid: &str,
        body: &Value,
        obsolete: &[String],
    ) {
        let report = report(kind, key, uid, body);
        let changes = {
            let mut state = self.lock();
            for slot in obsolete {
                state.forget(slot);
            }
            state.stale.retain(|it| *it != slot);
            let mut changes = state.take_stale();
            changes.push(Change::Put {
                table: Table::Outbox,
                key: slot.clone(),
                value: Record::encode(&report, body, state.next + 1),
            });
            changes
        };
        // Durable before it is sent: what the hub was told must not be unknown here after a cut.
        if let Err(err) = self.ledger.commit(changes).await {
            report_loss(&err);
        }
        let mut state = self.lock();
        if kind == ReportKind::PodStatus {
            state.latest.insert(slot.clone(), report.clone());
        }
        let newest = state.insert(slot, report);
        drop(state);
        self.newest.send_replace(newest);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pod_slot(uid: &str) -> String {
    format!("pod/{uid}")
}

/// The report is still sent from memory: only a power cut before that would lose it.
fn report_loss(err: &CommitError) {
    tracing::error!(error = %crate::chain(err), "Could not keep a report in the ledger");
}

fn report(kind: ReportKind, key: ObjectKey, uid: &str, body: &Value) -> ReportBody {
    let body = Bytes::from(serde_json::to_vec(body).unwrap_or_default());
    ReportBody { kind, key, uid: uid.to_owned(), body }
}

impl State {
    fn insert(&mut self, slot: String, report: ReportBody) -> u64 {
        if let Some(old) = self.slots.get(&slot) {
            self.entries.remove(old);
        }
        self.next += 1;
        self.slots.insert(slot.clone(), self.next);
        self.entries.insert(self.next, Entry { slot, report });
        self.next
    }

    fn forget(&mut self, slot: &str) {
        self.latest.remove(slot);
        if let Some(seq) = self.slots.remove(slot) {
            self.entries.remove(&seq);
        }
        self.stale.push(slot.to_owned());
    }

    fn take_stale(&mut self) -> Vec<Change> {
        let slots = std::mem::take(&mut self.stale);
        slots
            .into_iter()
            // A slot that was filled again in the meantime is wanted.
            .filter(|slot| !self.slots.contains_key(slot))
            .map(|key| Change::Delete { table: Table::Outbox, key })
            .collect()
    }

    fn surplus_events(&self) -> Vec<String> {
        let events: Vec<&Entry> =
            self.entries.values().filter(|it| it.report.kind == ReportKind::Event).collect();
        let n_surplus = (events.len() + 1).saturating_sub(MAX_EVENTS);
        events.into_iter().take(n_surplus).map(|it| it.slot.clone()).collect()
    }
}

impl Record {
    fn encode(report: &ReportBody, body: &Value, order: u64) -> Vec<u8> {
        let record = Self {
            version: RECORD_VERSION,
            kind: report.kind.into(),
            key: report.key.to_string(),
            uid: report.uid.clone(),
            body: body.clone(),
            order,
        };
        serde_json::to_vec(&record).unwrap_or_default()
    }

    fn into_report(self) -> Option<ReportBody> {
        if self.version != RECORD_VERSION {
            return None;
        }
        let kind = ReportKind::try_from(self.kind).ok()?;
        Some(report(kind, self.key.parse().ok()?, &self.uid, &self.body))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn open(dir: &std::path::Path) -> Outbox {
        Outbox::load(Ledger::open(dir).unwrap().0)
    }

    fn pending(outbox: &Outbox) -> Vec<String> {
        outbox
            .after(0, usize::MAX)
            .into_iter()
            .map(|(_, it)| {
                format!("{:?} {} {}", it.kind, it.key, String::from_utf8_lossy(&it.body))
            })
            .collect()
    }

    #[tokio::test]
    async fn the_latest_status_wins_and_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        {
            let outbox = open(dir.path());
            outbox.pod_status("d", "a", "u1", &json!({"phase": "Pending"})).await;
            outbox.pod_status("d", "b", "u2", &json!({"phase": "Pending"})).await;
            outbox.pod_status("d", "a", "u1", &json!({"phase": "Running"})).await;
            outbox.node_status(&json!({"metadata": {"name": "n"}}));
            assert_eq!(outbox.len(), 3);
        }
        let outbox = open(dir.path());
        assert_eq!(
            pending(&outbox),
            [
                "PodStatus Pod/d/b {\"phase\":\"Pending\"}",
                "PodStatus Pod/d/a {\"phase\":\"Running\"}"
            ]
        );
    }

    #[tokio::test]
    async fn what_was_replaced_in_flight_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = open(dir.path());
        outbox.pod_status("d", "a", "u1", &json!(1)).await;
        let in_flight = outbox.after(0, 1)[0].0;
        outbox.pod_status("d", "a", "u1", &json!(2)).await;
        outbox.done(in_flight).await;
        assert_eq!(pending(&outbox), ["PodStatus Pod/d/a 2"]);
        outbox.pod_gone("d", "a", "u1").await;
        assert_eq!(pending(&outbox), ["PodGone Pod/d/a null"]);
    }

    #[tokio::test]
    async fn statuses_are_told_again_on_a_new_connection() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = open(dir.path());
        outbox.pod_status("d", "a", "u1", &json!(1)).await;
        outbox.pod_status("d", "b", "u2", &json!(2)).await;
        outbox.node_status(&json!({"metadata": {"name": "n"}}));
        for (seq, _) in outbox.after(0, usize::MAX) {
            outbox.done(seq).await;
        }
        outbox.pod_gone("d", "b", "u2").await;
        outbox.retell();
        let told = pending(&outbox);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told.iter().any(|it| it.starts_with("NodeStatus")));
        assert!(told.iter().any(|it| it == "PodStatus Pod/d/a 1"));
        outbox.retell();
        assert_eq!(outbox.len(), 3);
    }

    #[tokio::test]
    async fn a_forgotten_pod_is_not_told_again_and_its_last_status_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = open(dir.path());
        outbox.pod_status("d", "a", "u1", &json!(1)).await;
        let heard = outbox.after(0, 1)[0].0;
        outbox.done(heard).await;
        outbox.pod_status("d", "b", "u2", &json!(2)).await;
        outbox.forget_pod("u1");
        outbox.forget_pod("u2");
        outbox.retell();
        assert_eq!(pending(&outbox), ["PodStatus Pod/d/b 2"]);
        let heard = outbox.after(0, 1)[0].0;
        outbox.done(heard).await;
        outbox.retell();
        assert_eq!(pending(&outbox), Vec::<String>::new());
        // With the next write both are gone from the disk.
        outbox.pod_status("d", "c", "u3", &json!(3)).await;
        drop(outbox);
        assert_eq!(pending(&open(dir.path())), ["PodStatus Pod/d/c 3"]);
    }

    #[tokio::test]
    async fn events_are_bounded_oldest_first() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = open(dir.path());
        for n in 0..MAX_EVENTS + 5 {
            let name = format!("e{n:05}");
            outbox.event(&json!({"metadata": {"namespace": "d", "name": name}})).await;
        }
        assert_eq!(outbox.len(), MAX_EVENTS);
        assert!(pending(&outbox)[0].contains("e00005"), "{}", pending(&outbox)[0]);
    }
}
