//! Says what became of the pod: status to the outbox, events for what a person should notice.

use std::sync::Arc;

use agent_core::{
    event::Subject,
    ids::ContainerId,
    pod::{Plan, WaitingOn},
    record::{ExitRecord, Lifecycle},
    status,
};
use agent_runtime::Phase;
use futures_util::future::{join, join_all};
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use serde_json::{Value, json};

use super::PodWorker;
use crate::{
    node::{Node, PodRow},
    probes::ProbeSet,
};

impl PodWorker {
    /// Tells that something went as it should, with the next status: one write to the disk less.
    pub(super) fn tell_later(&mut self, subject: Subject, reason: &'static str, message: String) {
        self.told.push((subject, reason, message));
    }

    /// Computes the status and hands it on if it changed.
    pub(super) async fn report(&mut self, plan: &Plan) {
        let told = tell_all(Arc::clone(&self.node), std::mem::take(&mut self.told));
        let Some(pod) = self.pod.clone() else {
            told.await;
            self.show_records(plan);
            return;
        };
        self.keep_readiness().await;
        let observed = self.observe();
        let known = self.last_status.as_ref().or(pod.pod.status.as_ref());
        let status =
            status::pod_status(&pod, &observed, self.node.host_ip(), known, self.node.clock.now());
        self.tell_problems(plan).await;
        let json = serde_json::to_value(&status).unwrap_or_default();
        let deleting = pod.deletion.is_some();
        let waiting_on = plan.waiting_on.iter().map(describe).collect();
        let row = PodRow {
            uid: self.uid,
            pod: pod.pod_ref.clone(),
            status: json.clone(),
            deleting,
            waiting_on,
        };
        self.node.pods.set(row);
        let terminated = matches!(observed.lifecycle, Lifecycle::Terminated { .. });
        let uid = self.uid.to_string();
        let (namespace, name) = (&pod.pod_ref.namespace, &pod.pod_ref.name);
        // Absent from a complete set: the hub has forgotten it, there is nobody to tell.
        let wanted = self.is_wanted();
        if wanted && self.last_status.as_ref() != Some(&status) {
            self.tell_transitions(&status).await;
            if pod.pod.status.as_ref() != Some(&status) && !(terminated && deleting) {
                join(told, self.node.outbox.pod_status(namespace, name, &uid, &json)).await;
            } else {
                told.await;
            }
            self.last_status = Some(status);
        } else {
            told.await;
        }
        if wanted && terminated && deleting && !self.gone_reported {
            self.node.outbox.pod_gone(namespace, name, &uid).await;
            self.gone_reported = true;
        }
    }

    /// A pod that nobody describes any more shows by what is written down about it.
    fn show_records(&self, plan: &Plan) {
        let Some(record) = &self.records.pod else { return };
        let containers = self.records.containers.values().map(|it| {
            let exit = it.exit.as_ref();
            let ended = |exit: &ExitRecord| json!({"exitCode": exit.code, "reason": exit.reason});
            let state = match (exit, self.node.view.phase(&it.id(self.uid))) {
                (Some(exit), _) => json!({"terminated": ended(exit)}),
                (None, Some(Phase::Running { .. })) => json!({"running": {}}),
                (None, Some(Phase::Created | Phase::Exited(_)) | None) => {
                    json!({"waiting": {"reason": "Terminating"}})
                }
            };
            json!({"name": it.name, "ready": false, "restartCount": it.attempt, "state": state})
        });
        let containers: Vec<Value> = containers.collect();
        self.node.pods.set(PodRow {
            uid: self.uid,
            pod: record.pod.clone(),
            status: json!({"containerStatuses": containers}),
            deleting: true,
            waiting_on: plan.waiting_on.iter().map(describe).collect(),
        });
    }

    fn is_wanted(&self) -> bool {
        matches!(*self.desired_rx.borrow(), agent_core::desired::Verdict::Wanted(_))
    }

    /// Volumes and fields that cannot be had: said once each.
    async fn tell_problems(&mut self, plan: &Plan) {
        let Some(pod) = self.pod.clone() else { return };
        let subject = Subject::Pod { uid: self.uid, pod: pod.pod_ref.clone(), container: None };
        let waiting = plan.waiting_on.contains(&WaitingOn::Volumes);
        let problem = pod.volumes.as_ref().err().filter(|_| waiting).map(ToString::to_string);
        if self.memory.told_volume_problem != problem {
            if let Some(message) = &problem {
                self.node.events.warning(subject.clone(), "FailedMount", message.clone()).await;
            }
            self.memory.told_volume_problem = problem;
        }
    }

    /// Events for waits that began.
    async fn tell_transitions(&self, status: &PodStatus) {
        let lists = |status: &PodStatus| {
            let inits = status.init_container_statuses.clone().unwrap_or_default();
            let mains = status.container_statuses.clone().unwrap_or_default();
            let ephemeral = status.ephemeral_container_statuses.clone().unwrap_or_default();
            inits.into_iter().chain(mains).chain(ephemeral).collect::<Vec<ContainerStatus>>()
        };
        let before = self.last_status.as_ref().map(lists).unwrap_or_default();
        for container in lists(status) {
            let known = before.iter().find(|it| it.name == container.name).and_then(waiting);
            let Some((reason, message)) = waiting(&container) else { continue };
            if known.as_ref().is_some_and(|(it, _)| *it == reason) {
                continue;
            }
            self.tell_wait(&container.name, &reason, message).await;
        }
    }

    async fn tell_wait(&self, name: &str, reason: &str, message: String) {
        let Ok(name) = name.parse() else { return };
        let attempt = Default::default();
        let subject = self.container_subject(&ContainerId { pod: self.uid, name, attempt });
        let Some(pod) = &self.pod else { return };
        let events = &self.node.events;
        match (reason, &subject) {
            ("CrashLoopBackOff", Subject::Pod { container: Some((name, _)), .. }) => {
                let text = format!(
                    "Back-off restarting failed container {name} in pod {}",
                    pod.long_name()
                );
                events.warning(subject, "BackOff", text).await;
            }
            ("ImagePullBackOff", Subject::Pod { container: Some((name, _)), .. }) => {
                let image = pod.container(name).map(|it| it.image.clone()).unwrap_or_default();
                let text = format!("Back-off pulling image {image:?}");
                events.normal(subject.clone(), "BackOff", text).await;
                events.warning(subject, "Failed", "Error: ImagePullBackOff".to_owned()).await;
            }
            ("CreateContainerConfigError", _) => {
                events.warning(subject, "Failed", format!("Error: {message}")).await;
            }
            _ => {}
        }
    }

    /// Starts the probes of what runs, stops those of what does not.
    pub(super) fn watch_probes(&mut self) {
        let Some(pod) = self.pod.clone() else { return };
        let pod_ip = self.pod_ip();
        for desired in &pod.containers {
            let Some(record) = self.records.containers.get(&desired.name) else { continue };
            let id = record.id(self.uid);
            let running = match self.node.view.phase(&id) {
                Some(Phase::Running { started_at, .. }) => Some(started_at),
                Some(Phase::Created | Phase::Exited(_)) | None => None,
            };
            let was_ready = record.ready;
            let memory = self.memory.container(&desired.name);
            match running {
                None => memory.probes = None,
                Some(_) if memory.probes.as_ref().is_some_and(|it| it.attempt() == id.attempt) => {}
                Some(started_at) => {
                    let subject =
                        Subject::container(self.uid, &pod.pod_ref, &desired.name, desired.role);
                    let target = crate::probes::Target { id, subject, pod_ip, started_at };
                    memory.probes =
                        Some(ProbeSet::start(&self.node, desired, target, was_ready, &self.wake));
                }
            }
        }
    }

    /// Writes down a readiness that changed, so that the next process begins with it.
    async fn keep_readiness(&mut self) {
        let names: Vec<_> = self.records.containers.keys().cloned().collect();
        for name in names {
            let Some(record) = self.records.containers.get(&name) else { continue };
            let memory = self.memory.containers.get(&name);
            let Some(probes) = memory.and_then(|it| it.probes.as_ref()) else { continue };
            let ready = probes.health().ready;
            // Without probes it is ready as long as it runs.
            let known = record.ready == ready || !probes.is_asking();
            if probes.attempt() != record.attempt || known {
                continue;
            }
            let mut record = record.clone();
            record.ready = ready;
            record.ready_changed_at = Some(self.node.clock.now());
            if let Err(err) = self.put_container(record).await {
                // It is known again after the next probe.
                tracing::debug!(error = crate::chain(&err), "Could not keep a readiness");
            }
        }
    }
}

async fn tell_all(node: Arc<Node>, told: Vec<(Subject, &'static str, String)>) {
    let telling = |(subject, reason, message)| node.events.normal(subject, reason, message);
    join_all(told.into_iter().map(telling)).await;
}

fn waiting(container: &ContainerStatus) -> Option<(String, String)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    Some((waiting.reason.clone()?, waiting.message.clone().unwrap_or_default()))
}

fn describe(waiting: &WaitingOn) -> String {
    match waiting {
        WaitingOn::Volumes => "volumes".to_owned(),
        WaitingOn::Sandbox => "sandbox".to_owned(),
        WaitingOn::Config { container } => format!("configuration of {container}"),
        WaitingOn::Image { container } => format!("image of {container}"),
        WaitingOn::Backoff { container, until } => {
            format!("back-off of {container} until {}", agent_core::event::seconds(*until))
        }
        WaitingOn::Init { container } => format!("init container {container}"),
        WaitingOn::Stop { container } => format!("end of {container}"),
    }
}
