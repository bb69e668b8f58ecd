//! The members of the etcd cluster: one is spoken to, until it fails.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::{EtcdOpenError, EtcdPlace};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A member that is silent for so long is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// What may be on its way at once: a watch that catches up must not wait for round trips.
const WINDOW: u32 = 8 << 20;

/// Certificates for an etcd that is spoken to with TLS, all PEM.
#[derive(Clone, Default)]
pub struct EtcdTls {
    /// Authorities that may have signed the members' certificates.
    pub ca_pem: Option<Vec<u8>>,
    /// What this hub shows, and its key.
    pub identity_pem: Option<(Vec<u8>, Vec<u8>)>,
}

impl EtcdTls {
    fn has_authority(&self) -> bool {
        const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
        let pem = self.ca_pem.as_deref().unwrap_or_default();
        pem.windows(BEGIN.len()).any(|it| it == BEGIN)
    }
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls").finish_non_exhaustive()
    }
}

/// Connections to all members; they open when they are needed.
pub(super) struct Members {
    channels: Vec<Channel>,
    current: AtomicUsize,
}

impl Members {
    pub(super) fn new(place: &EtcdPlace, tls: &EtcdTls) -> Result<Self, EtcdOpenError> {
        let failed = |err: tonic::transport::Error| EtcdOpenError::Setup {
            place: place.to_string(),
            reason: std::error::Error::source(&err)
                .map_or_else(|| err.to_string(), |source| format!("{err}: {source}")),
        };
        if place.tls && !tls.has_authority() {
            return Err(EtcdOpenError::Setup {
                place: place.to_string(),
                reason: "there is no certificate of an authority that it could be trusted by"
                    .to_owned(),
            });
        }
        let mut channels = Vec::new();
        for uri in place.uris() {
            let mut endpoint = Endpoint::from_shared(uri)
                .map_err(failed)?
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT)
                .keep_alive_while_idle(true)
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW)
                .tcp_nodelay(true);
            if place.tls {
                endpoint = endpoint.tls_config(config(tls)).map_err(failed)?;
            }
            channels.push(endpoint.connect_lazy());
        }
        Ok(Self { channels, current: AtomicUsize::new(0) })
    }

    /// The way to the member that is spoken to.
    pub(super) fn channel(&self) -> Channel {
        let current = self.current.load(Ordering::Relaxed) % self.channels.len();
        self.channels
            .get(current)
            .cloned()
            .expect("a place has members, the index is below their number")
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    /// Speaks to the next one from here on.
    pub(super) fn pass_over(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }
}

fn config(tls: &EtcdTls) -> ClientTlsConfig {
    let mut config = ClientTlsConfig::new();
    if let Some(ca) = &tls.ca_pem {
        config = config.ca_certificate(Certificate::from_pem(ca));
    }
    if let Some((cert, key)) = &tls.identity_pem {
        config = config.identity(Identity::from_pem(cert, key));
    }
    config
}
