//! The promises of every storage, kept by a real etcd, and what is special about one that hubs share.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::json;

use super::{compaction::compact, load::load, *};
use crate::{Body, Condition, ListRequest, Prefix, WatchError, Write, conformance};

/// An etcd of one member, ended with the test.
struct Etcd {
    dir: tempfile::TempDir,
    port: u16,
    process: Child,
}

/// The program; without it these tests are a skip on a laptop, and a failure where `REQUIRE_PRIVILEGED` is set.
fn etcd() -> Option<Etcd> {
    let dir = tempfile::tempdir().unwrap();
    // Free a moment ago: nobody else on loopback takes it so soon.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    match spawn(dir.path(), port) {
        Ok(process) => Some(Etcd { dir, port, process }),
        Err(err) => {
            assert!(std::env::var_os("REQUIRE_PRIVILEGED").is_none(), "no etcd: {err}");
            eprintln!("skipped: there is no etcd ({err})");
            None
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test runs etcd")]
fn spawn(dir: &Path, port: u16) -> std::io::Result<Child> {
    let program = std::env::var_os("OUTBYE_ETCD").unwrap_or_else(|| "etcd".into());
    let url = format!("http://127.0.0.1:{port}");
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(dir.join("data"));
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    // Nobody is to join: any port will do.
    command.args(["--listen-peer-urls", "http://127.0.0.1:0"]);
    command.args(["--unsafe-no-fsync", "--logger", "zap", "--log-level", "error"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

impl Etcd {
    fn place(&self, prefix: &str) -> EtcdPlace {
        format!("etcd://127.0.0.1:{}/{prefix}", self.port).parse().unwrap()
    }

    async fn open(&self, prefix: &str) -> Arc<EtcdStorage> {
        EtcdStorage::open(&self.place(prefix), EtcdOptions::new()).await.unwrap().0
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn start(&mut self) {
        self.process = spawn(self.dir.path(), self.port).unwrap();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // Already ended is what we want.
        let _ended = self.process.kill();
        let _ended = self.process.wait();
    }
}

fn pods() -> Prefix {
    Prefix::all("core", "pods")
}

fn pod(name: &str) -> Key {
    Key::new("core", "pods", Some("default"), name)
}

fn body(text: &str) -> Body {
    Body::from_value(&json!({"metadata": {"name": "x"}, "text": text}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms() {
    let Some(etcd) = etcd() else { return };
    let n = AtomicU32::new(0);
    let fresh = async || etcd.open(&format!("t{}", n.fetch_add(1, Ordering::Relaxed))).await;
    conformance::check_all(fresh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubs_see_each_others_writes_and_begin_one_history() {
    let Some(etcd) = etcd() else { return };
    let (a, b) = tokio::join!(etcd.open("x"), etcd.open("x"));
    assert_eq!(a.epoch(), b.epoch());
    let other = etcd.open("y").await;
    assert_ne!(a.epoch(), other.epoch());
    let mut watch = b.watch(&pods(), b.revision()).unwrap();
    for n in 0..50 {
        let key = pod(&n.to_string());
        let (writer, reader) = if n % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let made = writer.txn(Txn::create(key.clone(), body("x"))).await.unwrap();
        assert!(reader.catch_up().await.unwrap() >= made.revision);
        assert_eq!(reader.get(&key).unwrap().revision, made.revision);
        // What others do in this etcd neither holds up nor confuses.
        other.txn(Txn::create(key, body("y"))).await.unwrap();
        assert_eq!(watch.next().await.unwrap().revision(), made.revision);
    }
    assert_eq!(a.catch_up().await, b.catch_up().await);
    // A conflict with another hub's write leaves the reader able to see it.
    let key = pod("0");
    let (x, y) = (a.get(&key).unwrap(), b.get(&key).unwrap());
    let first = a.txn(Txn::update(key.clone(), x.revision, body("a"))).await.unwrap();
    let second = b.txn(Txn::update(key.clone(), y.revision, body("b"))).await;
    let Err(TxnError::Conflict { current, .. }) = second else { panic!("{second:?}") };
    assert_eq!(current.unwrap().revision, first.revision);
    assert_eq!(b.get(&key).unwrap().revision, first.revision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_comes_back_is_followed_again() {
    let Some(mut etcd) = etcd() else { return };
    let (a, b) = (etcd.open("x").await, etcd.open("x").await);
    let start = a.revision();
    let one = a.txn(Txn::create(pod("one"), body("1"))).await.unwrap();
    let mut watch = b.watch(&pods(), start).unwrap();
    assert_eq!(watch.next().await.unwrap().revision(), one.revision);

    etcd.kill();
    let refused = a.txn(Txn::create(pod("two"), body("2"))).await;
    let unknown = matches!(refused, Err(TxnError::Unreachable { .. } | TxnError::TimedOut));
    assert!(unknown, "{refused:?}");
    assert!(b.catch_up().await.is_err());
    // What is known can still be read.
    assert_eq!(b.get(&pod("one")).unwrap().revision, one.revision);

    etcd.start();
    let three = loop {
        match a.txn(Txn::create(pod("three"), body("3"))).await {
            Ok(made) => break made,
            Err(TxnError::Unreachable { .. } | TxnError::TimedOut) => {}
            Err(other) => panic!("{other:?}"),
        }
    };
    loop {
        let event = watch.next().await.unwrap();
        if event.key() == &pod("three") {
            assert_eq!(event.revision(), three.revision);
            break;
        }
    }
    a.shutdown().await;
    assert!(matches!(a.txn(Txn::default()).await, Err(TxnError::Closed)));
    assert_eq!(a.catch_up().await, Err(CatchUpError::Closed));
    assert!(matches!(a.watch(&pods(), three.revision), Err(WatchError::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_history_is_read_anew_and_said_so() {
    let Some(etcd) = etcd() else { return };
    let writer = etcd.open("x").await;
    let kept = writer.txn(Txn::create(pod("kept"), body("1"))).await.unwrap();
    let gone = writer.txn(Txn::create(pod("gone"), body("1"))).await.unwrap();
    // A cache that knows no more than this, and is cut off while history goes on.
    let behind = CutOff::from(&etcd, &writer).await;
    let (store, cache) = (behind.store.clone(), behind.store.cache.clone());
    let mut watch = cache.watch(&pods(), gone.revision).unwrap();
    writer.txn(Txn::delete(pod("gone"), gone.revision)).await.unwrap();
    let new = writer.txn(Txn::create(pod("new"), body("1"))).await.unwrap();
    let seen = compact(&store, None).await.unwrap();
    let done = compact(&store, Some(seen)).await.unwrap();
    assert!(done.record > seen.at, "{done:?}");
    // Of two that saw the same only one does it.
    let lost = compact(&store, Some(seen)).await.unwrap();
    assert_eq!(lost.record, done.record);

    let _tasks = behind.follow();
    assert!(store.reached(new.revision, CALL_TIMEOUT).await);
    let behind = watch.next().await.unwrap_err();
    assert!(matches!(behind, WatchError::Compacted { .. }), "{behind:?}");
    let list = cache.list(&ListRequest::all(pods())).unwrap();
    let found: Vec<_> = list.entries.iter().map(|it| (it.key.name(), it.revision)).collect();
    assert_eq!(found, [("kept", kept.revision), ("new", new.revision)]);
    let mut resumed = cache.watch(&pods(), list.revision).unwrap();
    let next = writer.txn(Txn::create(pod("next"), body("1"))).await.unwrap();
    assert_eq!(resumed.next().await.unwrap().revision(), next.revision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_sealed_and_limits_are_named() {
    let Some(etcd) = etcd() else { return };
    let keys = |text: String| EtcdOptions {
        sealer: Some(Arc::new(text.parse().unwrap())),
        ..EtcdOptions::new()
    };
    let (old, new) = (format!("old {}\n", "1".repeat(64)), format!("new {}\n", "2".repeat(64)));
    let place = etcd.place("x");
    let secret = Key::new("core", "secrets", Some("d"), "s");
    let (a, _) = EtcdStorage::open(&place, keys(old.clone())).await.unwrap();
    let made = a.txn(Txn::create(secret.clone(), body("hush"))).await.unwrap();
    let without = EtcdStorage::open(&place, EtcdOptions::new()).await;
    assert!(matches!(without, Err(EtcdOpenError::Sealed { .. })), "{without:?}");
    let (b, report) = EtcdStorage::open(&place, keys(new.clone() + &old)).await.unwrap();
    assert_eq!((report.n_resealed, report.new_epoch), (1, false));
    let resealed = b.get(&secret).unwrap();
    assert!(resealed.revision > made.revision);
    assert_eq!(resealed.value()["text"], "hush");
    let (c, report) = EtcdStorage::open(&place, keys(new)).await.unwrap();
    assert_eq!((report.n_resealed, report.n_entries), (0, 1));

    let mut many = Txn::default();
    for n in 0..200 {
        let key = pod(&n.to_string());
        many = many.when(Condition::Absent(key.clone())).and(Write::Put(key, body("x")));
    }
    let refused = c.txn(many).await;
    assert!(matches!(refused, Err(TxnError::TooMany { n: 200, limit: 127 })), "{refused:?}");
    let large = body(&"x".repeat(1 << 20));
    let two = Txn::create(pod("a"), large.clone()).and(Write::Put(pod("b"), large));
    let refused = c.txn(two).await;
    assert!(matches!(refused, Err(TxnError::TooLarge { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_become_a_history_in_an_empty_place_only() {
    let Some(etcd) = etcd() else { return };
    let sealer: Arc<Sealer> = Arc::new(format!("k {}", "1".repeat(64)).parse().unwrap());
    let options = EtcdOptions { sealer: Some(sealer), ..EtcdOptions::new() };
    let place = etcd.place("x");
    // More than one transaction takes, by number and by size.
    let mut objects: Vec<_> = (0..150).map(|n| (pod(&n.to_string()), body("x"))).collect();
    let secret = Key::new("core", "secrets", Some("d"), "s");
    objects.extend((0..3).map(|n| (pod(&format!("large{n}")), body(&"x".repeat(400 << 10)))));
    objects.push((secret.clone(), body("hush")));
    let restored = restore_etcd(&place, &options, objects.clone()).await.unwrap();
    assert_eq!(restored.n_objects, 154);
    let (storage, report) = EtcdStorage::open(&place, options.clone()).await.unwrap();
    assert_eq!((report.n_entries, report.n_resealed, report.new_epoch), (154, 0, false));
    assert_eq!((storage.epoch(), storage.revision()), (restored.epoch, restored.revision));
    assert_eq!(storage.get(&secret).unwrap().value()["text"], "hush");
    let again = restore_etcd(&place, &options, objects.clone()).await.unwrap_err();
    assert!(again.to_string().contains("etcdctl del --prefix /x/"), "{again}");

    // One that stopped half-way is neither opened nor taken up.
    let cut = etcd.place("y");
    let twice = vec![objects[0].clone(); 2];
    let twice = restore_etcd(&cut, &options, twice).await.unwrap_err();
    assert!(matches!(twice, EtcdRestoreError::Write { .. }), "{twice}");
    let opened = EtcdStorage::open(&cut, options.clone()).await;
    assert!(matches!(opened, Err(EtcdOpenError::Epoch { .. })), "{opened:?}");
    let again = restore_etcd(&cut, &options, Vec::new()).await;
    assert!(matches!(again, Err(EtcdRestoreError::NotEmpty { .. })), "{again:?}");
    let large = vec![(pod("a"), body(&"x".repeat(2 << 20)))];
    let refused = restore_etcd(&etcd.place("z"), &options, large).await;
    assert!(matches!(refused, Err(EtcdRestoreError::TooLarge { .. })), "{refused:?}");
    assert_eq!(restore_etcd(&etcd.place("z"), &options, Vec::new()).await.unwrap().n_objects, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_etcd_is_not_followed() {
    let Some(mut etcd) = etcd() else { return };
    let a = etcd.open("x").await;
    for n in 0..5 {
        a.txn(Txn::create(pod(&n.to_string()), body("x"))).await.unwrap();
    }
    etcd.kill();
    std::fs::remove_dir_all(etcd.dir.path().join("data")).unwrap();
    etcd.start();
    assert_closed(&a).await;
    // In the other etcd such a condition may hold for something else.
    let b = etcd.open("x").await;
    b.txn(Txn::create(pod("0"), body("x"))).await.unwrap();
    let at = b.get(&pod("0")).unwrap().revision;
    let stale = a.txn(Txn::update(pod("0"), at, body("y"))).await;
    assert!(matches!(stale, Err(TxnError::Closed)), "{stale:?}");
    assert_eq!(b.get(&pod("0")).unwrap().revision, at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_that_begins_anew_stops_who_follows_the_old_one() {
    let Some(etcd) = etcd() else { return };
    let a = etcd.open("x").await;
    let place = etcd.place("x");
    let epoch = new_epoch(&place, &EtcdTls::default()).await.unwrap();
    assert_closed(&a).await;
    assert_eq!(etcd.open("x").await.epoch(), epoch);
    let nothing = new_epoch(&etcd.place("y"), &EtcdTls::default()).await;
    assert!(matches!(nothing, Err(EtcdOpenError::Epoch { .. })), "{nothing:?}");
}

async fn assert_closed(storage: &EtcdStorage) {
    let mut progress = storage.progress();
    let closed = async { while progress.changed().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), closed).await.unwrap();
    let watch = storage.watch(&pods(), storage.revision());
    assert!(matches!(watch, Err(WatchError::Closed)), "{watch:?}");
}

/// A hub that is cut off while others write, and history is forgotten meanwhile.
struct CutOff {
    store: Arc<Store>,
    at: i64,
}

impl CutOff {
    async fn from(etcd: &Etcd, writer: &EtcdStorage) -> Self {
        let place = etcd.place("x");
        let members = Members::new(&place, &EtcdTls::default()).unwrap();
        let layout = Layout::new(&place.prefix);
        let Ok(loaded) = load(&members, &layout, None).await else { panic!("etcd is there") };
        let (at, cluster, epoch) = (loaded.at, loaded.cluster, writer.epoch());
        assert_eq!(loaded.epoch, Some(epoch));
        let cache = WatchCache::new(loaded.entries, loaded.revision, HistoryLimits::DEFAULT);
        let (cache, sealer) = (Arc::new(cache), None);
        Self { store: Arc::new(Store { members, layout, cache, sealer, cluster, epoch }), at }
    }

    fn follow(self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(follow::run(self.store, self.at));
        tasks
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_again_stops_the_hub() {
    let Some(etcd) = etcd() else { return };
    let sealer = format!("new {}\n", "2".repeat(64)).parse().unwrap();
    let options = EtcdOptions { sealer: Some(Arc::new(sealer)), ..EtcdOptions::new() };
    let (writer, _) = EtcdStorage::open(&etcd.place("x"), options).await.unwrap();
    let behind = CutOff::from(&etcd, &writer).await;
    let secret = Key::new("core", "secrets", Some("d"), "s");
    writer.txn(Txn::create(secret, body("hush"))).await.unwrap();
    let seen = compact(&behind.store, None).await.unwrap();
    compact(&behind.store, Some(seen)).await.unwrap();
    let mut progress = behind.store.cache.progress();
    let _tasks = behind.follow();
    let closed = async { while progress.changed().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), closed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_everything_goes_on_when_etcd_comes_back() {
    let Some(mut etcd) = etcd() else { return };
    let writer = etcd.open("x").await;
    let made = writer.txn(Txn::create(pod("a"), body("1"))).await.unwrap();
    let place = etcd.place("x");
    let members = Members::new(&place, &EtcdTls::default()).unwrap();
    let layout = Layout::new(&place.prefix);
    etcd.kill();
    let comes_back = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        etcd.start();
    };
    let (loaded, ()) = tokio::join!(load(&members, &layout, None), comes_back);
    let Ok(loaded) = loaded else { panic!("it did not go on") };
    assert_eq!((loaded.entries.len(), loaded.revision), (1, made.revision));
}
