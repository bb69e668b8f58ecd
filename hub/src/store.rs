//! Where the hub's objects lie: in a store of its own on the local disk, or in an etcd that several hubs share.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
#[cfg(feature = "etcd")]
use hub_storage::{Body, Key, backup::Restored};
use hub_storage::{Sealer, SledStorage, Storage};

use crate::serve::STORE_DIR;

/// A hub that was just killed still has its store for a moment.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Flags that say where the store is.
#[derive(Clone, Debug, clap::Args)]
pub struct StoreConfig {
    /// Where objects lie: `local` for the data directory, or an etcd that several hubs share, as
    /// etcd://HOST:PORT,HOST:PORT/PREFIX, with TLS etcds://
    #[arg(long, default_value = "local")]
    pub store: String,
    /// Authorities of etcd's certificates, PEM; the system's if absent
    #[arg(long)]
    pub etcd_ca_file: Option<PathBuf>,
    /// Certificate with which the hub shows itself to etcd, PEM
    #[arg(long, requires = "etcd_key_file")]
    pub etcd_cert_file: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, requires = "etcd_cert_file")]
    pub etcd_key_file: Option<PathBuf>,
}

impl StoreConfig {
    /// Whether other hubs may use the same store.
    pub fn is_shared(&self) -> bool {
        self.store != "local"
    }

    /// Opens the store.
    ///
    /// # Errors
    /// It is out of reach, or cannot be read; the message says what to do.
    pub(crate) async fn open(
        &self,
        data_dir: &Path,
        sealer: Option<Arc<Sealer>>,
    ) -> anyhow::Result<Arc<dyn Storage>> {
        if self.is_shared() {
            return self.open_shared(sealer).await;
        }
        let (storage, report) = open_local(&data_dir.join(STORE_DIR), sealer).await?;
        if report.disk.lost_data() || report.n_unreadable > 0 {
            tracing::error!(
                healed = ?report.disk.healed,
                unreadable = report.n_unreadable,
                left = report.n_entries,
                "The hub's store was damaged and has lost objects: nodes go on with what they know and \
                 do not follow this hub, until their agents are started with --accept-new-epoch"
            );
        }
        if report.n_resealed > 0 {
            tracing::info!(n_resealed = report.n_resealed, "Sealed objects as the keys say");
        }
        Ok(storage)
    }

    #[cfg(feature = "etcd")]
    async fn open_shared(&self, sealer: Option<Arc<Sealer>>) -> anyhow::Result<Arc<dyn Storage>> {
        let place: hub_storage::EtcdPlace = self.store.parse()?;
        let options = self.options(&place, sealer)?;
        let (storage, report) = hub_storage::EtcdStorage::open(&place, options)
            .await
            .context("could not open the hubs' store")?;
        tracing::info!(%place, ?report, "Opened the hubs' store");
        Ok(storage)
    }

    #[cfg(not(feature = "etcd"))]
    #[expect(clippy::unused_async, reason = "the other one is")]
    async fn open_shared(&self, _sealer: Option<Arc<Sealer>>) -> anyhow::Result<Arc<dyn Storage>> {
        anyhow::bail!("--store {}: this hub was built without etcd", self.store)
    }

    /// Begins a new history in an etcd that was restored. Returns what was done, in words.
    ///
    /// # Errors
    /// The store is not an etcd with a history, or out of reach.
    #[cfg(feature = "etcd")]
    pub async fn new_epoch(&self) -> anyhow::Result<String> {
        let place: hub_storage::EtcdPlace = self.store.parse()?;
        let epoch = hub_storage::new_epoch(&place, &self.tls(&place)?).await?;
        Ok(format!("{place} has the epoch {epoch}"))
    }

    /// Nothing to begin: there is no etcd.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(feature = "etcd"))]
    #[expect(clippy::unused_async, reason = "the other one is")]
    pub async fn new_epoch(&self) -> anyhow::Result<String> {
        anyhow::bail!("this hub was built without etcd")
    }

    /// Begins the hubs' store with these objects, in an etcd that has nothing in this place.
    ///
    /// # Errors
    /// There is something already, or etcd is out of reach or refuses.
    #[cfg(feature = "etcd")]
    pub(crate) async fn restore(
        &self,
        objects: Vec<(Key, Body)>,
        sealer: Option<Arc<Sealer>>,
    ) -> anyhow::Result<Restored> {
        let place: hub_storage::EtcdPlace = self.store.parse()?;
        let options = self.options(&place, sealer)?;
        Ok(hub_storage::restore_etcd(&place, &options, objects).await?)
    }

    #[cfg(feature = "etcd")]
    fn options(
        &self,
        place: &hub_storage::EtcdPlace,
        sealer: Option<Arc<Sealer>>,
    ) -> anyhow::Result<hub_storage::EtcdOptions> {
        anyhow::ensure!(
            sealer.is_some(),
            "--store {place} needs --encryption-keys: the hubs' authority lies in the store, encrypted. Make a key \
             with `outbye-hub storage new-key NAME`, and give every hub the same file"
        );
        let tls = self.tls(place)?;
        Ok(hub_storage::EtcdOptions { sealer, tls, ..hub_storage::EtcdOptions::new() })
    }

    #[cfg(feature = "etcd")]
    fn tls(&self, place: &hub_storage::EtcdPlace) -> anyhow::Result<hub_storage::EtcdTls> {
        if !place.tls {
            anyhow::ensure!(
                self.etcd_ca_file.is_none() && self.etcd_cert_file.is_none(),
                "--store {place} is spoken to without TLS, certificates are for etcds://"
            );
            return Ok(hub_storage::EtcdTls::default());
        }
        let read = |path: &Path| {
            std::fs::read(path).with_context(|| format!("could not read {}", path.display()))
        };
        let ca_pem = match &self.etcd_ca_file {
            Some(path) => read(path)?,
            None => read(Path::new(crate::access::SYSTEM_AUTHORITIES))
                .context("say with --etcd-ca-file who signs etcd's certificates")?,
        };
        let identity_pem = match (&self.etcd_cert_file, &self.etcd_key_file) {
            (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
            _ => None,
        };
        Ok(hub_storage::EtcdTls { ca_pem: Some(ca_pem), identity_pem })
    }
}

/// Opens the store on the disk. The hub before this one may still be on its way out.
async fn open_local(
    dir: &Path,
    sealer: Option<Arc<Sealer>>,
) -> anyhow::Result<(Arc<SledStorage>, hub_storage::OpenReport)> {
    let options = hub_storage::Options { sealer, ..hub_storage::Options::DEFAULT };
    let mut waited = Duration::ZERO;
    loop {
        match SledStorage::open(dir, options.clone()) {
            Err(hub_storage::OpenError::Disk(agent_disk::OpenError::InUse { .. }))
                if waited < LOCK_TIMEOUT =>
            {
                if waited.is_zero() {
                    tracing::warn!(
                        dir = %dir.display(),
                        timeout = ?LOCK_TIMEOUT,
                        "Another hub has the store open; waiting for its end"
                    );
                }
                tokio::time::sleep(LOCK_PAUSE).await;
                waited += LOCK_PAUSE;
            }
            opened => {
                return opened.with_context(|| match waited {
                    Duration::ZERO => "could not open the hub's store".to_owned(),
                    _ => format!("could not open the hub's store within {waited:?}"),
                });
            }
        }
    }
}

#[cfg(feature = "etcd")]
#[cfg(test)]
mod tests;
