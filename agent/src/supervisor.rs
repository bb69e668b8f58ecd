//! Keeps one worker for every pod that is wanted, remembered or found running.

use std::{collections::BTreeMap, sync::Arc};

use agent_core::{
    admission::{Admitted, Claims},
    desired::{DesiredSet, Verdict},
    ids::{ContainerId, PodUid},
    record::{Lifecycle, Rejection},
};
use agent_runtime::{CallError, Phase, RuntimeEvent};
use ipnet::Ipv4Net;
use tokio::{
    sync::{Notify, broadcast::error::RecvError, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    chain,
    desired_pods::DesiredPods,
    node::Node,
    pod_worker::{PodWorker, WorkerHandle},
    records::{self, PodRecords},
};

/// Owns the workers.
pub struct Supervisor {
    node: Arc<Node>,
    shutdown: CancellationToken,
    workers: BTreeMap<PodUid, WorkerHandle>,
    tasks: JoinSet<PodUid>,
    /// Records of pods that have no worker yet.
    records: BTreeMap<PodUid, PodRecords>,
    desired_pods: DesiredPods,
    set: DesiredSet,
    admitted: Admitted,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").field("n_workers", &self.workers.len()).finish_non_exhaustive()
    }
}

impl Supervisor {
    pub fn new(node: Arc<Node>, shutdown: CancellationToken) -> Self {
        let records = records::load(&node.ledger);
        let desired_pods = DesiredPods::new(&node.ledger.vital().ca_pem);
        Self {
            node,
            shutdown,
            workers: BTreeMap::new(),
            tasks: JoinSet::new(),
            records,
            desired_pods,
            set: DesiredSet::Partial(BTreeMap::new()),
            admitted: Admitted::default(),
        }
    }

    /// Runs until the agent stops; then every worker has ended, and every container goes on.
    ///
    /// # Errors
    /// The keeper cannot say what runs.
    pub async fn run(mut self) -> Result<(), CallError> {
        let mut generation_rx = self.node.desired.subscribe();
        // Subscribed before the list: nothing falls in between.
        let mut events_rx = self.node.runtime.events();
        self.node.view.reset(&self.node.runtime.list().await?);
        self.sync();
        loop {
            // All arms are cancel-safe.
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                changed = generation_rx.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.sync();
                }
                event = events_rx.recv() => self.handle_event(event).await,
                Some(ended) = self.tasks.join_next() => self.handle_ended(ended),
            }
        }
        while self.tasks.join_next().await.is_some() {}
        Ok(())
    }

    /// Tells every worker what is wanted, and starts those that are missing.
    fn sync(&mut self) {
        let view = self.node.desired.snapshot();
        let own = view.find("Node", "", &self.node.config.node_name);
        if let Some(cidr) = own.and_then(|it| it.body.value()["spec"]["podCIDR"].as_str()) {
            match cidr.parse::<Ipv4Net>() {
                Ok(cidr) => {
                    if self.node.network.cidr() != Some(cidr) {
                        self.node.network.set_cidr(cidr);
                        self.workers.values().for_each(|it| it.wake.notify_one());
                    }
                }
                Err(_) => tracing::warn!(cidr, "The hub gave a pod CIDR that is none"),
            }
        }
        self.set = self.desired_pods.update(&view);
        for (uid, handle) in &self.workers {
            let verdict = self.set.verdict(uid);
            handle.desired_tx.send_if_modified(|known| {
                let changed = differs(known, &verdict);
                if changed {
                    *known = verdict;
                }
                changed
            });
        }
        self.start_missing();
    }

    fn start_missing(&mut self) {
        let mut uids: Vec<PodUid> = self.set.pods().keys().copied().collect();
        uids.extend(self.records.keys().copied());
        uids.extend(self.node.view.uids());
        // A pod that ended, or that is not wanted any more, takes nothing.
        let ended = self.node.pods.ended();
        let pods = self.set.pods();
        self.admitted.retain(|uid| pods.contains_key(uid) && !ended.contains(uid));
        for uid in uids {
            if !self.workers.contains_key(&uid) {
                self.start(uid);
            }
        }
    }

    fn start(&mut self, uid: PodUid) {
        let records = self.records.remove(&uid).unwrap_or_default();
        let verdict = self.set.verdict(&uid);
        let rejection = self.admit(uid, &verdict, &records).err();
        let handle =
            WorkerHandle { desired_tx: watch::Sender::new(verdict), wake: Arc::new(Notify::new()) };
        let node = Arc::clone(&self.node);
        let worker =
            PodWorker::new(node, uid, (records, rejection), &handle, self.shutdown.clone());
        self.tasks.spawn(worker.run());
        self.workers.insert(uid, handle);
    }

    /// Whether the node takes a pod. What it took once stays taken.
    fn admit(
        &mut self,
        uid: PodUid,
        verdict: &Verdict,
        records: &PodRecords,
    ) -> Result<(), Rejection> {
        let Verdict::Wanted(pod) = verdict else { return Ok(()) };
        let claims = Claims::of(pod.spec());
        let lifecycle = records.pod.as_ref().map(|it| &it.lifecycle);
        match lifecycle {
            Some(Lifecycle::Terminated { .. }) => Ok(()),
            None if pod.deletion.is_none() && !self.node.view.holds(&uid) => {
                self.admitted.admit(uid, claims, &self.node.machine().allocatable())
            }
            Some(Lifecycle::Syncing | Lifecycle::Terminating { .. }) | None => {
                self.admitted.add(uid, claims);
                Ok(())
            }
        }
    }

    async fn handle_event(&mut self, event: Result<RuntimeEvent, RecvError>) {
        match event {
            Ok(RuntimeEvent::Exited { id, exit }) => {
                let Ok(id) = id.as_str().parse::<ContainerId>() else { return };
                self.node.view.advance(&id, Phase::Exited(exit));
                if let Some(handle) = self.workers.get(&id.pod) {
                    handle.wake.notify_one();
                }
            }
            Ok(RuntimeEvent::KeeperRestarted) => {
                tracing::warn!("The keeper was replaced, looking at everything again");
                self.look_again().await;
            }
            Err(RecvError::Lagged(n_missed)) => {
                tracing::debug!(n_missed, "Fell behind the keeper, looking at everything again");
                self.look_again().await;
            }
            Err(RecvError::Closed) => {
                tracing::error!("The keeper is gone for good");
                self.shutdown.cancel();
            }
        }
    }

    async fn look_again(&mut self) {
        match self.node.runtime.list().await {
            Ok(inventory) => self.node.view.reset(&inventory),
            Err(err) => tracing::error!(error = chain(&err), "Could not list what runs"),
        }
        self.start_missing();
        for handle in self.workers.values() {
            handle.wake.notify_one();
        }
    }

    fn handle_ended(&mut self, ended: Result<PodUid, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => {
                self.workers.remove(&uid);
            }
            Err(err) => {
                tracing::error!(error = %err, "A pod worker panicked");
                // Its pod is found again by its records.
                let alive = |handle: &WorkerHandle| handle.desired_tx.receiver_count() > 0;
                self.workers.retain(|_, handle| alive(handle));
                let known = records::load(&self.node.ledger);
                let missing = known.into_iter().filter(|(uid, _)| !self.workers.contains_key(uid));
                self.records = missing.collect();
                self.start_missing();
            }
        }
    }
}

fn differs(known: &Verdict, next: &Verdict) -> bool {
    match (known, next) {
        (Verdict::Wanted(a), Verdict::Wanted(b)) => !Arc::ptr_eq(a, b),
        (Verdict::Unwanted { .. }, Verdict::Unwanted { .. })
        | (Verdict::Unknown, Verdict::Unknown) => false,
        (Verdict::Wanted(_) | Verdict::Unwanted { .. } | Verdict::Unknown, _) => true,
    }
}
