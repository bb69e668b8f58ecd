//! What every storage must do, as checks that run against any implementation.
//!
//! Each check gets an empty storage and panics where a promise is broken; an implementation's tests call
//! [`check_all`] with a way to make one.

use std::sync::Arc;

use serde_json::json;

use crate::{
    Body, Committed, Condition, Entry, Event, Key, ListError, ListRequest, Prefix, Revision,
    Storage, Txn, TxnError, WatchError, Write,
};

/// Runs every check, each on a storage of its own.
pub async fn check_all<S: Storage>(mut fresh: impl AsyncFnMut() -> Arc<S>) {
    creates_reads_updates_and_deletes(&*fresh().await).await;
    conflicts_change_nothing(&*fresh().await).await;
    transactions_are_whole(&*fresh().await).await;
    lists_pages_of_one_snapshot(&*fresh().await).await;
    watches_from_any_revision(&*fresh().await).await;
    keeps_namespaces_apart(&*fresh().await).await;
    answers_compacted_and_future(&*fresh().await).await;
    one_of_many_creators_wins(fresh().await).await;
    watches_miss_nothing_under_load(fresh().await).await;
}

/// Objects come back as they went in, with their revision in them.
pub async fn creates_reads_updates_and_deletes(storage: &dyn Storage) {
    let start = storage.revision();
    let created = put(storage, Txn::create(pod("a"), body("one"))).await;
    assert!(created.revision > start);
    assert_eq!(created.created, created.revision);
    assert_eq!(text(&created), ("one".into(), created.revision.to_string()));
    assert_eq!(storage.get(&pod("a")).expect("created").revision, created.revision);

    let updated = put(storage, Txn::update(pod("a"), created.revision, body("two"))).await;
    assert!(updated.revision > created.revision);
    assert_eq!(updated.created, created.revision);
    assert_eq!(text(&storage.get(&pod("a")).expect("updated")).0, "two");

    let deleted = commit(storage, Txn::delete(pod("a"), updated.revision)).await;
    assert!(deleted.revision > updated.revision);
    assert!(storage.get(&pod("a")).is_none());
    assert_eq!(storage.revision(), deleted.revision);
}

/// A condition that does not hold says what is there.
pub async fn conflicts_change_nothing(storage: &dyn Storage) {
    let first = put(storage, Txn::create(pod("a"), body("one"))).await;
    let before = storage.revision();
    let stale = first.revision.next();
    for (txn, there) in [
        (Txn::create(pod("a"), body("two")), true),
        (Txn::update(pod("a"), stale, body("two")), true),
        (Txn::update(pod("b"), first.revision, body("two")), false),
        (Txn::delete(pod("a"), stale), true),
        (Txn { conditions: Vec::new(), writes: vec![Write::Delete(pod("b"))] }, false),
        (Txn::create(pod("c"), body("x")).and(Write::Delete(pod("b"))), false),
        (Txn::create(pod("c"), body("x")).when(Condition::Absent(pod("a"))), true),
    ] {
        match storage.txn(txn.clone()).await {
            Err(TxnError::Conflict { current, .. }) => {
                assert_eq!(current.map(|it| it.revision), there.then_some(first.revision));
            }
            other => panic!("{txn:?} gave {other:?}"),
        }
    }
    assert_eq!(storage.revision(), before);
    assert!(storage.get(&pod("c")).is_none());
}

/// Several writes appear together, in order; none has a revision below that of the one before it.
pub async fn transactions_are_whole(storage: &dyn Storage) {
    let old = put(storage, Txn::create(pod("c"), body("old"))).await.revision;
    let mut watch = storage.watch(&pods(), storage.revision()).expect("watch from now");
    let txn = Txn::create(pod("a"), body("one"))
        .and(Write::Put(pod("b"), body("two")))
        .and(Write::Delete(pod("c")));
    let committed = commit(storage, txn).await;
    let puts: Vec<Revision> = committed.entries.iter().map(|it| it.revision).collect();
    assert!(puts.len() == 2 && puts.is_sorted() && puts[0] > old, "{puts:?}");
    assert!(puts[1] <= committed.revision);
    let (mut revisions, mut keys) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let event = watch.next().await.expect("event");
        revisions.push(event.revision());
        keys.push(event.key().name().to_owned());
    }
    assert_eq!(revisions, [puts[0], puts[1], committed.revision]);
    assert_eq!(keys, ["a", "b", "c"]);
    assert_eq!(storage.revision(), committed.revision);
    let list = storage.list(&ListRequest::all(pods())).expect("list");
    assert_eq!(names(&list.entries), ["a", "b"]);
    // Half of it was never to be seen.
    let before = ListRequest { at: Some(old), ..ListRequest::all(pods()) };
    assert_eq!(names(&storage.list(&before).expect("list").entries), ["c"]);

    let twice = Txn::create(pod("d"), body("x")).and(Write::Delete(pod("d")));
    let refused = storage.txn(twice).await;
    assert!(matches!(&refused, Err(TxnError::Twice { key }) if *key == pod("d")), "{refused:?}");
    let large = Txn::create(pod("d"), body(&"x".repeat(2 << 20)));
    let refused = storage.txn(large).await;
    assert!(matches!(refused, Err(TxnError::TooLarge { .. })), "{refused:?}");
    assert_eq!(storage.revision(), committed.revision);
}

/// Later pages show the state of the first, whatever happened since.
pub async fn lists_pages_of_one_snapshot(storage: &dyn Storage) {
    let mut revision = Revision::ZERO;
    for name in ["a", "c", "e", "g"] {
        revision = put(storage, Txn::create(pod(name), body("old"))).await.revision;
    }
    let first = storage
        .list(&ListRequest { limit: Some(2), ..ListRequest::all(pods()) })
        .expect("first page");
    assert_eq!((names(&first.entries), first.remaining), (vec!["a", "c"], 2));
    assert_eq!(first.revision, revision);

    put(storage, Txn::create(pod("d"), body("new"))).await;
    put(storage, Txn { conditions: Vec::new(), writes: vec![Write::Put(pod("e"), body("new"))] })
        .await;
    put(storage, Txn { conditions: Vec::new(), writes: vec![Write::Put(pod("e"), body("newer"))] })
        .await;
    commit(storage, Txn { conditions: Vec::new(), writes: vec![Write::Delete(pod("g"))] }).await;
    commit(storage, Txn { conditions: Vec::new(), writes: vec![Write::Delete(pod("a"))] }).await;

    let page = |after: Option<Key>, limit| ListRequest {
        prefix: pods(),
        at: Some(first.revision),
        after,
        limit,
    };
    let second = storage.list(&page(Some(pod("c")), Some(1))).expect("second page");
    assert_eq!((names(&second.entries), second.remaining), (vec!["e"], 1));
    assert_eq!(text(&second.entries[0]).0, "old");
    let third = storage.list(&page(Some(pod("e")), None)).expect("third page");
    assert_eq!((names(&third.entries), third.remaining), (vec!["g"], 0));
    let whole = storage.list(&page(None, None)).expect("whole");
    assert_eq!(names(&whole.entries), ["a", "c", "e", "g"]);
    let newest = storage.list(&ListRequest::all(pods())).expect("newest");
    assert_eq!(names(&newest.entries), ["c", "d", "e"]);
}

/// A watch gives all events after its revision, the past ones first.
pub async fn watches_from_any_revision(storage: &dyn Storage) {
    let start = storage.revision();
    let one = put(storage, Txn::create(pod("a"), body("one"))).await;
    let two = put(storage, Txn::update(pod("a"), one.revision, body("two"))).await;
    let mut watch = storage.watch(&pods(), start).expect("watch from the start");
    let gone = commit(storage, Txn::delete(pod("a"), two.revision)).await.revision;

    let first = watch.next().await.expect("first");
    assert!(matches!(&*first, Event::Put { previous: None, .. }), "{first:?}");
    assert_eq!(first.revision(), one.revision);
    let second = watch.next().await.expect("second");
    assert!(matches!(&*second, Event::Put { .. }), "{second:?}");
    assert_eq!(second.revision(), two.revision);
    assert_eq!(second.previous().map(|it| it.revision), Some(one.revision));
    match &*watch.next().await.expect("third") {
        Event::Delete { key, revision, previous, last } => {
            assert_eq!((key, *revision, previous.revision), (&pod("a"), gone, two.revision));
            let last: serde_json::Value = serde_json::from_slice(last).expect("JSON");
            assert_eq!(last["metadata"]["resourceVersion"], gone.to_string());
            assert_eq!(last["text"], "two");
        }
        other @ Event::Put { .. } => panic!("{other:?}"),
    }
    assert!(watch.try_next().expect("open").is_none());
    assert_eq!(watch.synced(), Ok(Some(gone)));

    let mut late = storage.watch(&pods(), one.revision).expect("watch from the middle");
    assert_eq!(late.next().await.expect("second").revision(), two.revision);
    // Others' writes move the position of a watch that has nothing to tell.
    let elsewhere = Key::new("core", "nodes", None, "n1");
    let other = put(storage, Txn::create(elsewhere, body("x"))).await.revision;
    assert_eq!(watch.synced(), Ok(Some(other)));
}

/// Prefixes end at a slash.
pub async fn keeps_namespaces_apart(storage: &dyn Storage) {
    let start = storage.revision();
    for (namespace, name) in [("a", "x"), ("ab", "x"), ("b", "x")] {
        let key = Key::new("core", "pods", Some(namespace), name);
        put(storage, Txn::create(key, body("x"))).await;
    }
    let node = Key::new("core", "nodes", None, "n");
    put(storage, Txn::create(node.clone(), body("x"))).await;
    let prefix = Prefix::namespace("core", "pods", "a");
    let list = storage.list(&ListRequest::all(prefix.clone())).expect("list");
    assert_eq!(list.entries.len(), 1);
    let mut watch = storage.watch(&prefix, start).expect("watch");
    assert!(watch.try_next().expect("open").is_some());
    assert!(watch.try_next().expect("open").is_none());
    let nodes = storage.list(&ListRequest::all(Prefix::all("core", "nodes"))).expect("list");
    assert_eq!(nodes.entries.first().map(|it| it.key.clone()), Some(node));
    let none = storage.list(&ListRequest::all(Prefix::all("core", "podtemplates")));
    assert!(none.expect("list").entries.is_empty());
}

/// What is too old or too new is refused, in a way from which the caller can go on.
pub async fn answers_compacted_and_future(storage: &dyn Storage) {
    let one = put(storage, Txn::create(pod("a"), body("one"))).await.revision;
    let two = put(storage, Txn::create(pod("b"), body("two"))).await.revision;
    let mut slow = storage.watch(&pods(), Revision::new(one.get() - 1)).expect("watch");
    storage.compact(two);
    let at = |at| ListRequest { at: Some(at), ..ListRequest::all(pods()) };

    let list = storage.list(&at(one)).expect_err("compacted");
    assert_eq!(list, ListError::Compacted { at: one, oldest: two });
    let watch = storage.watch(&pods(), one).expect_err("compacted");
    assert_eq!(watch, WatchError::Compacted { after: one, oldest: two });
    let behind = slow.next().await.expect_err("left behind");
    assert!(matches!(behind, WatchError::Compacted { oldest, .. } if oldest == two));
    assert!(storage.list(&at(two)).is_ok());
    assert!(storage.watch(&pods(), two).is_ok());
    // A kind that was never written is as old as the others.
    let others = Prefix::all("core", "secrets");
    assert!(storage.watch(&others, one).is_err());

    let future = two.next();
    let list = storage.list(&at(future)).expect_err("future");
    assert_eq!(list, ListError::Future { at: future, current: two });
    let watch = storage.watch(&pods(), future).expect_err("future");
    assert_eq!(watch, WatchError::Future { after: future, current: two });
}

/// Of creates of one key at one time exactly one succeeds.
pub async fn one_of_many_creators_wins<S: Storage>(storage: Arc<S>) {
    let mut answers = Vec::new();
    for n in 0..20 {
        answers.push(storage.txn(Txn::create(pod("one"), body(&n.to_string()))));
    }
    let (mut winners, mut seen) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer.await {
            Ok(committed) => winners.push(committed.revision),
            Err(TxnError::Conflict { current: Some(current), .. }) => {
                seen.push(current.revision);
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(winners, [storage.revision()]);
    assert!(seen.len() == 19 && seen.iter().all(|it| winners.contains(it)), "{seen:?}");
    assert_eq!(storage.catch_up().await, Ok(storage.revision()));
}

/// Concurrent writers, watches that begin at any time: every watch sees every event after its revision, once, in
/// order, and the events replay to what a list shows.
pub async fn watches_miss_nothing_under_load<S: Storage>(storage: Arc<S>) {
    const WRITERS: usize = 8;
    const ROUNDS: usize = 60;
    let start = storage.revision();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let storage = storage.clone();
        tasks.spawn(async move {
            for round in 0..ROUNDS {
                let key = pod(&format!("p{}", (writer * 7 + round) % 11));
                let current = storage.get(&key);
                let txn = match current {
                    None => Txn::create(key, body("x")),
                    Some(it) if round % 5 == 4 => Txn::delete(key, it.revision),
                    Some(it) => Txn::update(key, it.revision, body("y")),
                };
                match storage.txn(txn).await {
                    Ok(_) | Err(TxnError::Conflict { .. }) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        });
    }
    let mut watchers = tokio::task::JoinSet::new();
    while let Some(done) = tasks.join_next().await {
        done.expect("writer");
        watchers.spawn(replay(storage.clone(), start));
        watchers.spawn(replay(storage.clone(), storage.revision()));
    }
    put(&*storage, Txn::create(pod("zz-end"), body("end"))).await;
    while let Some(done) = watchers.join_next().await {
        done.expect("watcher");
    }
}

/// Lists at a revision, then follows to the end, and compares with what is there.
async fn replay<S: Storage>(storage: Arc<S>, from: Revision) {
    let request = ListRequest { at: Some(from), ..ListRequest::all(pods()) };
    let list = storage.list(&request).expect("history reaches back");
    let mut state: std::collections::BTreeMap<Key, Revision> =
        list.entries.iter().map(|it| (it.key.clone(), it.revision)).collect();
    let mut watch = storage.watch(&pods(), from).expect("history reaches back");
    let mut last = from;
    loop {
        let event = watch.next().await.expect("event");
        assert_eq!(event.revision().get(), last.get() + 1, "a gap, or an event twice");
        last = event.revision();
        let before = event.previous().map(|it| it.revision);
        assert_eq!(state.get(event.key()).copied(), before);
        match &*event {
            Event::Put { entry, .. } => state.insert(entry.key.clone(), entry.revision),
            Event::Delete { key, .. } => state.remove(key),
        };
        if event.key().name() == "zz-end" {
            break;
        }
    }
    let list = storage.list(&ListRequest::all(pods())).expect("list");
    let listed = list.entries.iter().map(|it| (it.key.clone(), it.revision)).collect();
    assert_eq!(state, listed);
}

async fn commit(storage: &dyn Storage, txn: Txn) -> Committed {
    let shown = format!("{txn:?}");
    storage.txn(txn).await.unwrap_or_else(|err| panic!("{shown} gave {err:?}"))
}

async fn put(storage: &dyn Storage, txn: Txn) -> Arc<Entry> {
    commit(storage, txn).await.entries.pop().expect("one put")
}

fn pods() -> Prefix {
    Prefix::all("core", "pods")
}

fn pod(name: &str) -> Key {
    Key::new("core", "pods", Some("default"), name)
}

fn body(text: &str) -> Body {
    Body::from_value(&json!({"kind": "Pod", "metadata": {"uid": "u"}, "text": text}))
}

fn text(entry: &Entry) -> (String, String) {
    let value = entry.decode();
    let field = |it: &serde_json::Value| it.as_str().unwrap_or_default().to_owned();
    (field(&value["text"]), field(&value["metadata"]["resourceVersion"]))
}

fn names(entries: &[Arc<Entry>]) -> Vec<&str> {
    entries.iter().map(|it| it.key.name()).collect()
}
