//! What is done to the data of a hub that does not run: made of a backup, or written anew.

use std::{
    fs::{self, File},
    io::{self, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Component, Path},
};

use anyhow::{Context, bail, ensure};
use hub_storage::backup::{self, Restored};

use crate::{
    pki::write_private,
    serve::{AUTHORITY_DIR, STORE_DIR, Sealing},
    store::StoreConfig,
};
#[cfg(feature = "etcd")]
use {crate::secrets::SharedSecrets, hub_storage::Key, std::collections::BTreeSet};

/// Makes the data of a hub of a backup. The backup is checked from end to end before anything is written.
///
/// # Errors
/// The backup is damaged, there is something in the directory, or it cannot be written.
pub fn restore(file: &Path, data_dir: &Path) -> anyhow::Result<Restored> {
    let open = || File::open(file).map(BufReader::new);
    let cannot_read = || format!("could not read {}", file.display());
    let files = backup::verify(&mut open().with_context(cannot_read)?)
        .with_context(|| format!("could not use {}", file.display()))?;
    ensure!(
        is_empty(data_dir)
            .with_context(|| format!("could not look into {}", data_dir.display()))?,
        "{} is not empty: a backup is restored into a new directory only",
        data_dir.display()
    );
    let authority = data_dir.join(AUTHORITY_DIR);
    fs::create_dir_all(&authority)
        .and_then(|()| fs::set_permissions(&authority, fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("could not create {}", authority.display()))?;
    for (name, content) in &files {
        let path = Path::new(name);
        let parts: Vec<Component<'_>> = path.components().collect();
        let [Component::Normal(dir), Component::Normal(_)] = parts.as_slice() else {
            bail!("the backup has a file with a strange name: {name:?}");
        };
        ensure!(*dir == AUTHORITY_DIR, "the backup has a file in a strange place: {name:?}");
        write_private(&data_dir.join(path), content)?;
    }
    let restored =
        backup::restore(&mut open().with_context(cannot_read)?, &data_dir.join(STORE_DIR))?;
    Ok(restored)
}

/// Makes the store that hubs share of a backup, that of a hub alone or of hubs like these. The backup is checked from end
/// to end before anything is written, and needs the keys of the hub that made it.
///
/// # Errors
/// The backup is damaged, there is something in the store, or it cannot be written.
#[cfg(feature = "etcd")]
pub async fn restore_shared(
    file: &Path,
    store: &StoreConfig,
    sealing: &Sealing,
) -> anyhow::Result<Restored> {
    let sealer = sealing.sealer()?;
    let cannot_use = || format!("could not use {}", file.display());
    let input = File::open(file).with_context(|| format!("could not read {}", file.display()))?;
    let loaded = backup::load(&mut BufReader::new(input), sealer.as_deref());
    let backup::Content { files, mut objects } = loaded.with_context(cannot_use)?;
    let known: BTreeSet<Key> = objects.iter().map(|(key, _)| key.clone()).collect();
    let secrets = SharedSecrets::objects_of(&files).with_context(cannot_use)?;
    // Hubs that share a store have them in it already.
    objects.extend(secrets.into_iter().filter(|(key, _)| !known.contains(key)));
    store.restore(objects, sealer).await
}

/// There is no etcd.
///
/// # Errors
/// Always.
#[cfg(not(feature = "etcd"))]
#[expect(clippy::unused_async, reason = "the other one is")]
pub async fn restore_shared(
    _file: &Path,
    store: &StoreConfig,
    _sealing: &Sealing,
) -> anyhow::Result<Restored> {
    bail!("--store {}: this hub was built without etcd", store.store)
}

fn is_empty(dir: &Path) -> io::Result<bool> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(err) => Err(err),
    }
}

/// Copies the store into a fresh file. Returns what was done, in words.
///
/// # Errors
/// A hub has it open, a key is missing, or it cannot be written.
pub fn rewrite(data_dir: &Path, sealing: &Sealing) -> anyhow::Result<String> {
    let options =
        hub_storage::Options { sealer: sealing.sealer()?, ..hub_storage::Options::DEFAULT };
    let report = hub_storage::rewrite(&data_dir.join(STORE_DIR), options)
        .context("could not rewrite the hub's store")?;
    Ok(format!("wrote {} objects, {} of them sealed anew", report.n_entries, report.n_resealed))
}

#[cfg(test)]
mod tests {
    use hub_storage::{Body, Key, Options, SledStorage, Storage, Txn};
    use serde_json::json;

    use super::*;

    fn save(backup: &mut hub_storage::Backup, file: &Path) {
        let bytes: Vec<u8> = std::iter::from_fn(|| backup.next_piece()).flatten().collect();
        agent_disk::replace(file, &bytes).unwrap();
    }

    fn sealing(file: &Path) -> Sealing {
        let encryption_keys = Some(file.to_owned());
        Sealing { encryption_keys, encrypt_resources: vec!["secrets".to_owned()] }
    }

    fn files_in(dir: &Path) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
        let file = |it: fs::DirEntry| {
            (format!("pki/{}", it.file_name().to_str().unwrap()), fs::read(it.path()).unwrap())
        };
        entries.map(file).collect()
    }

    /// A hub that was alone becomes one of several: nothing but its nodes' consent is asked for anew.
    #[cfg(feature = "etcd")]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_backup_of_a_hub_alone_becomes_a_store_that_hubs_share() {
        use crate::{access, pki::Authority, test_etcd};

        let Some(etcd) = test_etcd::etcd(None) else { return };
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let keys = |number: &str| format!("k{number} {}\n", number.repeat(64));
        agent_disk::replace(&path("old-keys"), keys("1").as_bytes()).unwrap();
        agent_disk::replace(&path("both-keys"), (keys("2") + &keys("1")).as_bytes()).unwrap();
        agent_disk::replace(&path("new-keys"), keys("2").as_bytes()).unwrap();
        let old = sealing(&path("old-keys")).sealer().unwrap();
        let options = Options { sealer: old, ..Options::DEFAULT };
        let (alone, _) = SledStorage::open(&path("alone"), options).unwrap();
        let secret = Key::new("core", "secrets", Some("default"), "s");
        let body = Body::from_value(&json!({"metadata": {"name": "s"}, "data": {"a": "aHVzaA=="}}));
        alone.txn(Txn::create(secret.clone(), body)).await.unwrap();
        let now = "2026-11-20T08:00:00Z".parse().unwrap();
        let authority = Authority::load_or_create(&path("pki"), now).unwrap();
        let token_keys = access::token_keys(&path("pki"), now).unwrap();
        let file = path("backup");
        save(&mut alone.backup(&files_in(&path("pki"))), &file);

        let store = StoreConfig {
            store: etcd.place.clone(),
            etcd_ca_file: None,
            etcd_cert_file: None,
            etcd_key_file: None,
        };
        // Without the key of the hub before, nothing is written.
        let locked = restore_shared(&file, &store, &sealing(&path("new-keys"))).await;
        let locked = format!("{:#}", locked.unwrap_err());
        assert!(locked.contains("could not open core/secrets/default/s"), "{locked}");
        let both = sealing(&path("both-keys"));
        let restored = restore_shared(&file, &store, &both).await.unwrap();
        assert_ne!(restored.epoch, alone.epoch());
        let again = format!("{:#}", restore_shared(&file, &store, &both).await.unwrap_err());
        assert!(again.contains("is not empty"), "{again}");

        // From here on the new key is enough.
        let sealer = sealing(&path("new-keys")).sealer().unwrap();
        let shared = store.open(&path("hub"), sealer).await.unwrap();
        assert_eq!(shared.epoch(), restored.epoch);
        assert_eq!(shared.get(&secret).unwrap().value()["data"]["a"], "aHVzaA==");
        let secrets = SharedSecrets::new(shared.clone());
        let name = crate::secrets::AUTHORITY;
        let found = secrets.authority(name, &path("hub/pki"), now).await.unwrap();
        assert_eq!(found.cert_pem(), authority.cert_pem());
        let ids = |keys: &[hub_apiserver::auth::TokenKey]| -> Vec<String> {
            keys.iter().map(|it| it.id().to_owned()).collect()
        };
        assert_eq!(ids(&secrets.token_keys(now).await.unwrap()), ids(&token_keys));

        // And from hubs like these to others.
        save(&mut shared.backup(&secrets.files().unwrap()), &file);
        let place = etcd.place.replace("fleet", "second");
        let second = StoreConfig { store: place, ..store };
        restore_shared(&file, &second, &sealing(&path("new-keys"))).await.unwrap();
        let sealer = sealing(&path("new-keys")).sealer().unwrap();
        let second = SharedSecrets::new(second.open(&path("hub"), sealer).await.unwrap());
        let found = second.authority(name, &path("hub/pki"), now).await.unwrap();
        assert_eq!(found.cert_pem(), authority.cert_pem());
    }

    #[tokio::test]
    async fn a_backup_becomes_a_hub_in_a_new_directory_only() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        let (storage, _) = SledStorage::open(&old, Options::DEFAULT).unwrap();
        let key = Key::new("core", "pods", Some("default"), "a");
        let body = Body::from_value(&json!({"x": 1}));
        storage.txn(Txn::create(key.clone(), body)).await.unwrap();
        let file = dir.path().join("backup");
        let save = |name: &str| {
            save(&mut storage.backup(&[(name.to_owned(), b"secret".to_vec())]), &file);
        };
        for strange in ["pki/../../x", "/etc/x", "store/db", "pki"] {
            save(strange);
            let target = dir.path().join(strange.replace('/', "-"));
            assert!(restore(&file, &target).is_err(), "{strange}");
            assert!(!target.join("store").exists(), "{strange}");
        }
        save("pki/ca.key");
        let restored = restore(&file, &new).unwrap();
        assert_eq!(restored.n_objects, 1);
        assert_eq!(fs::read(new.join("pki/ca.key")).unwrap(), b"secret");
        let mode = fs::metadata(new.join("pki/ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (again, report) = SledStorage::open(&new.join("store"), Options::DEFAULT).unwrap();
        assert!(again.get(&key).is_some() && !report.new_epoch);
        assert_ne!(again.epoch(), storage.epoch());
        assert!(format!("{:#}", restore(&file, &new).unwrap_err()).contains("not empty"));
    }
}
