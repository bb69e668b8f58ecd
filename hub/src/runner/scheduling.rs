//! Feeds the scheduler, and carries out what it decides.

use std::sync::Arc;

use hub_api::{Status, resources};
use hub_apiserver::WriteOptions;
use hub_apiserver::auth::User;
use hub_controllers::condition::{self, Condition};
use hub_controllers::{Kind, Note, Object, Regarding, Uid};
use hub_scheduler::{Decision, PodRef, Scheduler};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Done;
use super::execute::{Executor, unversioned};

/// Name under which the scheduler is known, in pods and in events.
const SCHEDULER: &str = "default-scheduler";
/// Binds under way at the same time: many make a group commit worth its while.
const MAX_BINDS: usize = 512;

/// The scheduler and its binds.
#[derive(Debug)]
pub(super) struct Scheduling {
    scheduler: Scheduler,
    n_binds: usize,
}

impl Scheduling {
    pub(super) fn new() -> Self {
        Self { scheduler: Scheduler::new(), n_binds: 0 }
    }

    pub(super) fn handle_put(&mut self, object: &Object) {
        match object.kind {
            Kind::NODE => self.scheduler.handle_node(object.value()),
            Kind::POD => self.scheduler.handle_pod(object.value()),
            _ => {}
        }
    }

    pub(super) fn handle_removed(&mut self, object: &Object) {
        match object.kind {
            Kind::NODE => self.scheduler.handle_node_removed(&object.name.name),
            Kind::POD => self.scheduler.handle_pod_removed(&object.uid.0),
            _ => {}
        }
    }

    pub(super) fn handle_bind(&mut self, uid: &str, is_bound: bool, now: Timestamp) {
        self.n_binds = self.n_binds.saturating_sub(1);
        if !is_bound {
            self.scheduler.handle_bind_failed(uid, now);
        }
    }

    pub(super) fn poll_decision(&mut self, now: Timestamp) -> Option<Decision> {
        if self.n_binds >= MAX_BINDS {
            return None;
        }
        let decision = self.scheduler.poll_decision(now)?;
        if matches!(decision, Decision::Bind { .. }) {
            self.n_binds += 1;
        }
        Some(decision)
    }

    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        self.scheduler.poll_timeout()
    }
}

impl Executor {
    /// Carries out a decision.
    pub(super) async fn decide(self, decision: Decision) -> Done {
        match decision {
            Decision::Bind { pod, node } => self.bind(pod, &node).await,
            Decision::Unschedulable { pod, message } => {
                if let Err(status) = self.mark_unschedulable(&pod, &message).await {
                    tracing::debug!(pod = pod.name, error = status.message, "Could not mark a pod");
                }
                let note = note(&pod, true, "FailedScheduling", message);
                self.recorder().record(SCHEDULER, note);
                Done::Told
            }
        }
    }

    async fn bind(&self, pod: PodRef, node: &str) -> Done {
        let PodRef { namespace, name, uid } = &pod;
        let bound = self.registry().bind(namespace, name, node, Some(uid), &options()).await;
        let is_bound = match bound {
            Ok(_) => {
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                self.recorder().record(SCHEDULER, note(&pod, false, "Scheduled", message));
                true
            }
            Err(status) => {
                tracing::debug!(pod = name, node, error = status.message, "Could not bind a pod");
                false
            }
        };
        Done::Bind { uid: pod.uid, is_bound }
    }

    async fn mark_unschedulable(&self, pod: &PodRef, message: &str) -> Result<(), Status> {
        let resource = resources::find("", "v1", "pods").ok_or_else(Status::no_such_resource)?;
        let now = self.registry().now();
        let change = |current: &Value, _whole: &Value| {
            let mut object = unversioned(current);
            let is_same = object["metadata"]["uid"] == pod.uid.as_str();
            let is_placed = object["spec"]["nodeName"].as_str().is_some_and(|it| !it.is_empty());
            if is_same && !is_placed {
                let mut conditions = condition::list(&object["status"]);
                let new = Condition {
                    kind: "PodScheduled",
                    status: "False",
                    reason: "Unschedulable",
                    message: message.to_owned(),
                };
                condition::set(&mut conditions, &new, None, now);
                object["status"]["conditions"] = json!(conditions);
            }
            Ok(object)
        };
        let (namespace, name) = (Some(pod.namespace.as_str()), pod.name.as_str());
        let status = Some("status");
        self.registry().modify(resource, namespace, name, status, &options(), change).await?;
        Ok(())
    }
}

fn options() -> WriteOptions {
    WriteOptions {
        field_manager: "outbye-scheduler".to_owned(),
        user: Arc::new(User::named("system:kube-scheduler")),
        ..WriteOptions::default()
    }
}

fn note(pod: &PodRef, is_warning: bool, reason: &'static str, message: String) -> Note {
    let regarding = Regarding {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: Uid(pod.uid.clone()),
    };
    Note { regarding, is_warning, reason, message }
}
