//! Renews the hub's own certificates while it runs: the server's and the administrator's, at two thirds of their life.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use hub_api::Clock;
use hub_apiserver::ServerCertificate;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{
    front_proxy::FrontProxy,
    kubeconfig,
    pki::{Authority, SERVER_LIFE, write_private},
};

/// The clock is looked at this often, for it can jump; what fails is tried again then.
const LOOK_INTERVAL: Duration = Duration::from_mins(10);

/// The certificates that this hub signs for itself.
pub(crate) struct OwnCertificates {
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
    /// In the server's certificate.
    names: Vec<String>,
    /// In the kubeconfig.
    address: SocketAddr,
    kubeconfig: PathBuf,
    shown: Arc<ServerCertificate>,
    front_proxy: Option<Arc<FrontProxy>>,
    issued: Timestamp,
}

impl OwnCertificates {
    /// Signs them, and writes the kubeconfig.
    pub(crate) fn issue(
        authority: Arc<Authority>,
        clock: Arc<dyn Clock>,
        names: Vec<String>,
        address: SocketAddr,
        kubeconfig: PathBuf,
    ) -> anyhow::Result<Self> {
        let issued = clock.now();
        let (chain, key) = authority.issue_server(&names, issued)?.to_der()?;
        let shown = ServerCertificate::new(chain, key)?;
        let this =
            Self { authority, clock, names, address, kubeconfig, shown, front_proxy: None, issued };
        this.write_kubeconfig(issued)?;
        Ok(this)
    }

    /// Renews what the hub shows to servers of aggregated APIs as well. It must be as old as the rest.
    #[must_use]
    pub(crate) fn with_front_proxy(mut self, front_proxy: Arc<FrontProxy>) -> Self {
        self.front_proxy = Some(front_proxy);
        self
    }

    /// What servers are to show.
    pub(crate) fn shown(&self) -> Arc<ServerCertificate> {
        self.shown.clone()
    }

    /// Renews until `shutdown` fires.
    pub(crate) async fn renew(mut self, shutdown: CancellationToken) {
        loop {
            let pause = tokio::time::sleep(LOOK_INTERVAL);
            if shutdown.run_until_cancelled(pause).await.is_none() {
                return;
            }
            match self.renew_if_due() {
                Ok(true) => tracing::info!("Renewed the hub's certificate and the administrator's"),
                Ok(false) => {}
                Err(err) => {
                    tracing::error!(error = format!("{err:#}"), "Could not renew a certificate");
                }
            }
        }
    }

    /// Whether anything was renewed.
    fn renew_if_due(&mut self) -> anyhow::Result<bool> {
        let now = self.clock.now();
        if !is_due(self.issued, now) {
            return Ok(false);
        }
        let (chain, key) = self.authority.issue_server(&self.names, now)?.to_der()?;
        self.shown.replace(chain, key)?;
        if let Some(front_proxy) = &self.front_proxy {
            front_proxy.renew(now)?;
        }
        self.write_kubeconfig(now)?;
        self.issued = now;
        Ok(true)
    }

    fn write_kubeconfig(&self, now: Timestamp) -> anyhow::Result<()> {
        let admin = self.authority.issue_admin(now)?;
        let server = format!("https://{}", self.address);
        let config = kubeconfig::admin(&server, self.authority.cert_pem(), &admin);
        write_private(&self.kubeconfig, serde_json::to_string_pretty(&config)?.as_bytes())
            .context("could not write the administrator's kubeconfig")
    }
}

/// At two thirds of the life.
fn is_due(issued: Timestamp, now: Timestamp) -> bool {
    let age = now.duration_since(issued);
    age.as_secs() >= i64::try_from(SERVER_LIFE.as_secs() / 3 * 2).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
        }
    }

    #[test]
    fn certificates_are_renewed_at_two_thirds_of_their_life_and_not_before() {
        const START: i64 = 1_800_000_000;
        const DAY: i64 = 86_400;
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hand(AtomicI64::new(START)));
        let authority = Authority::load_or_create(&dir.path().join("pki"), clock.now()).unwrap();
        let path = dir.path().join("admin.kubeconfig");
        let address = "127.0.0.1:6443".parse().unwrap();
        let names = vec!["localhost".to_owned()];
        let mut own =
            OwnCertificates::issue(authority.into(), clock.clone(), names, address, path.clone())
                .unwrap();
        let first = std::fs::read(&path).unwrap();
        for (days, renewed) in [(0, false), (243, false), (244, true), (245, false), (488, true)] {
            clock.0.store(START + days * DAY, Ordering::Relaxed);
            assert_eq!(own.renew_if_due().unwrap(), renewed, "day {days}");
        }
        assert_ne!(std::fs::read(&path).unwrap(), first);
    }
}
