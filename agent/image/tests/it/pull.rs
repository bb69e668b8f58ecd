//! Pulls that go well, and pulls that do not.

use std::{collections::BTreeSet, path::Path, time::Duration};

use agent_image::{
    Auth, Digest, Image as Pulled, ImageConfig, ImageRef, ImageStore, MalformedImage, PullError,
};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::json;

use crate::{
    builder::{Image, noise, tar},
    proxy::{Mood, Proxy},
    registry::Registry,
};

fn open(dir: &Path, host: &str) -> ImageStore {
    ImageStore::open(&dir.join("store"), config(host)).unwrap()
}

fn config(host: &str) -> ImageConfig {
    ImageConfig {
        retry_pause: Duration::from_millis(1),
        read_timeout: Duration::from_secs(5),
        ..ImageConfig::new(vec![host.to_owned()])
    }
}

fn name(host: &str, name: &str) -> ImageRef {
    format!("{host}/{name}").parse().unwrap()
}

async fn ensure(store: &ImageStore, image: &ImageRef) -> Result<Pulled, PullError> {
    store.ensure(image, &Auth::Anonymous).await
}

/// Names below the store's directories of unfinished and finished content.
fn remains(dir: &Path, kinds: &[&str]) -> Vec<String> {
    let list = |kind: &&str| {
        let entries = std::fs::read_dir(dir.join("store").join(kind)).unwrap();
        entries.map(|it| format!("{}", it.unwrap().path().display())).collect::<Vec<_>>()
    };
    kinds.iter().flat_map(list).collect()
}

fn busybox() -> Image {
    let busybox = std::fs::read("/bin/busybox").unwrap();
    Image::new(&[
        tar(&[("bin/busybox", &busybox), ("etc/motd", b"one"), ("etc/gone", b"")]),
        tar(&[("etc/motd", b"two"), ("etc/.wh.gone", b"")]),
        tar(&[("srv/index.html", b"hello")]),
    ])
}

#[tokio::test]
async fn an_image_is_pulled_unpacked_and_found_again_without_the_registry() {
    let registry = Registry::start();
    registry.push("a/busybox:1", &busybox()).await;
    let temp = tempfile::tempdir().unwrap();
    let image = name(&registry.host, "a/busybox:1");
    let store = open(temp.path(), &registry.host);
    assert!(store.lookup(&image).is_none());
    let pulled = ensure(&store, &image).await.unwrap();
    assert_eq!(pulled.digest, Digest::of(&busybox().manifest()));
    assert_eq!(pulled.config.config().as_ref().unwrap().env(), &Some(vec!["PATH=/bin".into()]));
    assert_eq!(pulled.layers.len(), 3);
    let read = |n: usize, path: &str| std::fs::read(pulled.layers[n].join(path)).unwrap();
    assert_eq!(read(0, "bin/busybox"), std::fs::read("/bin/busybox").unwrap());
    assert_eq!(read(1, "etc/motd"), b"two");
    assert_eq!(store.list().len(), 1);
    store.close();
    drop(store);
    drop(registry);
    let store = open(temp.path(), image.registry());
    assert!(!store.open_report().unclean);
    let found = ensure(&store, &image).await.unwrap();
    assert_eq!((found.digest, found.layers), (pulled.digest.clone(), pulled.layers));
    // By digest it is the same image, whatever its tag.
    assert!(store.lookup(&image.with_digest(pulled.digest)).is_some());
}

#[tokio::test]
async fn what_is_not_there_or_not_for_us_is_told_apart() {
    let registry = Registry::start();
    let host = &registry.host;
    let alien = Image::for_architecture(&[tar(&[("a", b"1")])], "s390x");
    registry.push("a/alien:1", &alien).await;
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": Digest::of(&alien.manifest()).as_str(),
            "size": alien.manifest().len(),
            "platform": {"os": "linux", "architecture": "s390x"},
        }],
    });
    let ty = "application/vnd.oci.image.index.v1+json";
    registry.push_manifest("a/alien:index", index.to_string().as_bytes(), ty).await;
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), host);
    for missing in ["a/alien:2", "a/none:1"] {
        let err = ensure(&store, &name(host, missing)).await.unwrap_err();
        assert!(matches!(err, PullError::NotFound { .. }), "{err}");
    }
    for alien in ["a/alien:1", "a/alien:index"] {
        let err = ensure(&store, &name(host, alien)).await.unwrap_err();
        assert!(err.to_string().ends_with("only for linux/s390x"), "{err}");
        assert!(!err.is_retryable());
    }
}

#[tokio::test]
async fn a_locked_registry_wants_the_right_credentials() {
    let registry = Registry::start_locked();
    registry.push("a/busybox:1", &busybox()).await;
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), &registry.host);
    let image = name(&registry.host, "a/busybox:1");
    let basic =
        |password: &str| Auth::Basic { username: "user".to_owned(), password: password.to_owned() };
    let (nobody, wrong, right) = (Auth::Anonymous, basic("guess"), basic("secret"));
    // At the same time: one that is refused must not fail the other.
    let (nobody, wrong, right) = tokio::join!(
        store.ensure(&image, &nobody),
        store.ensure(&image, &wrong),
        store.ensure(&image, &right)
    );
    for err in [nobody.unwrap_err(), wrong.unwrap_err()] {
        assert!(matches!(err, PullError::Unauthorized { .. }), "{err}");
        assert!(!err.to_string().contains("guess"));
    }
    right.unwrap();
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_missed_by_nobody() {
    let (registry, mirror) = (Registry::start(), Registry::start());
    registry.push("a/one:1", &Image::new(&[tar(&[("a", b"1")])])).await;
    mirror.push("a/one:1", &Image::new(&[tar(&[("a", b"mirrored")])])).await;
    registry.push("a/two:1", &Image::new(&[tar(&[("a", b"2")])])).await;
    let temp = tempfile::tempdir().unwrap();
    let hosts = vec![registry.host.clone(), mirror.host.clone()];
    let mirrors = [(registry.host.clone(), vec![mirror.host.clone()])].into();
    let config = ImageConfig { plain_http: hosts, mirrors, ..config("") };
    let store = ImageStore::open(&temp.path().join("store"), config).unwrap();
    for (image, text) in [("a/one:1", &b"mirrored"[..]), ("a/two:1", b"2")] {
        let pulled = ensure(&store, &name(&registry.host, image)).await.unwrap();
        assert_eq!(std::fs::read(pulled.layers[0].join("a")).unwrap(), text);
    }
}

#[tokio::test]
async fn a_manifest_without_end_is_not_listened_to() {
    let registry = Registry::start();
    let proxy = Proxy::start(&registry.host, Mood::Endless).await;
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), &proxy.host);
    let err = ensure(&store, &name(&proxy.host, "a/endless:1")).await.unwrap_err();
    assert!(err.to_string().ends_with("more than 4194304 bytes in a manifest"), "{err}");
    // What was under way in buffers counts as sent.
    assert!(proxy.log.lock().unwrap().endless_bytes < 32 << 20);
}

#[tokio::test]
async fn an_index_leads_to_the_image_for_this_node() {
    let registry = Registry::start();
    let host = &registry.host;
    let image = busybox();
    registry.push("a/busybox:1", &image).await;
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": Digest::of(&image.manifest()).as_str(),
            "size": image.manifest().len(),
            "platform": {
                "os": "linux",
                "architecture": agent_image::Platform::host().architecture,
            },
        }],
    });
    let ty = "application/vnd.oci.image.index.v1+json";
    let index = index.to_string().into_bytes();
    registry.push_manifest("a/busybox:index", &index, ty).await;
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), host);
    let pulled = ensure(&store, &name(host, "a/busybox:index")).await.unwrap();
    assert_eq!(pulled.repo_digest, Digest::of(&index));
    assert_eq!(pulled.digest, Digest::of(&image.manifest()));
    let pinned = name(host, &format!("a/busybox@{}", Digest::of(&index)));
    assert_eq!(ensure(&store, &pinned).await.unwrap().digest, pulled.digest);
}

#[tokio::test]
async fn content_that_is_not_its_digest_never_gets_a_name() {
    let registry = Registry::start();
    let image = busybox();
    registry.push("a/busybox:1", &image).await;
    let path = registry.blob_path(&image.layers[0]);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    agent_disk::replace(&path, &bytes).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), &registry.host);
    let image_name = name(&registry.host, "a/busybox:1");
    let err = ensure(&store, &image_name).await.unwrap_err();
    let PullError::DigestMismatch { expected, .. } = &err else { panic!("{err}") };
    assert_eq!(*expected, image.layers[0].digest);
    assert!(store.lookup(&image_name).is_none());
    assert!(!temp.path().join("store/blobs/sha256").join(expected.hex()).exists());
    agent_disk::replace(&path, &image.layers[0].bytes).unwrap();
    ensure(&store, &image_name).await.unwrap();
}

#[tokio::test]
async fn a_layer_that_is_not_its_diff_id_is_refused() {
    let registry = Registry::start();
    let mut image = Image::new(&[tar(&[("a", b"1")])]);
    image.layers = Image::new(&[tar(&[("a", b"2")])]).layers;
    registry.push("a/liar:1", &image).await;
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), &registry.host);
    let err = ensure(&store, &name(&registry.host, "a/liar:1")).await.unwrap_err();
    let is_it = matches!(&err, PullError::Malformed { why: MalformedImage::DiffId { .. }, .. });
    assert!(is_it && !err.is_retryable(), "{err}");
    assert_eq!(remains(temp.path(), &["snapshots", "ingest"]), Vec::<String>::new());
}

#[tokio::test]
async fn a_transfer_that_keeps_breaking_is_resumed_and_not_repeated() {
    let registry = Registry::start();
    let image = Image::new(&[tar(&[("noise", &noise(3_000_000))])]);
    registry.push("a/noise:1", &image).await;
    let proxy = Proxy::start(&registry.host, Mood::CutAfter(200_000)).await;
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), &proxy.host);
    let pulled = ensure(&store, &name(&proxy.host, "a/noise:1")).await.unwrap();
    assert_eq!(std::fs::read(pulled.layers[0].join("noise")).unwrap(), noise(3_000_000));
    let log = proxy.log.lock().unwrap();
    let resumed = log.requests.iter().filter(|(_, range)| range.is_some()).count();
    assert!(resumed >= 10, "{resumed} resumed transfers");
    // Some bytes of a cut connection may be lost on the way.
    assert!(log.blob_bytes < image.size() * 3 / 2, "{} bytes moved", log.blob_bytes);
}

#[tokio::test]
async fn a_transfer_is_resumed_after_a_restart_unless_its_beginning_is_damaged() {
    let registry = Registry::start();
    let image = Image::new(&[tar(&[("noise", &noise(1_000_000))])]);
    registry.push("a/noise:1", &image).await;
    let proxy = Proxy::start(&registry.host, Mood::CutAfter(600_000)).await;
    let temp = tempfile::tempdir().unwrap();
    let image_name = name(&proxy.host, "a/noise:1");
    let one_attempt = ImageConfig { attempts: 1, ..config(&proxy.host) };
    let dir = temp.path().join("store");
    let store = ImageStore::open(&dir, one_attempt.clone()).unwrap();
    let err = ensure(&store, &image_name).await.unwrap_err();
    assert!(matches!(err, PullError::Network { .. }) && err.is_retryable(), "{err}");
    drop(store);
    let partials = std::fs::read_dir(dir.join("partial")).unwrap();
    let mut partials = partials.map(|it| it.unwrap().path());
    let partial =
        partials.find(|it| it.display().to_string().contains(image.layers[0].digest.hex()));
    let partial = partial.unwrap();
    let before = std::fs::metadata(&partial).unwrap().len();
    assert!(before > 100_000, "{before}");
    // A power cut may leave zeros where bytes were.
    let damaged = std::fs::File::options().write(true).open(&partial).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&damaged, &[0; 4096], 8192).unwrap();
    proxy.set_mood(Mood::Fair);
    let store = ImageStore::open(&dir, one_attempt).unwrap();
    ensure(&store, &image_name).await.unwrap();
    assert!(proxy.log.lock().unwrap().requests.iter().any(|(_, range)| range.is_some()));
}

/// Anybody may name the layers of other people's images in a manifest.
#[tokio::test]
async fn a_registry_that_never_ends_holds_up_nobody_else() {
    let registry = Registry::start();
    let image = Image::new(&[tar(&[("noise", &noise(1_000_000))])]);
    registry.push("a/noise:1", &image).await;
    let slow = Proxy::start(&registry.host, Mood::StallAfter(300_000)).await;
    let temp = tempfile::tempdir().unwrap();
    let plain_http = vec![registry.host.clone(), slow.host.clone()];
    let config = ImageConfig { plain_http, ..config("") };
    let store = ImageStore::open(&temp.path().join("store"), config).unwrap();
    let (from_slow, from_own) = (name(&slow.host, "a/noise:1"), name(&registry.host, "a/noise:1"));
    let stalled = ensure(&store, &from_slow);
    let own = async {
        while slow.log.lock().unwrap().blob_bytes == 0 {
            tokio::task::yield_now().await;
        }
        ensure(&store, &from_own).await
    };
    let own = tokio::time::timeout(Duration::from_secs(20), own);
    tokio::select! {
        biased;
        pulled = own => drop(pulled.expect("waits for another registry").unwrap()),
        slow = stalled => panic!("{slow:?}"),
    }
}

#[tokio::test]
async fn what_another_host_says_is_not_told() {
    let inner = serve(|_| answer("403 x", "key of this machine")).await;
    for (path, to) in [
        ("/v2/", format!("401 x\r\nwww-authenticate: Bearer realm=\"http://{inner}/token\"")),
        ("/v2/a/x/manifests/1", format!("307 x\r\nlocation: http://{inner}/metadata")),
    ] {
        let outer = sending_on(path, &to).await;
        let temp = tempfile::tempdir().unwrap();
        let err = ensure(&open(temp.path(), &outer), &name(&outer, "a/x:1")).await.unwrap_err();
        assert!(matches!(err, PullError::Unauthorized { .. }), "{err}");
        let told = format!("{err} {err:?}");
        assert!(told.contains("403") && !told.contains("key"), "{told}");
    }
}

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Answers requests for this path so, and others well.
async fn sending_on(path: &str, head: &str) -> String {
    let (wanted, sent_on) = (format!("GET {path} "), answer(head, ""));
    serve(move |request| match request.starts_with(&wanted) {
        true => sent_on.clone(),
        false => answer("200 OK", ""),
    })
    .await
}

/// Answers one request after the other. Returns its host.
async fn serve(answer: impl Fn(&str) -> String + Send + 'static) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let n = stream.read(&mut request).await.unwrap();
            let answer = answer(&String::from_utf8_lossy(&request[..n]));
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    host
}

#[tokio::test]
async fn waiters_share_one_pull() {
    let registry = Registry::start();
    let image = busybox();
    registry.push("a/busybox:1", &image).await;
    let proxy = Proxy::start(&registry.host, Mood::Fair).await;
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), &proxy.host);
    let image_name = name(&proxy.host, "a/busybox:1");
    let waiters = (0..8).map(|_| ensure(&store, &image_name));
    for result in futures_util::future::join_all(waiters).await {
        result.unwrap();
    }
    for layer in &image.layers {
        assert_eq!(proxy.n_requests(layer.digest.as_str()), 1);
    }
}

#[tokio::test]
async fn a_pull_that_nobody_waits_for_stops_and_can_be_taken_up_again() {
    let registry = Registry::start();
    let image = Image::new(&[tar(&[("noise", &noise(1_000_000))])]);
    registry.push("a/noise:1", &image).await;
    let proxy = Proxy::start(&registry.host, Mood::StallAfter(300_000)).await;
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), &proxy.host);
    let image_name = name(&proxy.host, "a/noise:1");
    let given_up =
        tokio::time::timeout(Duration::from_millis(300), ensure(&store, &image_name)).await;
    assert!(given_up.is_err());
    proxy.set_mood(Mood::Fair);
    ensure(&store, &image_name).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_told_and_left_as_it_was() {
    let registry = Registry::start();
    let big = Image::new(&[tar(&[("small", b"1")]), tar(&[("noise", &noise(6_000_000))])]);
    // Small to fetch and too big to unpack.
    let zeros = Image::new(&[tar(&[("zeros", &vec![0; 6_000_000])])]);
    registry.push("a/big:1", &big).await;
    registry.push("a/zeros:1", &zeros).await;
    registry.push("a/small:1", &Image::new(&[tar(&[("small", b"1")])])).await;
    let temp = tempfile::tempdir().unwrap();
    let _disk = SmallDisk::mount(temp.path(), 4 << 20);
    let store = open(temp.path(), &registry.host);
    for too_big in ["a/big:1", "a/zeros:1"] {
        let err = ensure(&store, &name(&registry.host, too_big)).await.unwrap_err();
        assert!(matches!(err, PullError::NoSpace { .. }) && err.is_retryable(), "{err}");
        let kinds = ["partial", "ingest", "snapshots", "blobs/sha256"];
        assert_eq!(remains(temp.path(), &kinds), Vec::<String>::new(), "after {too_big}");
    }
    ensure(&store, &name(&registry.host, "a/small:1")).await.unwrap();
}

#[tokio::test]
async fn damage_of_a_power_cut_is_found_and_mended_without_the_registry() {
    let registry = Registry::start();
    registry.push("a/busybox:1", &busybox()).await;
    let temp = tempfile::tempdir().unwrap();
    let image = name(&registry.host, "a/busybox:1");
    let store = open(temp.path(), &registry.host);
    let pulled = ensure(&store, &image).await.unwrap();
    drop(store);
    drop(registry);
    // The machine went down: another boot, a file cut short, a half-made snapshot.
    agent_disk::replace(&temp.path().join("store/in-use"), b"another boot").unwrap();
    std::fs::File::create(pulled.layers[1].join("etc/motd")).unwrap();
    std::fs::create_dir_all(temp.path().join("store/ingest/half/fs/deep")).unwrap();
    let store = open(temp.path(), image.registry());
    let report = store.open_report();
    assert_eq!((report.unclean, report.leftovers, report.dropped_snapshots), (true, 1, 1));
    assert_eq!(report.incomplete_images, std::slice::from_ref(&image));
    assert!(store.lookup(&image).is_none());
    let mended = ensure(&store, &image).await.unwrap();
    assert_eq!(std::fs::read(mended.layers[1].join("etc/motd")).unwrap(), b"two");
}

#[tokio::test]
async fn collection_takes_what_nobody_needs_and_shared_layers_stay() {
    let registry = Registry::start();
    let base = tar(&[("base", b"1")]);
    registry.push("a/one:1", &Image::new(&[base.clone(), tar(&[("one", b"1")])])).await;
    registry.push("a/two:1", &Image::new(&[base, tar(&[("two", b"1")])])).await;
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), &registry.host);
    let (one, two) = (name(&registry.host, "a/one:1"), name(&registry.host, "a/two:1"));
    ensure(&store, &one).await.unwrap();
    let kept = ensure(&store, &two).await.unwrap();
    let keep = BTreeSet::from([kept.digest.clone()]);
    // What was asked for a moment ago may be news to the one who collects.
    assert_eq!(store.gc(&keep).unwrap().images, []);
    let report = store.gc(&keep).unwrap();
    assert_eq!((report.images, report.snapshots), (vec![one.clone()], 1));
    assert!(report.blobs >= 2 && report.freed_bytes > 0);
    assert!(store.lookup(&one).is_none());
    assert_eq!(std::fs::read(kept.layers[0].join("base")).unwrap(), b"1");
    assert_eq!(remains(temp.path(), &["ingest"]), Vec::<String>::new());
    ensure(&store, &one).await.unwrap();
}

#[tokio::test]
async fn a_tag_that_moves_leaves_the_old_image_to_those_who_run_it() {
    let registry = Registry::start();
    registry.push("a/app:1", &Image::new(&[tar(&[("v", b"old")])])).await;
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), &registry.host);
    let app = name(&registry.host, "a/app:1");
    let old = ensure(&store, &app).await.unwrap();
    registry.push("a/app:1", &Image::new(&[tar(&[("v", b"new")])])).await;
    assert_eq!(ensure(&store, &app).await.unwrap().digest, old.digest);
    let new = store.refresh(&app, &Auth::Anonymous).await.unwrap();
    assert_ne!(new.digest, old.digest);
    let keep = BTreeSet::from([old.digest.clone(), new.digest.clone()]);
    store.gc(&keep).unwrap();
    store.gc(&keep).unwrap();
    assert_eq!(std::fs::read(old.layers[0].join("v")).unwrap(), b"old");
    assert_eq!(store.lookup(&app).unwrap().digest, new.digest);
    assert!(store.remove(&app).unwrap());
    assert!(store.lookup(&app).is_none());
    assert!(store.lookup(&app.with_digest(new.digest)).is_some());
}

/// The same image in another index: who runs it knows it by the digest of the first.
#[tokio::test]
async fn an_index_that_moves_leaves_its_digest_to_those_who_run_the_image() {
    let registry = Registry::start();
    let image = busybox();
    registry.push("a/busybox:1", &image).await;
    let index = |note: &str| {
        let architecture = agent_image::Platform::host().architecture;
        let manifest = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": Digest::of(&image.manifest()).as_str(),
            "size": image.manifest().len(),
            "platform": {"os": "linux", "architecture": architecture},
        });
        let note = json!({"note": note});
        json!({"schemaVersion": 2, "annotations": note, "manifests": [manifest]}).to_string()
    };
    let ty = "application/vnd.oci.image.index.v1+json";
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), &registry.host);
    let name = name(&registry.host, "a/busybox:index");
    registry.push_manifest("a/busybox:index", index("one").as_bytes(), ty).await;
    let old = ensure(&store, &name).await.unwrap();
    registry.push_manifest("a/busybox:index", index("two").as_bytes(), ty).await;
    let new = store.refresh(&name, &Auth::Anonymous).await.unwrap();
    assert_eq!(new.digest, old.digest);
    assert_ne!(new.repo_digest, old.repo_digest);
    let keep = BTreeSet::from([old.repo_digest.clone()]);
    store.gc(&keep).unwrap();
    store.gc(&keep).unwrap();
    assert_eq!(std::fs::read(old.layers[1].join("etc/motd")).unwrap(), b"two");
}

#[tokio::test]
async fn a_store_has_one_owner() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), "127.0.0.1:1");
    let err = ImageStore::open(&temp.path().join("store"), config("127.0.0.1:1")).unwrap_err();
    assert!(err.to_string().contains("in use by another process"), "{err}");
    drop(store);
    open(temp.path(), "127.0.0.1:1");
}

struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(path: &'a Path, size: usize) -> Self {
        let data = std::ffi::CString::new(format!("size={size}")).unwrap();
        mount("tmpfs", path, "tmpfs", MountFlags::empty(), Some(data.as_c_str())).unwrap();
        Self(path)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = unmount(self.0, UnmountFlags::DETACH);
    }
}

/// Runs itself once more on what looks like a machine without the package ca-certificates.
#[tokio::test]
async fn without_authorities_plain_http_works_and_https_says_what_is_missing() {
    const THIS: &str = "pull::without_authorities_plain_http_works_and_https_says_what_is_missing";
    const HOST: &str = "TEST_REGISTRY_WITHOUT_AUTHORITIES";
    if let Ok(host) = std::env::var(HOST) {
        return pull_without_authorities(&host).await;
    }
    let registry = Registry::start();
    registry.push("a/busybox:1", &busybox()).await;
    #[expect(clippy::disallowed_methods, reason = "the environment of a process is its own")]
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", THIS, "--nocapture"]).env(HOST, &registry.host);
    // Where the client looks for authorities.
    again.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent");
    let again = tokio::task::spawn_blocking(move || again.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && said.contains("1 passed"), "{said}");
}

async fn pull_without_authorities(host: &str) {
    // The provider is the program's to choose.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), host);
    ensure(&store, &name(host, "a/busybox:1")).await.unwrap();
    let err = ensure(&store, &name("localhost:1", "a/busybox:1")).await.unwrap_err();
    assert!(matches!(err, PullError::NoAuthorities { .. }), "{err}");
    assert!(err.to_string().contains("ca-certificates"), "{err}");
}
