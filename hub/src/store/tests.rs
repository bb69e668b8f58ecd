//! The store that hubs share: what opens it, and what does not.

use hub_storage::{Body, Key, Txn};
use serde_json::json;

use super::*;
use crate::test_etcd::{Signed, etcd, signed};

/// What the test waits for a store that must not open. A hub waits longer: etcd might still come up.
const REFUSED_WITHIN: Duration = Duration::from_secs(3);

fn config(place: &str) -> StoreConfig {
    StoreConfig {
        store: place.to_owned(),
        etcd_ca_file: None,
        etcd_cert_file: None,
        etcd_key_file: None,
    }
}

fn with(place: &str, authority: &Signed, own: Option<&Signed>) -> StoreConfig {
    StoreConfig {
        etcd_ca_file: Some(authority.ca.clone()),
        etcd_cert_file: own.map(|it| it.cert.clone()),
        etcd_key_file: own.map(|it| it.key.clone()),
        ..config(place)
    }
}

fn keys() -> Option<Arc<Sealer>> {
    Some(Arc::new(format!("k {}", "1".repeat(64)).parse().unwrap()))
}

#[tokio::test]
async fn a_shared_store_needs_keys_and_a_place() {
    let ca = Some(PathBuf::from("/nonexistent/ca"));
    for (config, sealer, why) in [
        (config("etcd://127.0.0.1:2379/x"), None, "--encryption-keys"),
        (config("redis://127.0.0.1"), None, "not the place of an etcd"),
        // Whoever names certificates means to be protected by them.
        (
            StoreConfig { etcd_ca_file: ca.clone(), ..config("etcd://127.0.0.1:2379/x") },
            keys(),
            "certificates are for etcds://",
        ),
        (
            StoreConfig { etcd_ca_file: ca, ..config("etcds://127.0.0.1:2379/x") },
            keys(),
            "could not read /nonexistent/ca",
        ),
    ] {
        assert!(config.is_shared());
        let err = config.open(Path::new("/nonexistent"), sealer).await.err().unwrap();
        assert!(format!("{err:#}").contains(why), "{err:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hub_and_etcd_show_each_other_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, others) = (signed(dir.path(), "ours"), signed(dir.path(), "others"));
    let Some(etcd) = etcd(Some(&ours)) else { return };
    let good = with(&etcd.place, &ours, Some(&ours));
    let storage = good.open(dir.path(), keys()).await.unwrap();
    let key = Key::new("core", "configmaps", Some("default"), "a");
    let body = Body::from_value(&json!({"metadata": {"name": "a"}}));
    storage.txn(Txn::create(key.clone(), body)).await.unwrap();
    let another = good.open(dir.path(), keys()).await.unwrap();
    assert!(another.get(&key).is_some());

    // An etcd that is not the one: said at once, and why.
    let untrusting = with(&etcd.place, &others, Some(&ours));
    let refused = untrusting.open(dir.path(), keys());
    let refused = tokio::time::timeout(REFUSED_WITHIN, refused).await.unwrap();
    let refused = format!("{:#}", refused.err().unwrap());
    assert!(refused.contains(&format!("could not reach {}", etcd.place)), "{refused}");
    assert!(refused.contains("invalid peer certificate"), "{refused}");
    // No authority at all is not any authority.
    let nobody = StoreConfig { etcd_ca_file: Some(ours.key.clone()), ..good.clone() };
    let refused = format!("{:#}", nobody.open(dir.path(), keys()).await.err().unwrap());
    assert!(refused.contains("no certificate of an authority"), "{refused}");

    // Who etcd does not know is not let in, whether it says so or goes silent.
    for stranger in [
        with(&etcd.place, &ours, None),
        with(&etcd.place, &ours, Some(&others)),
        config(&etcd.place.replace("etcds", "etcd")),
    ] {
        let opened = stranger.open(dir.path(), keys());
        let opened = tokio::time::timeout(REFUSED_WITHIN, opened).await;
        assert!(!matches!(opened, Ok(Ok(_))), "{stranger:?} was let in");
    }
}
