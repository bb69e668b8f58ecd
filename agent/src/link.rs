//! The connection to the hub: opened by the node, kept for as long as there is a road, and never
//! needed by anything else on this node.
//!
//! ```text
//! dial ─ (renew) ─ session ─┬─ batches ─> ledger ─> Ack
//!   ^                       ├─ outbox ─> Report, Done ─> outbox
//!   └──── back-off ─────────┴─ streams of the hub (exec, logs, ..)
//! ```

mod dial;
mod session;
pub(crate) mod tls;
mod tokens;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agent_core::ids::PodUid;
use agent_ledger::Ledger;
use agent_sync::stream::StreamRequest;
use futures_util::future::BoxFuture;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::{self, NodeClock},
    desired::DesiredStore,
    outbox::Outbox,
};

pub use dial::DialError;
pub(crate) use dial::{HUB_ADDRESS, exchange, hubs};

/// First pause after a failed connection; doubled up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(200);
/// With the time between two packets of an attempt: a node notices within two seconds that its hub is back.
const MAX_BACKOFF: Duration = Duration::from_secs(1);
/// After so long without a hub, the pause grows further to spare a metered link.
const PATIENCE: u32 = 60;
const PATIENT_BACKOFF: Duration = Duration::from_secs(15);
/// A hub that ends a session sooner has refused it, whatever it says.
const SHORT_SESSION: Duration = Duration::from_secs(10);

/// Serves one stream that the hub opened.
pub type StreamHandler = Arc<
    dyn Fn(StreamRequest, quinn::RecvStream, quinn::SendStream) -> BoxFuture<'static, ()>
        + Send
        + Sync,
>;

/// What the link needs.
#[derive(Clone)]
pub struct LinkConfig {
    pub ledger: Ledger,
    pub desired: Arc<DesiredStore>,
    pub outbox: Arc<Outbox>,
    pub clock: NodeClock,
    pub on_stream: StreamHandler,
    /// Pods that ran to their end: they need no tokens any more.
    pub ended: Arc<dyn Fn() -> BTreeSet<PodUid> + Send + Sync>,
    /// Follow a hub whose storage was replaced.
    pub accept_new_epoch: bool,
}

impl std::fmt::Debug for LinkConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkConfig").finish_non_exhaustive()
    }
}

/// How the link is, for `status`.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct LinkStatus {
    pub hub: String,
    pub connected: bool,
    /// Why not, in words for the operator.
    pub last_error: Option<String>,
    /// Failed attempts since the last connection.
    pub n_failures: u32,
}

/// Talks to the running link.
#[derive(Clone, Debug)]
pub struct LinkHandle {
    status: Arc<Mutex<LinkStatus>>,
}

impl LinkHandle {
    pub fn status(&self) -> LinkStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, change: impl FnOnce(&mut LinkStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Starts the link. A node that never joined a hub has none, and runs all the same.
pub fn spawn(config: LinkConfig, tasks: &TaskTracker, shutdown: CancellationToken) -> LinkHandle {
    let handle = LinkHandle { status: Arc::default() };
    let running = handle.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = run(&config, &running) => {}
            // A session that is cut off here resumes by digest.
            () = shutdown.cancelled() => {}
        }
    });
    handle
}

async fn run(config: &LinkConfig, handle: &LinkHandle) {
    let mut attempts = Attempts::default();
    loop {
        let Attempts { turn, n_failures } = attempts;
        let (err, lasted) = match dial::connect(config, turn, n_failures).await {
            Ok(dialled) => {
                tracing::info!(hub = dialled.hub, "Connected to the hub");
                let since = clock::monotonic();
                handle.update(|it| {
                    *it = LinkStatus {
                        hub: dialled.hub.clone(),
                        connected: true,
                        ..LinkStatus::default()
                    };
                });
                let err = session::run(config, &dialled).await;
                tracing::info!(hub = dialled.hub, reason = err, "Disconnected from the hub");
                (err, clock::monotonic().saturating_sub(since))
            }
            Err(err) => (crate::chain(&err), Duration::ZERO),
        };
        attempts = attempts.after(lasted);
        let n_failures = attempts.n_failures;
        if n_failures == 1 {
            tracing::warn!(error = err, "The hub is out of reach; this node goes on by itself");
        }
        handle.update(|it| {
            it.connected = false;
            it.last_error = Some(err);
            it.n_failures = n_failures;
        });
        tokio::time::sleep(backoff(n_failures)).await;
    }
}

/// How often a hub was tried.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Attempts {
    /// In all. Each takes the next hub, also after a session: who ended it may have lost its store.
    turn: u32,
    /// In vain, since the last session that lasted.
    n_failures: u32,
}

impl Attempts {
    /// After one more, whose session has lasted so long (none: no time).
    ///
    /// A session that lasted makes up for the failures before it; a node that is locked out, or whose
    /// identity another machine uses as well, must not knock five times a second for ever.
    fn after(self, session: Duration) -> Self {
        let before = if session < SHORT_SESSION { self.n_failures } else { 0 };
        Self { turn: self.turn.wrapping_add(1), n_failures: before.saturating_add(1) }
    }
}

fn backoff(n_failures: u32) -> Duration {
    if n_failures > PATIENCE {
        return PATIENT_BACKOFF;
    }
    let doubled = MIN_BACKOFF.saturating_mul(1 << n_failures.saturating_sub(1).min(16));
    doubled.min(MAX_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_that_refuses_is_asked_less_and_less_and_the_next_one_first() {
        let mut attempts = Attempts::default();
        let mut after = |session| {
            attempts = attempts.after(session);
            (attempts.turn, attempts.n_failures)
        };
        assert_eq!(after(Duration::ZERO), (1, 1));
        assert_eq!(after(Duration::from_millis(3)), (2, 2));
        // It ends a session that lasted: the node goes on to the hub after it.
        assert_eq!(after(Duration::from_mins(1)), (3, 1));
        assert_eq!(after(Duration::ZERO), (4, 2));
    }

    #[test]
    fn backoff_grows_to_its_bounds() {
        let at = |n| backoff(n).as_millis();
        assert_eq!(
            [at(1), at(2), at(3), at(5), at(60), at(61)],
            [200, 400, 800, 1000, 1000, 15_000]
        );
    }
}
