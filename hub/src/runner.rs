//! Runs the controllers and the scheduler inside the hub: news in, writes out.
//!
//! ```text
//!   storage ──informers──> Engine, Scheduler ──plans, decisions──> jobs ──Registry──> storage
//!                                 ^                                  │
//!                                 └────────────── outcomes ──────────┘   events ──> recorder
//! ```
//! One task owns all state and decides; jobs only perform. All news that is there is taken in before
//! anything is planned. Nothing polls: the task sleeps until news, an outcome or a planned time comes.
//!
//! Must never hold state that a restart would miss.

mod body;
mod execute;
mod informer;
mod recorder;
mod scheduling;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use hub_api::{Catalog, Clock};
use hub_apiserver::Registry;
use hub_controllers::{Cidr, Config, Engine, Kind, Outcome, Ticket, World};
use hub_storage::Revision;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::body::Decoded;
use self::execute::Executor;
use self::informer::{Informer, InformerError, News};
use self::recorder::Recorder;
use self::scheduling::Scheduling;

/// Plans that are carried out at the same time.
const MAX_IN_FLIGHT: usize = 256;

/// After so long without news nothing is kept decoded.
const QUIET: Duration = Duration::from_mins(1);

/// What the controllers have to know.
#[derive(Clone, Debug)]
pub struct RunnerConfig {
    /// Every node gets a /24 of it for its pods.
    pub cluster_cidr: Ipv4Net,
    /// The certificate authority that pods may trust.
    pub ca_pem: String,
}

/// The running controllers.
#[derive(Debug)]
pub struct RunnerHandle {
    tasks: JoinSet<()>,
}

impl RunnerHandle {
    /// Waits until everything has stopped, which happens after the shutdown token fires.
    pub async fn join(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(err) = ended {
                tracing::error!(error = %err, "Controllers stopped for no good reason");
            }
        }
    }
}

/// Starts all controllers and the scheduler. They stop when `shutdown` fires; should they end for any
/// other reason, they fire it themselves, since a hub without them would only look alive.
pub fn spawn(
    registry: Registry,
    config: RunnerConfig,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> RunnerHandle {
    let mut tasks = JoinSet::new();
    let (recorder, recording) = recorder::channel(registry.clone(), clock.clone());
    tasks.spawn(recording.run());
    tasks.spawn(async move {
        let _stops_the_hub = shutdown.clone().drop_guard();
        let mut task = RunnerTask::new(&registry, &config, clock, recorder);
        task.run(&shutdown).await;
        // What is half done is finished: the next start would have to find out how far it went.
        while task.jobs.join_next().await.is_some() {}
    });
    RunnerHandle { tasks }
}

/// What a finished job reports.
#[derive(Debug)]
enum Done {
    Plan { ticket: Ticket, outcome: Outcome },
    Bind { uid: String, is_bound: bool },
    Told,
}

struct RunnerTask {
    clock: Arc<dyn Clock>,
    progress: watch::Receiver<Revision>,
    /// What the informers look at.
    catalog: Arc<Catalog>,
    informers: Vec<Informer>,
    decoded: Arc<Decoded>,
    engine: Engine,
    scheduling: Scheduling,
    executor: Executor,
    jobs: JoinSet<Done>,
}

impl RunnerTask {
    fn new(
        registry: &Registry,
        config: &RunnerConfig,
        clock: Arc<dyn Clock>,
        recorder: Recorder,
    ) -> Self {
        let catalog = registry.catalog();
        let decoded = Arc::new(Decoded::default());
        let informers: Vec<Informer> =
            catalog.stored().filter_map(|it| Informer::new(it, &decoded)).collect();
        let world = World::new(informers.iter().map(Informer::row), clock.now());
        let config = Config {
            cluster_cidr: Cidr {
                address: config.cluster_cidr.network(),
                prefix: config.cluster_cidr.prefix_len(),
            },
            ca_pem: config.ca_pem.clone(),
        };
        let controllers = hub_controllers::all(&config);
        let executor = Executor::new(registry.clone(), recorder);
        Self {
            clock,
            progress: registry.storage().progress(),
            catalog,
            informers,
            decoded,
            engine: Engine::new(world, controllers, MAX_IN_FLIGHT),
            scheduling: Scheduling::new(),
            executor,
            jobs: JoinSet::new(),
        }
    }

    async fn run(&mut self, shutdown: &CancellationToken) {
        loop {
            // Seen before looked: news that comes in between wakes us again.
            self.progress.borrow_and_update();
            if let Err(err) = self.take_news() {
                tracing::warn!(error = crate::chain(&err), "Stopped watching");
                return;
            }
            while let Some(done) = self.jobs.try_join_next() {
                self.take_outcome(done);
            }
            self.start_work();
            self.forget_surplus();
            let timeout = self.timeout();
            let quiet = !self.decoded.is_empty() && timeout > QUIET;
            let timeout = if quiet { QUIET } else { timeout };
            // Every arm is cancel-safe: what is not taken now is still there in the next round.
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.progress.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                Some(done) = self.jobs.join_next() => self.take_outcome(done),
                () = tokio::time::sleep(timeout) => {
                    if quiet {
                        self.forget(&self.decoded.take());
                    }
                }
            }
        }
    }

    /// Looks at what is served now: definitions of custom resources come and go.
    fn follow_catalog(&mut self) {
        let catalog = self.executor.registry().catalog();
        if catalog.number() == self.catalog.number() {
            return;
        }
        let is_served = |it: &Informer| {
            let kind = it.kind();
            catalog.find_stored(kind.group, kind.plural).is_some_and(|row| it.is_of(row))
        };
        let (kept, gone) = self.informers.drain(..).partition(is_served);
        self.informers = kept;
        for informer in gone {
            self.engine.remove_kind(informer.kind());
        }
        for resource in catalog.stored() {
            if self.informers.iter().any(|it| it.is_of(resource)) {
                continue;
            }
            if let Some(informer) = Informer::new(resource, &self.decoded) {
                self.engine.add_kind(informer.row());
                self.informers.push(informer);
            }
        }
        self.catalog = catalog;
    }

    /// Takes in everything that has happened, in the order in which it happened.
    fn take_news(&mut self) -> Result<(), InformerError> {
        self.follow_catalog();
        let registry = self.executor.registry();
        let mut news = Vec::new();
        let mut synced = Vec::new();
        for informer in &mut self.informers {
            let revision = informer.drain(registry, self.engine.world(), &mut news)?;
            synced.extend(revision.map(|revision| (informer.kind(), revision)));
        }
        news.sort_by_key(News::revision);
        let now = self.clock.now();
        for news in news {
            self.take(news, now);
            self.forget_surplus();
        }
        for (kind, revision) in synced {
            self.engine.handle_synced(kind, revision);
        }
        Ok(())
    }

    /// Decoded objects are many times their text: only those looked at lately are kept so.
    fn forget_surplus(&mut self) {
        self.forget(&self.decoded.surplus());
    }

    fn forget(&mut self, keys: &[hub_controllers::ObjectRef]) {
        for key in keys {
            self.engine.forget_value(key);
        }
    }

    fn take(&mut self, news: News, now: Timestamp) {
        match news {
            News::Put(object) => {
                self.scheduling.handle_put(&object);
                self.engine.handle_put(object, now);
            }
            News::Removed { key, revision } => {
                let applied = self.engine.handle_removed(&key, revision, now);
                if let Some(old) = applied.and_then(|applied| applied.old) {
                    self.scheduling.handle_removed(&old);
                }
            }
        }
    }

    fn take_outcome(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let now = self.clock.now();
        match done {
            Ok(Done::Plan { ticket, outcome }) => {
                if let Some(report) = self.engine.handle_done(ticket, outcome, now) {
                    self.jobs.spawn(self.executor.clone().carry_out(report));
                }
            }
            Ok(Done::Bind { uid, is_bound }) => self.scheduling.handle_bind(&uid, is_bound, now),
            Ok(Done::Told) => {}
            Err(err) => tracing::error!(error = %err, "Could not finish a write"),
        }
    }

    fn start_work(&mut self) {
        let now = self.clock.now();
        while let Some(work) = self.engine.poll_work(now) {
            self.jobs.spawn(self.executor.clone().carry_out(work));
        }
        if !self.engine.world().is_synced() {
            return;
        }
        while let Some(decision) = self.scheduling.poll_decision(now) {
            self.jobs.spawn(self.executor.clone().decide(decision));
        }
    }

    fn timeout(&self) -> Duration {
        let times = [self.engine.poll_timeout(), self.scheduling.poll_timeout()];
        let now = self.clock.now();
        let wait = times.into_iter().flatten().min().map(|at| at.duration_since(now));
        match wait.map(Duration::try_from) {
            // Rounded up: a timer that fires early would fire again and again.
            Some(Ok(wait)) => wait + Duration::from_millis(1),
            Some(Err(_in_the_past)) => Duration::ZERO,
            None => Duration::from_secs(3600),
        }
    }
}

/// The kind of a resource row.
fn kind_of(resource: &hub_api::Resource) -> Kind {
    match (&resource.group, &resource.plural) {
        (Cow::Borrowed(group), Cow::Borrowed(plural)) => Kind { group, plural },
        (group, plural) => Kind::made(group, plural),
    }
}

#[cfg(test)]
mod tests;
