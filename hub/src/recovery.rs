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
};

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
            let mut backup = storage.backup(&[(name.to_owned(), b"secret".to_vec())]);
            let bytes: Vec<u8> = std::iter::from_fn(|| backup.next_piece()).flatten().collect();
            agent_disk::replace(&file, &bytes).unwrap();
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
