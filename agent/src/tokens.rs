//! Tokens of service accounts that the node holds for its pods.
//!
//! They lie in the ledger beside the Secrets, and like those reach a pod only through memory. The
//! newest one is used whatever its age: a pod starts and restarts with it while the hub is away.
//!
//! **Invariant**: a token is forgotten in the same commit as its pod, and none is kept of a pod that is gone.

use std::{collections::BTreeMap, sync::Arc};

use agent_core::{
    ids::PodUid,
    token::{self, TokenName},
};
use agent_ledger::{Ledger, Table};
use agent_sync::Change;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::desired::{Body, DesiredObjects};

const RECORD_VERSION: u8 = 1;

/// One token of one pod.
#[derive(Clone, Eq, PartialEq)]
pub struct PodToken {
    pub uid: PodUid,
    pub name: TokenName,
    pub token: Arc<str>,
    /// When the node got it, by its own clock.
    pub since: Timestamp,
    pub life: SignedDuration,
}

impl std::fmt::Debug for PodToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token itself is a secret.
        let mut shown = f.debug_struct("PodToken");
        shown.field("uid", &self.uid).field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    version: u8,
    uid: PodUid,
    name: TokenName,
    token: String,
    since: Timestamp,
    life_seconds: i64,
}

impl PodToken {
    /// Whether another should be asked for.
    pub fn is_due(&self, now: Timestamp) -> bool {
        token::is_due(self.since, self.life, now)
    }

    /// When another is asked for at the latest.
    pub fn renewal(&self) -> Timestamp {
        token::renewal(self.since, self.life)
    }

    /// What the ledger keeps of it.
    pub(crate) fn record(&self) -> agent_ledger::Change {
        let record = Record {
            version: RECORD_VERSION,
            uid: self.uid,
            name: self.name.clone(),
            token: self.token.as_ref().to_owned(),
            since: self.since,
            life_seconds: self.life.as_secs(),
        };
        agent_ledger::Change::Put {
            table: Table::Token,
            key: key(&self.uid, &self.name),
            value: serde_json::to_vec(&record).unwrap_or_default(),
        }
    }
}

fn key(uid: &PodUid, name: &TokenName) -> String {
    format!("{uid}/{}/{}", name.seconds, name.audience)
}

/// The tokens of all pods.
#[derive(Clone, Debug, Default)]
pub struct Tokens(BTreeMap<PodUid, BTreeMap<TokenName, Arc<PodToken>>>);

impl Tokens {
    /// The tokens of one pod.
    pub fn of<'a>(&'a self, uid: &PodUid) -> impl Iterator<Item = &'a Arc<PodToken>> + use<'a> {
        self.0.get(uid).into_iter().flat_map(BTreeMap::values)
    }

    /// One token.
    pub fn find(&self, uid: &PodUid, name: &TokenName) -> Option<&Arc<PodToken>> {
        self.0.get(uid)?.get(name)
    }

    pub(crate) fn insert(&mut self, token: PodToken) {
        self.0.entry(token.uid).or_default().insert(token.name.clone(), Arc::new(token));
    }
}

/// Reads all tokens. What does not parse is left out: the hub gives another. Tokens of pods that a
/// complete view does not have are deleted.
pub(crate) fn load(ledger: &Ledger, view: &DesiredObjects) -> Tokens {
    let mut tokens = Tokens::default();
    let pods = view.pod_uids();
    let mut orphans = Vec::new();
    for (key, bytes) in ledger.scan(Table::Token) {
        let Ok(record) = serde_json::from_slice::<Record>(&bytes) else { continue };
        if record.version != RECORD_VERSION {
            continue;
        }
        if view.complete && !pods.contains(&record.uid) {
            orphans.push(agent_ledger::Change::Delete { table: Table::Token, key });
            continue;
        }
        tokens.insert(PodToken {
            uid: record.uid,
            name: record.name,
            token: record.token.into(),
            since: record.since,
            life: SignedDuration::from_secs(record.life_seconds),
        });
    }
    if !orphans.is_empty() {
        tracing::info!(n_tokens = orphans.len(), "Deleted tokens of pods that are gone");
        // It is done whoever waits; what fails is found again at the next start.
        drop(ledger.commit(orphans));
    }
    tokens
}

/// Forgets the tokens of a pod that goes, or makes place for another of its name.
pub(crate) fn forget(
    view: &mut DesiredObjects,
    change: &Change,
    records: &mut Vec<agent_ledger::Change>,
) {
    if change.key().kind != "Pod" {
        return;
    }
    let before = view.objects.get(change.key()).and_then(|it| it.body.pod_uid());
    let after = match change {
        Change::Upsert { body, .. } => Body::new(body).and_then(|it| it.pod_uid()),
        Change::Delete { .. } => None,
    };
    let Some(uid) = before.filter(|it| Some(*it) != after) else { return };
    for name in view.tokens.0.remove(&uid).into_iter().flat_map(BTreeMap::into_keys) {
        records.push(agent_ledger::Change::Delete { table: Table::Token, key: key(&uid, &name) });
    }
}

#[cfg(test)]
mod tests {
    use agent_sync::ObjectKey;
    use serde_json::json;

    use super::*;
    use crate::desired::DesiredStore;

    const UID: &str = "5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e";
    const OTHER: &str = "6f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e";

    fn pod(uid: &str, revision: u64) -> Change {
        let body = json!({"metadata": {"name": "p", "namespace": "d", "uid": uid}});
        let body = body.to_string().into_bytes().into();
        Change::Upsert { key: ObjectKey::new("Pod", "d", "p"), revision, body }
    }

    fn token(uid: &str, text: &str) -> PodToken {
        PodToken {
            uid: uid.parse().unwrap(),
            name: TokenName { audience: "a/b".to_owned(), seconds: 3607 },
            token: text.into(),
            since: Timestamp::UNIX_EPOCH,
            life: SignedDuration::from_hours(1),
        }
    }

    #[tokio::test]
    async fn a_token_survives_a_restart_and_ends_with_its_pod() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let ledger = Ledger::open(dir.path()).unwrap().0;
            (DesiredStore::load(ledger.clone()), ledger)
        };
        let held = |store: &DesiredStore, uid: &str| -> Vec<String> {
            let uid = uid.parse().unwrap();
            store.snapshot().tokens.of(&uid).map(|it| it.token.as_ref().to_owned()).collect()
        };
        {
            let (store, ledger) = open();
            store
                .apply_with_tokens(vec![pod(UID, 1)], true, vec![token(UID, "one")])
                .await
                .unwrap();
            store.keep_tokens(vec![token(UID, "two")]).await.unwrap();
            // A change of the same pod takes nothing.
            store.apply(vec![pod(UID, 2)], true).await.unwrap();
            ledger.close();
        }
        {
            let (store, ledger) = open();
            assert_eq!(held(&store, UID), ["two"]);
            assert!(store.snapshot().complete);
            let next = vec![token(OTHER, "three")];
            store.apply_with_tokens(vec![pod(OTHER, 3)], true, next).await.unwrap();
            ledger.close();
        }
        let (store, ledger) = open();
        assert_eq!((held(&store, UID).len(), held(&store, OTHER)), (0, vec!["three".to_owned()]));
        let key = ObjectKey::new("Pod", "d", "p");
        store.apply(vec![Change::Delete { key }], true).await.unwrap();
        assert!(ledger.scan(Table::Token).is_empty());
        ledger.close();
    }

    #[tokio::test]
    async fn a_token_that_comes_after_its_pod_is_gone_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap().0;
        let store = DesiredStore::load(ledger.clone());
        store.apply(vec![pod(UID, 1)], true).await.unwrap();
        let key = ObjectKey::new("Pod", "d", "p");
        store.apply(vec![Change::Delete { key }], true).await.unwrap();
        // The hub's answer was under way meanwhile.
        store.keep_tokens(vec![token(UID, "late")]).await.unwrap();
        assert_eq!(store.snapshot().tokens.of(&UID.parse().unwrap()).count(), 0);
        assert!(ledger.scan(Table::Token).is_empty());
        // The same for a pod in whose place there is another of its name.
        store.apply_with_tokens(vec![pod(OTHER, 2)], true, vec![token(UID, "late")]).await.unwrap();
        assert!(ledger.scan(Table::Token).is_empty());
        assert_eq!(store.snapshot().of_kind("Pod").count(), 1);
        ledger.close();
    }

    #[tokio::test]
    async fn a_token_of_no_pod_is_deleted_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Ledger::open(dir.path()).unwrap().0;
        let kept = |ledger: &Ledger| -> Vec<String> {
            ledger.scan(Table::Token).into_iter().map(|(key, _)| key).collect()
        };
        for (complete, expected) in [(false, 2), (true, 1)] {
            let ledger = open();
            let store = DesiredStore::load(ledger.clone());
            store.apply(vec![pod(UID, 1)], complete).await.unwrap();
            let records = vec![token(UID, "own").record(), token(OTHER, "left").record()];
            ledger.commit(records).await.unwrap();
            ledger.close();
            drop(store);

            let ledger = open();
            let store = DesiredStore::load(ledger.clone());
            let held = store.snapshot();
            let n_held = |uid: &str| held.tokens.of(&uid.parse().unwrap()).count();
            // A view with holes proves nothing.
            assert_eq!((n_held(UID), n_held(OTHER)), (1, expected - 1), "complete: {complete}");
            ledger.close();
            drop(store);
            let ledger = open();
            assert_eq!(kept(&ledger).len(), expected, "complete: {complete}");
            ledger.close();
        }
    }
}
