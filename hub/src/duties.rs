//! What exactly one hub does for all on the same store: controllers, the scheduler, and the tasks like them.

use std::sync::Arc;

use hub_api::Clock;
use hub_apiserver::{Registry, auth::ServiceAccountTokens};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    bootstrap, certificates,
    election::{Election, Ended},
    front_proxy::FrontProxy,
    legacy_tokens::LegacyTokens,
    pki::Authority,
    runner::{self, RunnerConfig},
};

/// The duties, ready to be begun as often as this hub leads.
#[derive(Clone)]
pub(crate) struct Duties {
    pub(crate) registry: Registry,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) tokens: Arc<ServiceAccountTokens>,
    pub(crate) front_proxy: Arc<FrontProxy>,
    pub(crate) runner: RunnerConfig,
}

impl Duties {
    /// Performs them while this hub leads, until `stop` fires: always, if there is no election. Should they end for any
    /// other reason, `shutdown` is fired: a hub without them would only look alive.
    pub(crate) async fn run(
        self,
        election: Option<Election>,
        stop: CancellationToken,
        shutdown: CancellationToken,
    ) {
        let ended = match election {
            Some(election) => election.run(stop, |term| self.clone().perform(term)).await,
            None => {
                self.perform(stop.child_token()).await;
                if stop.is_cancelled() { Ended::Shutdown } else { Ended::ByItself }
            }
        };
        if ended == Ended::ByItself && !shutdown.is_cancelled() {
            tracing::error!(
                "The controllers stopped; the hub stops, so that it can be started again"
            );
            shutdown.cancel();
        }
    }

    /// Until `term` fires, and what is begun is finished. What is dropped is cut off.
    async fn perform(self, term: CancellationToken) {
        let mut tasks = JoinSet::new();
        let published = (self.front_proxy, self.authority.cert_pem().to_owned());
        tasks.spawn(bootstrap::keep(self.registry.unquestioned(), published, term.clone()));
        tasks.spawn(certificates::run(self.registry.clone(), self.authority.clone(), term.clone()));
        let legacy = LegacyTokens {
            registry: self.registry.clone(),
            tokens: self.tokens,
            ca_pem: self.authority.cert_pem().to_owned(),
        };
        tasks.spawn(legacy.run(term.clone()));
        let (registry, until) = (self.registry.clone(), term.clone());
        tasks.spawn(async move {
            // What was not deleted yet is deleted by who comes next.
            let _stopped: Option<()> =
                until.run_until_cancelled(registry.keep_events_short()).await;
        });
        let runner = runner::spawn(self.registry, self.runner, self.clock, term.clone());
        runner.join().await;
        term.cancel();
        while tasks.join_next().await.is_some() {}
    }
}
