//! Which of the hubs on one store runs the controllers: the one that holds a Lease.
//!
//! ```text
//!   waiting ── nobody renewed it for its duration, or it is ours ──> leading ── not renewed in time ──> stop, wait again
//! ```
//! The algorithm and its times are those of Kubernetes' own components
//! (<https://pkg.go.dev/k8s.io/client-go/tools/leaderelection>). How long a Lease was not renewed is counted by the own
//! clock from when its last renewal was seen here: hubs' clocks need not agree. A leader that could not renew stops its
//! work before anybody else may take the Lease: renewals count from when they were begun, and the work is cut off
//! while the Lease still runs.

use std::{sync::Arc, time::Duration};

use hub_api::{Clock, Resource, Status, object};
use hub_apiserver::{Registry, WriteOptions};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::clock::monotonic;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "outbye-hub-controllers";

/// How long a leader lasts, as flags.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ElectionConfig {
    /// With --store etcd: the controllers of a hub that is not heard of move to another after so many seconds
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(3..=3600))]
    pub leader_elect_lease_duration: u32,
    /// A hub whose lease is not renewed in so many seconds stops its controllers; at most two thirds of the duration
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=3600))]
    pub leader_elect_renew_deadline: u32,
    /// Between two attempts to get or renew the lease, in seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub leader_elect_retry_period: u32,
}

impl ElectionConfig {
    /// Whether the times fit together.
    ///
    /// # Errors
    /// They do not; says how they must be.
    pub fn check(&self) -> Result<(), ElectionConfigError> {
        let (duration, deadline) =
            (self.leader_elect_lease_duration, self.leader_elect_renew_deadline);
        if deadline * 3 > duration * 2 {
            return Err(ElectionConfigError::Deadline { duration, deadline });
        }
        let retry = self.leader_elect_retry_period;
        if retry >= deadline {
            return Err(ElectionConfigError::Retry { deadline, retry });
        }
        Ok(())
    }

    fn duration(&self) -> Duration {
        Duration::from_secs(self.leader_elect_lease_duration.into())
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(self.leader_elect_renew_deadline.into())
    }

    fn retry(&self) -> Duration {
        Duration::from_secs(self.leader_elect_retry_period.into())
    }

    /// What a leader that lost the Lease has to stop its work.
    fn grace(&self) -> Duration {
        // A little less than there is: others may be a little early.
        self.duration().saturating_sub(self.deadline()).mul_f32(0.8)
    }
}

/// Times that do not fit together.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ElectionConfigError {
    #[error(
        "--leader-elect-renew-deadline {deadline} is more than two thirds of --leader-elect-lease-duration {duration}"
    )]
    Deadline { duration: u32, deadline: u32 },
    #[error(
        "--leader-elect-retry-period {retry} is not less than --leader-elect-renew-deadline {deadline}"
    )]
    Retry { deadline: u32, retry: u32 },
}

/// What is known of the Lease.
#[derive(Debug)]
struct Observer {
    identity: String,
    duration: Duration,
    /// The Lease as it was last seen to change, and when that was by the own clock.
    seen: Option<(Value, Duration)>,
}

/// What to do about the Lease.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Step {
    Create,
    /// Write it: it is ours, or may be taken.
    Write {
        transitions: i64,
        /// When it was taken, if it is ours already.
        acquired: Option<String>,
    },
    Wait,
}

impl Observer {
    /// Looks at the Lease as it is at `now`.
    fn look(&mut self, lease: Option<&Value>, now: Duration) -> Step {
        let Some(lease) = lease else {
            self.seen = None;
            return Step::Create;
        };
        let spec = lease.get("spec").cloned().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != spec) {
            self.seen = Some((spec.clone(), now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        let holder = object::text(lease, "spec.holderIdentity");
        let transitions = object::int(lease, "spec.leaseTransitions").unwrap_or_default();
        if holder == self.identity {
            let acquired = object::text(lease, "spec.acquireTime").to_owned();
            return Step::Write { transitions, acquired: Some(acquired) };
        }
        let seconds = object::int(lease, "spec.leaseDurationSeconds");
        let seconds = seconds.and_then(|it| u64::try_from(it).ok());
        // A holder with a longer Lease is left alone for as long as it says.
        let duration = seconds.map_or(self.duration, Duration::from_secs);
        if !holder.is_empty() && now < since + duration {
            return Step::Wait;
        }
        Step::Write { transitions: transitions.saturating_add(1), acquired: None }
    }
}

/// Runs what only one hub may run.
pub(crate) struct Election {
    registry: Registry,
    clock: Arc<dyn Clock>,
    config: ElectionConfig,
    observer: Observer,
}

/// How a term ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    /// The hub stops.
    Shutdown,
    /// The work ended by itself: the hub cannot go on.
    ByItself,
}

impl Election {
    pub(crate) fn new(
        registry: Registry,
        clock: Arc<dyn Clock>,
        config: ElectionConfig,
        identity: String,
    ) -> Self {
        let observer = Observer { identity, duration: config.duration(), seen: None };
        Self { registry, clock, config, observer }
    }

    /// Waits for the Lease, runs `work` while it is ours, and again, until `shutdown` fires or the work ends by itself.
    /// The work stops when its token fires; what does not stop in time is dropped.
    pub(crate) async fn run<W>(
        mut self,
        shutdown: CancellationToken,
        mut work: impl FnMut(CancellationToken) -> W,
    ) -> Ended
    where
        W: Future<Output = ()> + Send + 'static,
    {
        loop {
            let Some(renewed) = shutdown.run_until_cancelled(self.acquire()).await else {
                return Ended::Shutdown;
            };
            tracing::info!(identity = self.observer.identity, "This hub runs the controllers");
            let stop = CancellationToken::new();
            let mut working = Box::pin(work(stop.clone()));
            // Each arm ends the term: what is dropped is looked at anew in the next.
            let ended = tokio::select! {
                () = &mut working => Some(Ended::ByItself),
                () = shutdown.cancelled() => Some(Ended::Shutdown),
                () = self.keep(renewed) => None,
            };
            if ended == Some(Ended::ByItself) {
                return Ended::ByItself;
            }
            stop.cancel();
            if tokio::time::timeout(self.config.grace(), working).await.is_err() {
                tracing::warn!("Cut controllers off that did not stop in time");
            }
            if ended.is_some() {
                self.release().await;
                return Ended::Shutdown;
            }
            tracing::warn!("Lost the lease of the controllers: another hub may run them");
        }
    }

    /// Gets the Lease; the answer is when that was begun.
    async fn acquire(&mut self) -> Duration {
        loop {
            let begun = monotonic();
            match self.attempt().await {
                Ok(true) => return begun,
                Ok(false) => {}
                Err(status) if status.code == 409 => {}
                Err(status) => {
                    tracing::warn!(error = %status, "Could not get the lease of the controllers");
                }
            }
            tokio::time::sleep(self.config.retry().mul_f32(jitter())).await;
        }
    }

    /// Renews the Lease; returns when it was not renewed in time.
    async fn keep(&mut self, mut renewed: Duration) {
        loop {
            tokio::time::sleep(self.config.retry()).await;
            let begun = monotonic();
            let left = (renewed + self.config.deadline()).saturating_sub(begun);
            match tokio::time::timeout(left, self.attempt()).await {
                Ok(Ok(true)) => renewed = begun,
                // Another hub has it.
                Ok(Ok(false)) => return,
                Ok(Err(status)) => {
                    tracing::warn!(error = %status, "Could not renew the lease of the controllers");
                    if monotonic() >= renewed + self.config.deadline() {
                        return;
                    }
                }
                Err(_elapsed) => return,
            }
        }
    }

    /// One attempt to get or renew the Lease. Whether it is ours.
    async fn attempt(&mut self) -> Result<bool, Status> {
        let leases = leases()?;
        let found = match self.registry.get(leases, Some(NAMESPACE), NAME) {
            Ok(found) => Some(found),
            Err(status) if status.code == 404 => None,
            Err(status) => return Err(status),
        };
        let step = self.observer.look(found.as_ref().map(|it| it.value()).as_deref(), monotonic());
        let now = self.clock.now();
        match step {
            Step::Wait => return Ok(false),
            Step::Create => {
                let lease = self.lease(0, None, now);
                self.registry.create(leases, Some(NAMESPACE), lease, &options()).await?;
            }
            Step::Write { transitions, acquired } => {
                let mut lease = found.map(|it| it.decode()).unwrap_or_default();
                lease["spec"] = self.lease(transitions, acquired, now)["spec"].take();
                // Its resourceVersion makes this a compare-and-swap.
                self.registry
                    .update(leases, Some(NAMESPACE), NAME, lease, None, &options())
                    .await?;
            }
        }
        Ok(true)
    }

    fn lease(&self, transitions: i64, acquired: Option<String>, now: Timestamp) -> Value {
        let now = hub_api::time::format_micro(now);
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": {
                "holderIdentity": self.observer.identity,
                "leaseDurationSeconds": self.config.leader_elect_lease_duration,
                "acquireTime": acquired.unwrap_or_else(|| now.clone()),
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        })
    }

    /// Gives the Lease back, so that another hub need not wait for its end.
    async fn release(&mut self) {
        let released = async {
            let leases = leases()?;
            let mut lease = self.registry.get(leases, Some(NAMESPACE), NAME)?.decode();
            if object::text(&lease, "spec.holderIdentity") != self.observer.identity {
                return Ok(());
            }
            lease["spec"]["holderIdentity"] = json!("");
            lease["spec"]["leaseDurationSeconds"] = json!(1);
            lease["spec"]["renewTime"] = json!(hub_api::time::format_micro(self.clock.now()));
            self.registry
                .update(leases, Some(NAMESPACE), NAME, lease, None, &options())
                .await
                .map(drop)
        };
        if let Err(status) = released.await {
            tracing::warn!(error = %status, "Could not give the lease of the controllers back");
        }
    }
}

fn leases() -> Result<&'static Resource, Status> {
    hub_api::resources::find("coordination.k8s.io", "v1", "leases")
        .ok_or_else(Status::no_such_resource)
}

fn options() -> WriteOptions {
    WriteOptions { field_manager: "outbye-hub".to_owned(), ..WriteOptions::default() }
}

/// Between 1 and 2.2: hubs that wait together do not knock together.
fn jitter() -> f32 {
    let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
    let part = u16::try_from(random % 1000).unwrap_or_default();
    1.0 + 1.2 * f32::from(part) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, renewed: &str, seconds: i64, transitions: i64) -> Value {
        json!({"spec": {
            "holderIdentity": holder,
            "renewTime": renewed,
            "leaseDurationSeconds": seconds,
            "leaseTransitions": transitions,
            "acquireTime": "t0",
        }})
    }

    #[test]
    fn a_lease_is_taken_when_it_was_not_seen_to_change_for_its_duration() {
        let duration = Duration::from_secs(15);
        let mut observer = Observer { identity: "me".to_owned(), duration, seen: None };
        let take = |transitions| Step::Write { transitions, acquired: None };
        let ours = Step::Write { transitions: 4, acquired: Some("t0".to_owned()) };
        for (now, found, expect) in [
            (0, None, Step::Create),
            // The holder's clock does not count, only what is seen of it.
            (100, Some(lease("other", "1970", 15, 3)), Step::Wait),
            (114, Some(lease("other", "1970", 15, 3)), Step::Wait),
            (115, Some(lease("other", "1970", 15, 3)), take(4)),
            (115, Some(lease("other", "1971", 15, 3)), Step::Wait),
            (131, Some(lease("other", "1971", 30, 3)), Step::Wait),
            (150, Some(lease("other", "1971", 30, 3)), Step::Wait),
            (161, Some(lease("other", "1971", 30, 3)), take(4)),
            (162, Some(lease("me", "1972", 15, 4)), ours.clone()),
            // Given back.
            (163, Some(lease("", "1973", 1, 4)), take(5)),
        ] {
            let step = observer.look(found.as_ref(), Duration::from_secs(now));
            assert_eq!(step, expect, "at {now}: {found:?}");
        }
    }

    #[test]
    fn times_must_fit_together() {
        let config = |duration, deadline, retry| ElectionConfig {
            leader_elect_lease_duration: duration,
            leader_elect_renew_deadline: deadline,
            leader_elect_retry_period: retry,
        };
        let defaults = config(15, 10, 2);
        assert_eq!(defaults.check(), Ok(()));
        assert!(defaults.deadline() + defaults.grace() < defaults.duration());
        assert!(config(15, 11, 2).check().is_err());
        assert!(config(15, 10, 10).check().is_err());
        assert!(config(4, 2, 1).check().is_ok());
    }
}
