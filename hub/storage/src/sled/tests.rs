//! The promises of every storage, and what is special about one on a disk.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{Body, Event, Key, ListRequest, Prefix, WatchError, Write, conformance};

fn open(dir: &Path) -> (Arc<SledStorage>, OpenReport) {
    SledStorage::open(dir, Options::DEFAULT).unwrap()
}

fn pod(name: &str) -> Key {
    Key::new("core", "pods", Some("default"), name)
}

fn body(text: &str) -> Body {
    Body::from_value(&json!({"metadata": {"name": "x"}, "text": text}))
}

fn block<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms() {
    let root = tempfile::tempdir().unwrap();
    let n = AtomicU32::new(0);
    conformance::check_all(async || {
        let dir = root.path().join(n.fetch_add(1, Ordering::Relaxed).to_string());
        open(&dir).0
    })
    .await;
}

#[tokio::test]
async fn everything_is_there_after_reopen_and_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, report) = open(dir.path());
    assert!(report.new_epoch);
    let epoch = storage.epoch();
    let large = "x".repeat(1 << 20);
    let kept = storage.txn(Txn::create(pod("kept"), body(&large))).await.unwrap();
    let gone = storage.txn(Txn::create(pod("gone"), body("b"))).await.unwrap();
    let last = storage.txn(Txn::delete(pod("gone"), gone.revision)).await.unwrap().revision;
    drop(storage);

    let (storage, report) = open(dir.path());
    assert!(!report.new_epoch);
    assert_eq!((storage.epoch(), storage.revision(), report.n_entries), (epoch, last, 1));
    let entry = storage.get(&pod("kept")).unwrap();
    assert_eq!((entry.revision, entry.created), (kept.revision, kept.revision));
    assert_eq!(entry.bytes, kept.entries[0].bytes);
    let next = storage.txn(Txn::update(pod("kept"), kept.revision, body("c"))).await.unwrap();
    assert_eq!(next.revision, last.next());
    // History does not survive; a watch from the newest revision misses nothing.
    let pods = Prefix::all("core", "pods");
    assert!(matches!(storage.watch(&pods, kept.revision), Err(WatchError::Compacted { .. })));
    let mut watch = storage.watch(&pods, last).unwrap();
    assert_eq!(watch.next().await.unwrap().revision(), next.revision);
}

#[tokio::test]
async fn a_closed_storage_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, _) = open(dir.path());
    let pods = Prefix::all("core", "pods");
    let mut watch = storage.watch(&pods, storage.revision()).unwrap();
    let mut progress = storage.progress();
    let queued = storage.txn(Txn::create(pod("a"), body("a")));
    storage.close();
    assert!(queued.await.is_ok(), "what was queued is finished");
    assert!(matches!(storage.txn(Txn::default()).await, Err(TxnError::Closed)));
    assert_eq!(watch.next().await.unwrap_err(), WatchError::Closed);
    progress.borrow_and_update();
    assert!(progress.changed().await.is_err());
    let (again, _) = open(dir.path());
    assert!(again.get(&pod("a")).is_some());
}

#[tokio::test]
async fn too_large_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, _) = open(dir.path());
    let large = body(&"x".repeat(2 << 20));
    let err = storage.txn(Txn::create(pod("a"), large)).await.unwrap_err();
    assert!(matches!(err, TxnError::TooLarge { .. }), "{err:?}");
}

#[tokio::test]
async fn a_lost_disk_begins_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, _) = open(dir.path());
    let epoch = storage.epoch();
    storage.txn(Txn::create(pod("a"), body("a"))).await.unwrap();
    drop(storage);
    std::fs::remove_dir_all(dir.path().join("store")).unwrap();
    for log in ["log-0", "log-1"] {
        std::fs::remove_file(dir.path().join(log)).unwrap();
    }
    let (storage, report) = open(dir.path());
    assert!(report.new_epoch && report.disk.lost_data(), "{report:?}");
    assert_ne!(storage.epoch(), epoch);
}

/// History is bounded: a watch that fell behind is told, and lists from before too.
#[tokio::test]
async fn history_is_bounded_by_count_and_by_size() {
    for history in [
        HistoryLimits { events: 10, bytes: usize::MAX },
        HistoryLimits { events: usize::MAX, bytes: 1000 },
    ] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { history, ..Options::DEFAULT };
        let (storage, _) = SledStorage::open(dir.path(), options).unwrap();
        let pods = Prefix::all("core", "pods");
        let mut watch = storage.watch(&pods, Revision::ZERO).unwrap();
        for n in 0..30 {
            storage.txn(Txn::create(pod(&n.to_string()), body(&"x".repeat(50)))).await.unwrap();
        }
        let err = watch.next().await.unwrap_err();
        let WatchError::Compacted { oldest, .. } = err else { panic!("{err:?}") };
        assert!(oldest > Revision::new(10) && oldest < storage.revision());
        let mut resumed = storage.watch(&pods, oldest).unwrap();
        assert_eq!(resumed.next().await.unwrap().revision(), oldest.next());
    }
}

#[derive(Clone, Debug)]
enum Op {
    Put(u8),
    Delete(u8),
    Reopen,
    Compact(u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..6_u8).prop_map(Op::Put),
        3 => (0..6_u8).prop_map(Op::Delete),
        1 => Just(Op::Reopen),
        1 => (0..10_u8).prop_map(Op::Compact),
    ];
    proptest::collection::vec(op, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Against a model that keeps every state: lists of every revision that is not compacted are right, and a watch
    /// from each leads to the end.
    #[test]
    fn history_is_the_models_history(ops in ops()) {
        let dir = tempfile::tempdir().unwrap();
        let mut storage = open(dir.path()).0;
        let mut states = vec![BTreeMap::<Key, u64>::new()];
        let mut oldest = 0;
        for op in ops {
            let mut state = states.last().unwrap().clone();
            let next = states.len() as u64;
            match op {
                Op::Put(n) => {
                    let key = pod(&n.to_string());
                    state.insert(key.clone(), next);
                    let txn = Txn { conditions: vec![], writes: vec![Write::Put(key, body("x"))] };
                    prop_assert_eq!(block(storage.txn(txn)).unwrap().revision.get(), next);
                    states.push(state);
                }
                Op::Delete(n) => {
                    let key = pod(&n.to_string());
                    let there = state.remove(&key).is_some();
                    let txn = Txn { conditions: vec![], writes: vec![Write::Delete(key)] };
                    prop_assert_eq!(block(storage.txn(txn)).is_ok(), there);
                    if there {
                        states.push(state);
                    }
                }
                Op::Reopen => {
                    drop(storage);
                    storage = open(dir.path()).0;
                    oldest = states.len() - 1;
                }
                Op::Compact(back) => {
                    let at = (states.len() - 1).saturating_sub(usize::from(back));
                    storage.compact(Revision::new(at as u64));
                    oldest = oldest.max(at);
                }
            }
        }
        let pods = Prefix::all("core", "pods");
        for (at, state) in states.iter().enumerate() {
            let revision = Revision::new(at as u64);
            let request = ListRequest { at: Some(revision), ..ListRequest::all(pods.clone()) };
            let list = storage.list(&request);
            prop_assert_eq!(list.is_ok(), at >= oldest);
            prop_assert_eq!(storage.watch(&pods, revision).is_ok(), at >= oldest);
            let Ok(list) = list else { continue };
            let listed = list.entries.iter().map(|it| (it.key.clone(), it.revision.get())).collect();
            prop_assert_eq!(state, &listed);
            prop_assert_eq!(states.last().unwrap(), &follow(&storage, &pods, revision, listed));
        }
    }
}

fn follow(
    storage: &SledStorage,
    prefix: &Prefix,
    from: Revision,
    mut state: BTreeMap<Key, u64>,
) -> BTreeMap<Key, u64> {
    let mut watch = storage.watch(prefix, from).unwrap();
    while let Some(event) = watch.try_next().unwrap() {
        match &*event {
            Event::Put { entry, .. } => state.insert(entry.key.clone(), entry.revision.get()),
            Event::Delete { key, .. } => state.remove(key),
        };
    }
    state
}

/// Many clients share the syncs: far fewer batches than writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_share_commits() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, _) = open(dir.path());
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..64 {
        let storage = storage.clone();
        clients.spawn(async move {
            for n in 0..20 {
                let text = json!({"metadata": {"name": n}, "spec": "x".repeat(2000)});
                let key = pod(&format!("{client}-{n}"));
                storage.txn(Txn::create(key, Body::from_value(&text))).await.unwrap();
            }
        });
    }
    clients.join_all().await;
    assert_eq!(storage.revision().get(), 64 * 20);
    let list = storage.list(&ListRequest::all(Prefix::all("core", "pods"))).unwrap();
    assert_eq!(list.entries.len(), 64 * 20);
    let object: &Value = &list.entries[0].value();
    assert_eq!(object["metadata"]["resourceVersion"], list.entries[0].revision.to_string());
}

fn sealed(dir: &Path, keys: &str) -> Result<(Arc<SledStorage>, OpenReport), OpenError> {
    let sealer = (!keys.is_empty()).then(|| Arc::new(keys.parse().unwrap()));
    SledStorage::open(dir, Options { sealer, ..Options::DEFAULT })
}

/// Whether the text lies somewhere on the disk in a live record.
fn is_plain(dir: &Path, text: &str) -> bool {
    let options =
        agent_disk::Options { segment_bytes: 8 << 20, cache_bytes: 1 << 20, log_bytes: 0 };
    let (disk, _) = Disk::open(dir, options).unwrap();
    let mut found = false;
    let text = text.as_bytes();
    disk.scan(&mut |_, value| found |= value.windows(text.len()).any(|it| it == text)).unwrap();
    found
}

/// From no key to one, to another, and back to none: always readable with the right keys, never without.
#[tokio::test]
async fn sealed_objects_follow_their_keys() {
    let dir = tempfile::tempdir().unwrap();
    let secret = Key::new("core", "secrets", Some("default"), "a");
    let (one, two) = (format!("one {}\n", "1".repeat(64)), format!("two {}\n", "2".repeat(64)));
    let forged = format!("two {}\n", "3".repeat(64));
    let (storage, _) = sealed(dir.path(), "").unwrap();
    let made = storage.txn(Txn::create(secret.clone(), body("hush"))).await.unwrap();
    storage.txn(Txn::create(pod("p"), body("plain"))).await.unwrap();
    let epoch = storage.epoch();
    drop(storage);
    assert!(is_plain(dir.path(), "hush"));
    for (keys, resealed, plain) in [
        (one.clone(), 1, false),
        (one.clone(), 0, false),
        (two.clone() + &one, 1, false),
        (two.clone(), 0, false),
    ] {
        let (storage, report) = sealed(dir.path(), &keys).unwrap();
        assert_eq!((report.n_resealed, report.new_epoch), (resealed, false), "{keys}");
        let entry = storage.get(&secret).unwrap();
        assert_eq!((entry.revision, &entry.bytes), (made.revision, &made.entries[0].bytes));
        drop(storage);
        assert_eq!(is_plain(dir.path(), "hush"), plain, "{keys}");
        assert!(is_plain(dir.path(), "\"plain\""));
    }
    for keys in [String::new(), one, forged] {
        let err = sealed(dir.path(), &keys).unwrap_err();
        assert!(
            matches!(&err, OpenError::Sealed { key, .. } if *key == secret.as_str()),
            "{err:?}"
        );
    }
    let (storage, report) = sealed(dir.path(), &two).unwrap();
    let written =
        storage.txn(Txn::update(secret.clone(), made.revision, body("again"))).await.unwrap();
    assert_eq!((storage.epoch(), report.n_unreadable), (epoch, 0));
    drop(storage);
    assert!(!is_plain(dir.path(), "again"));
    let (storage, _) = sealed(dir.path(), &two).unwrap();
    assert_eq!(storage.get(&secret).unwrap().bytes, written.entries[0].bytes);
}

/// What an object was before lies in the file until it is written over; a rewrite leaves nothing.
#[tokio::test]
async fn a_rewrite_leaves_nothing_of_what_was_before() {
    let dir = tempfile::tempdir().unwrap();
    let secret = Key::new("core", "secrets", Some("default"), "a");
    let (storage, _) = sealed(dir.path(), "").unwrap();
    let made = storage.txn(Txn::create(secret.clone(), body("hush-hush"))).await.unwrap();
    drop(storage);
    let on_disk = || {
        let files = ["store/db", "log-0", "log-1"].map(|it| std::fs::read(dir.path().join(it)));
        let mut bytes = files.iter().flatten();
        bytes.any(|it| it.windows(9).any(|part| part == b"hush-hush"))
    };
    assert!(on_disk());
    let keys = format!("k {}", "1".repeat(64));
    let sealer = Some(Arc::new(keys.parse().unwrap()));
    let report = rewrite(dir.path(), Options { sealer, ..Options::DEFAULT }).unwrap();
    assert_eq!((report.n_resealed, report.new_epoch), (1, false));
    assert!(!on_disk());
    let (storage, report) = sealed(dir.path(), &keys).unwrap();
    assert_eq!((report.disk.healed, report.n_resealed), (Vec::new(), 0));
    assert_eq!(storage.get(&secret).unwrap().bytes, made.entries[0].bytes);
}
