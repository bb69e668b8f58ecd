//! What every other part of a hub stands on: its store, its time, and its secrets.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use hub_api::Clock;
use hub_apiserver::auth::TokenKey;
use hub_storage::Storage;
use jiff::Timestamp;

use super::{AUTHORITY_DIR, ServeConfig};
use crate::{
    access,
    clock::{FlooredClock, SystemClock},
    front_proxy::{self, FrontProxy},
    pki::Authority,
    secrets::{self, SharedSecrets},
};

pub(super) struct Ground {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) clock: Arc<FlooredClock<SystemClock>>,
    /// Where the secrets are that all hubs on the store have in common; none if this hub is alone.
    pub(super) shared: Option<SharedSecrets>,
    pub(super) authority: Arc<Authority>,
    pub(super) front_proxy: Arc<FrontProxy>,
    /// The first of them signs.
    pub(super) token_keys: Vec<TokenKey>,
}

impl Ground {
    /// Opens the store, and loads the secrets; what is missing is made.
    ///
    /// # Errors
    /// Something cannot be read or made; the message says what.
    pub(super) async fn open(config: &ServeConfig) -> anyhow::Result<Self> {
        let data_dir = config.data_dir.as_path();
        std::fs::create_dir_all(data_dir).with_context(|| {
            format!("could not create the data directory {}", data_dir.display())
        })?;
        config.election.check()?;
        let storage = config.store.open(data_dir, config.sealing.sealer()?).await?;
        // What lies beside the store is this process's from here on.
        let clock = FlooredClock::open(SystemClock, &data_dir.join("time"))
            .context("could not open the floor of the hub's time")?;
        let shared = config.store.is_shared().then(|| SharedSecrets::new(storage.clone()));
        let now = clock.now();
        let (authority, proxy, token_keys) = secrets(shared.as_ref(), data_dir, now).await?;
        Ok(Self {
            storage,
            clock: Arc::new(clock),
            shared,
            authority: Arc::new(authority),
            front_proxy: Arc::new(FrontProxy::new(proxy, now)?),
            token_keys,
        })
    }

    /// The clock, as the other parts take it.
    pub(super) fn time(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }
}

/// The authority of clients and nodes, that of aggregated APIs, and the keys of tokens.
async fn secrets(
    shared: Option<&SharedSecrets>,
    data_dir: &Path,
    now: Timestamp,
) -> anyhow::Result<(Authority, Authority, Vec<TokenKey>)> {
    let dir = data_dir.join(AUTHORITY_DIR);
    let proxy_dir = dir.join(front_proxy::DIR);
    Ok(match shared {
        Some(shared) => (
            shared.authority(secrets::AUTHORITY, &dir, now).await?,
            shared.authority(secrets::FRONT_PROXY, &proxy_dir, now).await?,
            shared.token_keys(now).await?,
        ),
        None => (
            Authority::load_or_create(&dir, now)?,
            Authority::load_or_create(&proxy_dir, now)?,
            access::token_keys(&dir, now)?,
        ),
    })
}
