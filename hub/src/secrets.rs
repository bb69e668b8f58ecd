//! What all hubs on one store must share and nobody else may know: the authority, and the keys of tokens.
//!
//! They lie in the store as objects that no API shows, sealed. The hub that starts first makes them; of several that
//! start together the store picks one. A hub that has an authority in its data directory brings it along.

use std::{path::Path, sync::Arc};

use anyhow::{Context, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use hub_apiserver::auth::{ServiceAccountTokens, TokenKey};
use hub_storage::{Body, Entry, Key, ListRequest, Prefix, Storage, Txn, TxnError};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{access, pki::Authority, serve::AUTHORITY_DIR};

/// The resource under which they are sealed, as in `--encrypt-resources`.
pub(crate) const RESOURCE: &str = "hubsecrets.outbye.dev";
const GROUP: &str = "outbye.dev";
const PLURAL: &str = "hubsecrets";
/// The authority of hubs, nodes and clients.
pub(crate) const AUTHORITY: &str = "authority";
/// That which signs what the hubs show to aggregated APIs.
pub(crate) const FRONT_PROXY: &str = "front-proxy";

/// Secrets in a store that hubs share.
#[derive(Clone)]
pub(crate) struct SharedSecrets {
    storage: Arc<dyn Storage>,
}

impl SharedSecrets {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage }
    }

    /// An authority of all hubs; made, or brought along from `dir`, if there is none yet.
    pub(crate) async fn authority(
        &self,
        name: &str,
        dir: &Path,
        now: Timestamp,
    ) -> anyhow::Result<Authority> {
        let own = if dir.join("ca.crt").exists() {
            Some(Authority::load_or_create(dir, now)?)
        } else {
            None
        };
        let make = || -> anyhow::Result<Value> {
            let (cert, key) = match &own {
                Some(own) => own.to_pem(),
                None => Authority::make(now)?,
            };
            Ok(json!({"cert": cert, "key": key}))
        };
        let found = self.find_or_make(name, make).await?;
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        let authority = Authority::from_pem(&text("cert"), &text("key"))
            .context("could not use the authority in the store")?;
        if let Some(own) = own {
            ensure!(
                own.cert_pem() == authority.cert_pem(),
                "the store has another authority than {}: this hub was another's; give it a new --data-dir",
                dir.display()
            );
        }
        Ok(authority)
    }

    /// The keys of tokens, the newest first; a new one is made when the newest is too old.
    pub(crate) async fn token_keys(&self, now: Timestamp) -> anyhow::Result<Vec<TokenKey>> {
        let newest = self.stored_keys()?.first().map(|(time, _)| *time);
        if !newest.is_some_and(|time| access::is_young(time, now)) {
            let time = now.as_second().max(0);
            let make = || Ok(json!({ "pkcs8": STANDARD.encode(TokenKey::generate()?) }));
            self.find_or_make(&access::key_name(time), make).await?;
        }
        self.keys()
    }

    fn keys(&self) -> anyhow::Result<Vec<TokenKey>> {
        let stored = self.stored_keys()?.into_iter().take(access::MAX_KEYS);
        let read = |(time, bytes): (i64, Vec<u8>)| {
            TokenKey::from_pkcs8(&bytes).with_context(|| {
                format!("could not use the key {} in the store", access::key_name(time))
            })
        };
        stored.map(read).collect()
    }

    /// Time of making and content of the keys, the newest first.
    fn stored_keys(&self) -> anyhow::Result<Vec<(i64, Vec<u8>)>> {
        let mut keys = Vec::new();
        for entry in self.entries()? {
            let Some(time) = access::time_of(entry.key.name()) else { continue };
            let text = entry.decode()["pkcs8"].as_str().unwrap_or_default().to_owned();
            let bytes = STANDARD.decode(text).context("a key in the store is malformed")?;
            keys.push((time, bytes));
        }
        keys.sort_unstable_by_key(|(time, _)| std::cmp::Reverse(*time));
        Ok(keys)
    }

    /// Takes the keys that other hubs make, as they come.
    pub(crate) async fn follow(
        self,
        tokens: Arc<ServiceAccountTokens>,
        shutdown: CancellationToken,
    ) {
        let prefix = Prefix::all(GROUP, PLURAL);
        let following = async {
            loop {
                // In this order: what comes in after the look at the keys is an event.
                let watch = self.storage.watch(&prefix, self.storage.revision());
                match self.keys() {
                    Ok(keys) => tokens.replace_keys(keys),
                    Err(err) => {
                        tracing::error!(error = format!("{err:#}"), "Could not read tokens' keys");
                    }
                }
                // Left behind or closed: looked at again, or stopped.
                let Ok(mut watch) = watch else {
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    continue;
                };
                let _event = watch.next().await;
            }
        };
        let _stopped: Option<()> = shutdown.run_until_cancelled(following).await;
    }

    /// The same as files, as a hub that is alone has them: for backups.
    pub(crate) fn files(&self) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        for entry in self.entries()? {
            let value = entry.decode();
            // That of aggregated APIs is made anew and published by whoever finds none.
            if entry.key.name() == AUTHORITY {
                for (name, field) in [("ca.crt", "cert"), ("ca.key", "key")] {
                    let text = value[field].as_str().unwrap_or_default();
                    files.push((format!("{AUTHORITY_DIR}/{name}"), text.as_bytes().to_vec()));
                }
            }
        }
        for (time, bytes) in self.stored_keys()? {
            files.push((format!("{AUTHORITY_DIR}/{}", access::key_name(time)), bytes));
        }
        Ok(files)
    }

    /// The way back: files of a backup as they lie in a store that hubs share.
    ///
    /// # Errors
    /// The authority is not among them, or one of them is none of a hub's.
    #[cfg(feature = "etcd")]
    pub(crate) fn objects_of(files: &[(String, Vec<u8>)]) -> anyhow::Result<Vec<(Key, Body)>> {
        let in_dir =
            |name: &str| name.strip_prefix(AUTHORITY_DIR)?.strip_prefix('/').map(str::to_owned);
        let text = |wanted: &str| {
            let file = files.iter().find(|(name, _)| in_dir(name).as_deref() == Some(wanted));
            let (_, content) = file.with_context(|| format!("the backup has no {wanted}"))?;
            std::str::from_utf8(content).with_context(|| format!("could not use {wanted}"))
        };
        let (cert, key) = (text("ca.crt")?, text("ca.key")?);
        Authority::from_pem(cert, key).context("could not use the authority in the backup")?;
        let object = |name: &str, value: &Value| {
            (Key::new(GROUP, PLURAL, None, name), Body::from_value(value))
        };
        let mut objects = vec![object(AUTHORITY, &json!({"cert": cert, "key": key}))];
        for (name, content) in files {
            let Some(name) = in_dir(name).filter(|it| access::time_of(it).is_some()) else {
                continue;
            };
            TokenKey::from_pkcs8(content).with_context(|| format!("could not use {name}"))?;
            objects.push(object(&name, &json!({ "pkcs8": STANDARD.encode(content) })));
        }
        Ok(objects)
    }

    fn entries(&self) -> anyhow::Result<Vec<Arc<Entry>>> {
        let list = self.storage.list(&ListRequest::all(Prefix::all(GROUP, PLURAL)));
        Ok(list.context("could not read the hubs' secrets")?.entries)
    }

    async fn find_or_make(
        &self,
        name: &str,
        make: impl FnOnce() -> anyhow::Result<Value>,
    ) -> anyhow::Result<Value> {
        let key = Key::new(GROUP, PLURAL, None, name);
        if let Some(found) = self.storage.get(&key) {
            return Ok(found.decode());
        }
        let made = make()?;
        match self.storage.txn(Txn::create(key, Body::from_value(&made))).await {
            Ok(_) => Ok(made),
            // Another hub was first.
            Err(TxnError::Conflict { current: Some(current), .. }) => Ok(current.decode()),
            Err(err) => Err(err).context("could not store the hubs' secrets"),
        }
    }
}
