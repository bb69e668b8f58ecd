//! What the node should run: the hub's view of this node, kept in the ledger.
//!
//! A change is durable before [`DesiredStore::apply`] returns and before anybody sees it, so that
//! what was acknowledged to the hub and what was acted upon survive a power cut. At boot the last
//! view is read back whole: no hub is needed.
//!
//! Absence of an object means anything only while [`DesiredObjects::complete`] holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use agent_core::ids::PodUid;
use agent_ledger::{Ledger, Table};
use agent_sync::{Change, ObjectKey};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::{Mutex, watch};

use crate::tokens::{self, PodToken, Tokens};

/// Version of a record in the ledger's desired table.
const RECORD_VERSION: u8 = 1;
/// Version byte and revision in front of the object's JSON.
const HEADER: usize = 9;
/// Record of the meta table that says whether the view is complete.
const COMPLETE_KEY: &str = "desired-complete";

/// One object as the hub last sent it.
#[derive(Clone, Debug)]
pub struct StoredObject {
    pub revision: u64,
    pub body: Arc<Body>,
}

/// An object's JSON. As text: a tree of values takes ten times as much.
#[derive(Debug)]
pub struct Body {
    json: Box<[u8]>,
    value: OnceLock<Value>,
}

impl Body {
    /// `None` if it is no JSON.
    pub fn new(json: &[u8]) -> Option<Self> {
        serde_json::from_slice::<serde::de::IgnoredAny>(json).ok()?;
        Some(Self { json: json.into(), value: OnceLock::new() })
    }

    /// The JSON as it came.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// Reads it as something in particular.
    pub fn parse<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.json).ok()
    }

    /// The UID, where it is a Pod.
    pub(crate) fn pod_uid(&self) -> Option<PodUid> {
        self.parse::<Head>()?.metadata.uid.parse().ok()
    }

    /// The tree of values, kept from the first time on: for what is looked at over and over.
    pub fn value(&self) -> &Value {
        self.value.get_or_init(|| self.parse().unwrap_or_default())
    }
}

/// What of a Pod is needed to find out which it is.
#[derive(Deserialize)]
struct Head {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    uid: String,
}

/// The whole view at one moment.
#[derive(Clone, Debug, Default)]
pub struct DesiredObjects {
    pub objects: BTreeMap<ObjectKey, StoredObject>,
    /// What the pods' volumes hold besides: not part of the hub's view.
    pub tokens: Tokens,
    /// The set is known to have no holes: what is absent is not wanted.
    pub complete: bool,
    /// Counts changes since this process started.
    pub generation: u64,
}

impl DesiredObjects {
    /// The object of this name, if the node was shown it.
    pub fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<&StoredObject> {
        self.objects.get(&ObjectKey::new(kind, namespace, name))
    }

    /// All objects of one kind, by namespace and name.
    pub fn of_kind<'a>(
        &'a self,
        kind: &'a str,
    ) -> impl Iterator<Item = (&'a ObjectKey, &'a StoredObject)> {
        self.objects
            .range(ObjectKey::new(kind, "", "")..)
            .take_while(move |(key, _)| key.kind == kind)
    }

    /// The UIDs of all pods.
    pub(crate) fn pod_uids(&self) -> BTreeSet<PodUid> {
        self.of_kind("Pod").filter_map(|(_, it)| it.body.pod_uid()).collect()
    }
}

/// The changes could not be made durable; nothing of them is visible.
#[derive(Debug, thiserror::Error)]
#[error("could not keep {n_changes} desired objects in the ledger")]
pub struct ApplyError {
    n_changes: usize,
    #[source]
    err: agent_ledger::CommitError,
}

/// Holds the view in memory and in the ledger, the same in both.
#[derive(Debug)]
pub struct DesiredStore {
    ledger: Ledger,
    /// One writer at a time, so that memory follows the ledger's order.
    writer: Mutex<()>,
    current: RwLock<Arc<DesiredObjects>>,
    generation_tx: watch::Sender<u64>,
}

impl DesiredStore {
    /// Reads the last view from the ledger. A record that does not parse is left out and logged:
    /// the hub's digest comparison will bring it again.
    pub fn load(ledger: Ledger) -> Self {
        let mut objects = BTreeMap::new();
        let mut n_bad = 0_usize;
        for (key, record) in ledger.scan(Table::Desired) {
            match (key.parse::<ObjectKey>(), decode_record(&record)) {
                (Ok(key), Some(object)) => {
                    objects.insert(key, object);
                }
                _ => n_bad += 1,
            }
        }
        if n_bad > 0 {
            tracing::warn!(n_bad, "Left out desired objects that could not be read");
        }
        // A view with a hole proves nothing by absence.
        let complete = n_bad == 0 && ledger.read(Table::Meta, COMPLETE_KEY).is_some();
        let mut current =
            DesiredObjects { objects, tokens: Tokens::default(), complete, generation: 0 };
        current.tokens = tokens::load(&ledger, &current);
        Self {
            ledger,
            writer: Mutex::new(()),
            current: RwLock::new(Arc::new(current)),
            generation_tx: watch::Sender::new(0),
        }
    }

    /// Makes the changes durable, then visible. `complete` says whether the view has no holes
    /// once these changes are in.
    ///
    /// # Errors
    /// The ledger could not write; memory is as before.
    pub async fn apply(&self, changes: Vec<Change>, complete: bool) -> Result<(), ApplyError> {
        self.commit(changes, Some(complete), Vec::new()).await
    }

    /// The same, with tokens of pods in the same step: who knows the pod has its token.
    ///
    /// # Errors
    /// The ledger could not write; memory is as before.
    pub async fn apply_with_tokens(
        &self,
        changes: Vec<Change>,
        complete: bool,
        tokens: Vec<PodToken>,
    ) -> Result<(), ApplyError> {
        self.commit(changes, Some(complete), tokens).await
    }

    /// Makes tokens durable, then visible. Whether the view is complete is not theirs to say.
    ///
    /// # Errors
    /// The ledger could not write; memory is as before.
    pub async fn keep_tokens(&self, tokens: Vec<PodToken>) -> Result<(), ApplyError> {
        self.commit(Vec::new(), None, tokens).await
    }

    async fn commit(
        &self,
        changes: Vec<Change>,
        complete: Option<bool>,
        tokens: Vec<PodToken>,
    ) -> Result<(), ApplyError> {
        let _writer = self.writer.lock().await;
        let before = self.snapshot();
        let complete = complete.unwrap_or(before.complete);
        if changes.is_empty() && tokens.is_empty() && before.complete == complete {
            return Ok(());
        }
        let n_changes = changes.len();
        let mut next = DesiredObjects::clone(&before);
        let mut records = Vec::with_capacity(n_changes + tokens.len() + 1);
        for change in changes {
            tokens::forget(&mut next, &change, &mut records);
            match change {
                Change::Upsert { key, revision, body } => {
                    let Some(parsed) = Body::new(&body) else {
                        tracing::warn!(object = %key, "Left out a desired object that is no JSON");
                        continue;
                    };
                    records.push(put(&key.to_string(), encode_record(revision, &body)));
                    next.objects.insert(key, StoredObject { revision, body: Arc::new(parsed) });
                }
                Change::Delete { key } => {
                    records.push(agent_ledger::Change::Delete {
                        table: Table::Desired,
                        key: key.to_string(),
                    });
                    next.objects.remove(&key);
                }
            }
        }
        if !tokens.is_empty() {
            // A pod may have gone while the hub was asked for its token.
            let pods = next.pod_uids();
            for token in tokens.into_iter().filter(|it| pods.contains(&it.uid)) {
                records.push(token.record());
                next.tokens.insert(token);
            }
        }
        if before.complete != complete {
            let (table, key) = (Table::Meta, COMPLETE_KEY.to_owned());
            records.push(if complete {
                agent_ledger::Change::Put { table, key, value: vec![RECORD_VERSION] }
            } else {
                agent_ledger::Change::Delete { table, key }
            });
        }
        if records.is_empty() {
            return Ok(());
        }
        self.ledger.commit(records).await.map_err(|err| ApplyError { n_changes, err })?;
        next.complete = complete;
        next.generation = before.generation + 1;
        let generation = next.generation;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        self.generation_tx.send_replace(generation);
        Ok(())
    }

    /// Changes whenever the view does.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation_tx.subscribe()
    }

    /// The view as it is now.
    pub fn snapshot(&self) -> Arc<DesiredObjects> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn put(key: &str, value: Vec<u8>) -> agent_ledger::Change {
    agent_ledger::Change::Put { table: Table::Desired, key: key.to_owned(), value }
}

fn encode_record(revision: u64, body: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER + body.len());
    record.push(RECORD_VERSION);
    record.extend_from_slice(&revision.to_be_bytes());
    record.extend_from_slice(body);
    record
}

fn decode_record(record: &[u8]) -> Option<StoredObject> {
    let (&version, rest) = record.split_first()?;
    let (revision, body) = rest.split_first_chunk::<8>()?;
    if version != RECORD_VERSION {
        return None;
    }
    let body = Arc::new(Body::new(body)?);
    Some(StoredObject { revision: u64::from_be_bytes(*revision), body })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn upsert(name: &str, revision: u64, body: &'static str) -> Change {
        let key = ObjectKey::new("Pod", "d", name);
        Change::Upsert { key, revision, body: Bytes::from_static(body.as_bytes()) }
    }

    fn open(dir: &std::path::Path) -> (DesiredStore, Ledger) {
        let ledger = Ledger::open(dir).unwrap().0;
        (DesiredStore::load(ledger.clone()), ledger)
    }

    fn shown(store: &DesiredStore) -> String {
        let view = store.snapshot();
        let objects = view.objects.iter().map(|(key, it)| {
            format!("{key}@{}={}", it.revision, String::from_utf8_lossy(it.body.json()))
        });
        let list: Vec<String> = objects.collect();
        format!("{} complete={}", list.join(" "), view.complete)
    }

    #[tokio::test]
    async fn the_view_survives_a_restart_and_is_complete_only_when_said() {
        let dir = tempfile::tempdir().unwrap();
        {
            let (store, ledger) = open(dir.path());
            let mut generation_rx = store.subscribe();
            store.apply(vec![upsert("a", 1, "1"), upsert("b", 2, "2")], false).await.unwrap();
            assert_eq!(*generation_rx.borrow_and_update(), 1);
            assert_eq!(shown(&store), "Pod/d/a@1=1 Pod/d/b@2=2 complete=false");
            let gone = Change::Delete { key: ObjectKey::new("Pod", "d", "a") };
            store.apply(vec![gone, upsert("b", 3, "3")], true).await.unwrap();
            store.apply(Vec::new(), true).await.unwrap();
            assert_eq!(*generation_rx.borrow_and_update(), 2, "nothing changed");
            ledger.close();
        }
        let (store, ledger) = open(dir.path());
        assert_eq!(shown(&store), "Pod/d/b@3=3 complete=true");
        store.apply(Vec::new(), false).await.unwrap();
        ledger.close();
        drop(store);
        assert_eq!(shown(&open(dir.path()).0), "Pod/d/b@3=3 complete=false");
    }

    #[tokio::test]
    async fn a_view_with_a_hole_proves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (store, ledger) = open(dir.path());
        store.apply(vec![upsert("a", 1, "1"), upsert("b", 2, "no json")], true).await.unwrap();
        assert_eq!(shown(&store), "Pod/d/a@1=1 complete=true");
        let key = ObjectKey::new("Pod", "d", "c").to_string();
        let damage = vec![put(&key, b"damaged".to_vec())];
        ledger.commit(damage).await.unwrap();
        ledger.close();
        drop(store);
        assert_eq!(shown(&open(dir.path()).0), "Pod/d/a@1=1 complete=false");
    }

    #[tokio::test]
    async fn a_closed_ledger_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (store, ledger) = open(dir.path());
        ledger.close();
        assert!(store.apply(vec![upsert("a", 1, "1")], true).await.is_err());
        assert_eq!(shown(&store), " complete=false");
    }
}
