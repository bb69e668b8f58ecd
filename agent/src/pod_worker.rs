//! One task per pod UID: observe, plan, apply, report.
//!
//! The loop takes no input but the latest desired state; everything else wakes it and nothing
//! more. A worker never dies of one bad look: what fails is noted and tried again.

mod apply;
mod containers;
mod memory;
mod observe;
mod pull;
mod report;
mod teardown;

use std::{sync::Arc, time::Duration};

use agent_core::{
    desired::{DesiredPod, Verdict},
    event::Subject,
    ids::{ContainerId, ContainerName, PodRef, PodUid},
    pod::{self, Plan},
    record::{Lifecycle, PodRecord, Rejection, TeardownReason},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    node::Node,
    records::{self, PodRecords},
};
pub(crate) use apply::{rt, rt_sandbox};
use memory::PodMemory;

/// First pause after an action that failed without a retry time of its own.
const MIN_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// A sleeping worker looks again after this long, whatever happens.
const SLOW_LOOK: Duration = Duration::from_secs(600);

/// Talks to the worker of one pod.
#[derive(Clone, Debug)]
pub(crate) struct WorkerHandle {
    pub(crate) desired_tx: watch::Sender<Verdict>,
    pub(crate) wake: Arc<Notify>,
}

/// Something that a worker had going beside its loop.
#[derive(Debug)]
enum Done {
    Pull { name: ContainerName, image: String, result: pull::PullResult },
    PreStop { id: ContainerId },
    PostStart { id: ContainerId, result: Result<(), String> },
}

/// Owns the loop of one pod.
pub(crate) struct PodWorker {
    node: Arc<Node>,
    uid: PodUid,
    desired_rx: watch::Receiver<Verdict>,
    wake: Arc<Notify>,
    records: PodRecords,
    memory: PodMemory,
    tasks: JoinSet<Done>,
    /// The latest description of the pod, also after the hub dropped it.
    pod: Option<Arc<DesiredPod>>,
    last_status: Option<PodStatus>,
    gone_reported: bool,
    /// Events on their way: written together with the status that they go with.
    told: Vec<(Subject, &'static str, String)>,
    /// Why the node does not take the pod, as long as that is not written down.
    rejection: Option<Rejection>,
    shutdown: CancellationToken,
}

impl PodWorker {
    pub(crate) fn new(
        node: Arc<Node>,
        uid: PodUid,
        (records, rejection): (PodRecords, Option<Rejection>),
        handle: &WorkerHandle,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            node,
            uid,
            desired_rx: handle.desired_tx.subscribe(),
            wake: Arc::clone(&handle.wake),
            memory: PodMemory::new(&records),
            records,
            tasks: JoinSet::new(),
            pod: None,
            last_status: None,
            gone_reported: false,
            told: Vec::new(),
            rejection,
            shutdown,
        }
    }

    /// Runs until the pod is forgotten or the agent stops. Containers outlive the latter.
    pub(crate) async fn run(mut self) -> PodUid {
        let mut n_failures: u32 = 0;
        loop {
            self.collect_finished();
            let verdict = self.verdict();
            self.reject().await;
            let observed = self.observe();
            let plan = pod::plan(&verdict, &observed, self.node.clock.now());
            // Boxed: a worker spends its life asleep, and should not keep room for this.
            let outcome = Box::pin(self.apply(&plan)).await;
            if outcome.forgotten {
                self.node.pods.remove(&self.uid);
                return self.uid;
            }
            self.watch_probes();
            Box::pin(self.report(&plan)).await;
            if outcome.failed {
                n_failures = n_failures.saturating_add(1);
            } else {
                n_failures = 0;
                if !plan.actions.is_empty() {
                    continue;
                }
            }
            if self.wait(&plan, n_failures).await.is_break() {
                self.memory.stop_probes();
                self.tasks.shutdown().await;
                return self.uid;
            }
        }
    }

    /// What is wanted now, with what is known of a pod that no longer is.
    fn verdict(&mut self) -> Verdict {
        let verdict = self.desired_rx.borrow_and_update().clone();
        match verdict {
            Verdict::Wanted(pod) => {
                self.pod = Some(Arc::clone(&pod));
                Verdict::Wanted(pod)
            }
            Verdict::Unwanted { .. } => Verdict::Unwanted { last: self.pod.clone() },
            Verdict::Unknown => Verdict::Unknown,
        }
    }

    /// Sleeps until there may be something to do; breaks when the agent stops.
    async fn wait(&mut self, plan: &Plan, n_failures: u32) -> std::ops::ControlFlow<()> {
        let now = self.node.clock.now();
        let mut pause = plan.recheck_at.map_or(SLOW_LOOK, |at| until(now, at)).min(SLOW_LOOK);
        if n_failures > 0 {
            let doubled = MIN_PAUSE.saturating_mul(1 << n_failures.saturating_sub(1).min(10));
            pause = pause.min(doubled.min(MAX_PAUSE));
        }
        // All arms are cancel-safe: watch, notify and join keep what was not taken.
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return std::ops::ControlFlow::Break(()),
            changed = self.desired_rx.changed() => {
                if changed.is_err() {
                    return std::ops::ControlFlow::Break(());
                }
            }
            Some(done) = self.tasks.join_next() => self.finish(done),
            () = self.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        std::ops::ControlFlow::Continue(())
    }

    fn collect_finished(&mut self) {
        while let Some(done) = self.tasks.try_join_next() {
            self.finish(done);
        }
    }

    fn finish(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Pull { name, image, result }) => self.pulled(&name, &image, result),
            Ok(Done::PreStop { id }) => {
                self.memory.container(&id.name).pre_stop_ended(id.attempt);
            }
            Ok(Done::PostStart { id, result }) => {
                self.memory.container(&id.name).post_start_ended(id.attempt, result);
            }
            Err(err) => tracing::error!(pod = %self.uid, error = %err, "A pod's task panicked"),
        }
    }

    /// Writes down that the pod was not taken: nothing of it is ever made.
    async fn reject(&mut self) {
        let Some(rejection) = self.rejection.clone() else { return };
        let at = self.node.clock.now();
        let Some(record) = self.pod_record() else { return };
        record.lifecycle = Lifecycle::Terminated { at, reason: TeardownReason::Rejected };
        record.rejection = Some(rejection.clone());
        let record = record.clone();
        match records::put_pod(&self.node.ledger, &record, None).await {
            Ok(()) => self.rejection = None,
            // Tried again when the worker looks again; nothing is started meanwhile.
            Err(err) => {
                tracing::warn!(pod = %record.pod, error = crate::chain(&err), "Could not keep a rejection");
                return;
            }
        }
        tracing::warn!(pod = %record.pod, reason = rejection.reason, "Did not take a pod");
        let subject = Subject::Pod { uid: self.uid, pod: record.pod, container: None };
        self.node.events.rejection(subject, rejection).await;
    }

    /// The pod's record; a pod that the node meets for the first time gets a fresh one.
    fn pod_record(&mut self) -> Option<&mut PodRecord> {
        if self.records.pod.is_none() {
            let (uid, started_at) = (self.uid, self.node.clock.now());
            let record = match &self.pod {
                Some(pod) => {
                    fresh_record(pod.pod_ref.clone(), pod.grace.as_secs(), uid, started_at)
                }
                // Found running, and nobody knows its name.
                None => {
                    let unknown = PodRef { namespace: "unknown".to_owned(), name: uid.to_string() };
                    fresh_record(unknown, DEFAULT_GRACE_SECONDS, uid, started_at)
                }
            };
            self.records.pod = Some(record);
        }
        self.records.pod.as_mut()
    }

    fn pod_ref(&self) -> PodRef {
        let known = self.pod.as_ref().map(|it| &it.pod_ref);
        let recorded = self.records.pod.as_ref().map(|it| &it.pod);
        known.or(recorded).cloned().unwrap_or_else(|| PodRef {
            namespace: "unknown".to_owned(),
            name: self.uid.to_string(),
        })
    }
}

/// Grace of a pod that nobody describes.
const DEFAULT_GRACE_SECONDS: i64 = 30;

fn fresh_record(pod: PodRef, grace_seconds: i64, uid: PodUid, started_at: Timestamp) -> PodRecord {
    PodRecord {
        uid,
        pod,
        grace_seconds,
        started_at,
        lifecycle: Lifecycle::Syncing,
        sandbox: None,
        rejection: None,
    }
}

/// From now until then; nothing if it is past.
fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}
