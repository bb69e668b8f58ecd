//! Asks running containers how they are, and wakes their worker when the answer changes.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agent_core::{
    desired::DesiredContainer,
    event::Subject,
    ids::{Attempt, ContainerId},
    pod::Health,
    probe::{ProbeKind, ProbeSpec, Tracker},
};
use jiff::Timestamp;
use tokio::{sync::Notify, task::JoinSet};

use crate::{
    actions::{self, ActionOutcome},
    node::Node,
};

/// A readiness probe is asked early and often until it succeeds for the first time: pauses double
/// from this up to the probe's period.
const EAGER_PAUSE: Duration = Duration::from_millis(50);

/// What is probed.
#[derive(Clone, Debug)]
pub struct Target {
    pub id: ContainerId,
    pub subject: Subject,
    pub pod_ip: Option<IpAddr>,
    pub started_at: Timestamp,
}

/// The probes of one running attempt. Dropping it ends them.
#[derive(Debug)]
pub struct ProbeSet {
    attempt: Attempt,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    tracker: Mutex<Tracker>,
    /// A probe that was closed may be open now.
    opened: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProbeSet {
    /// `was_ready`: it ran before this process did, and was ready then.
    pub fn start(
        node: &Arc<Node>,
        desired: &DesiredContainer,
        target: Target,
        was_ready: bool,
        wake: &Arc<Notify>,
    ) -> Self {
        let tracker = Tracker::new(&desired.container, desired.role, was_ready);
        let specs: Vec<ProbeSpec> = tracker.specs().cloned().collect();
        let shared = Arc::new(Shared { tracker: Mutex::new(tracker), opened: Notify::new() });
        let mut tasks = JoinSet::new();
        let attempt = target.id.attempt;
        for spec in specs {
            let prober = Prober {
                node: Arc::clone(node),
                shared: Arc::clone(&shared),
                wake: Arc::clone(wake),
                target: target.clone(),
                spec,
            };
            tasks.spawn(prober.run());
        }
        Self { attempt, shared, _tasks: tasks }
    }

    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// Whether there is a probe at all.
    pub fn is_asking(&self) -> bool {
        !self.shared.lock().is_empty()
    }

    pub fn health(&self) -> Health {
        self.shared.lock().health()
    }
}

/// Owns the loop of one probe.
struct Prober {
    node: Arc<Node>,
    shared: Arc<Shared>,
    wake: Arc<Notify>,
    target: Target,
    spec: ProbeSpec,
}

impl Prober {
    async fn run(self) {
        let period = duration(self.spec.period);
        tokio::time::sleep(self.initial_delay()).await;
        let mut eager = EAGER_PAUSE;
        let mut succeeded = false;
        loop {
            self.until_open(period).await;
            // Boxed: a prober spends its life asleep, and should not keep room for this.
            let outcome = Box::pin(self.ask()).await;
            let answer = outcome.answer();
            succeeded |= answer == Some(true);
            let is_eager = self.spec.kind == ProbeKind::Readiness && !succeeded && eager < period;
            if !is_eager {
                self.tell(&outcome).await;
            }
            if let Some(success) = answer {
                self.record(success);
            }
            let pause = if is_eager { eager } else { period };
            eager = eager.saturating_mul(2);
            tokio::time::sleep(pause).await;
        }
    }

    /// What is left of the delay since the container started.
    fn initial_delay(&self) -> Duration {
        let running = self.node.clock.now().duration_since(self.target.started_at);
        let delay = duration(self.spec.initial_delay);
        delay.saturating_sub(duration(running).min(delay))
    }

    async fn until_open(&self, period: Duration) {
        while !self.shared.lock().is_open(self.spec.kind) {
            // Both are cancel-safe; a missed wake-up costs one period.
            tokio::select! {
                () = self.shared.opened.notified() => {}
                () = tokio::time::sleep(period) => {}
            }
        }
    }

    async fn ask(&self) -> ActionOutcome {
        let Target { id, pod_ip, .. } = &self.target;
        let timeout = duration(self.spec.timeout);
        actions::run(&self.node, id, &self.spec.action, *pod_ip, timeout).await
    }

    fn record(&self, success: bool) {
        let changed = {
            let mut tracker = self.shared.lock();
            let before = tracker.health();
            tracker.record(self.spec.kind, success);
            tracker.health() != before
        };
        if changed {
            self.shared.opened.notify_waiters();
            self.wake.notify_one();
        }
    }

    async fn tell(&self, outcome: &ActionOutcome) {
        let title = self.spec.kind.title();
        let message = match outcome {
            ActionOutcome::Success => return,
            ActionOutcome::Failure(message) => format!("{title} probe failed: {message}"),
            ActionOutcome::Error(message) => format!("{title} probe errored: {message}"),
        };
        self.node.events.warning(self.target.subject.clone(), "Unhealthy", message).await;
    }
}

fn duration(it: jiff::SignedDuration) -> Duration {
    Duration::try_from(it).unwrap_or(Duration::ZERO)
}
