//! Performs a plan: one arm for each action, each idempotent. Retries are the loop's business.

use std::collections::BTreeSet;

use agent_core::{
    event::Subject,
    ids::ContainerName,
    pod::{Action, Plan},
};
use agent_ledger::CommitError;
use agent_runtime::CallError;

use super::{PodWorker, memory::failed_again};
use crate::{chain, network::NetworkError, volumes::VolumeError};

/// An action could not be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error("could not write to the ledger")]
    Ledger(#[source] CommitError),
    #[error(transparent)]
    Runtime(#[from] CallError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Volumes(#[from] VolumeError),
    #[error("could not remove files of the pod at {path}")]
    Remove {
        path: std::path::PathBuf,
        #[source]
        err: std::io::Error,
    },
    #[error("could not prepare {path}")]
    Prepare {
        path: std::path::PathBuf,
        #[source]
        err: std::io::Error,
    },
    /// Noted where it happened, with a retry time.
    #[error("{reason}: {message}")]
    Noted { reason: &'static str, message: String },
    #[error("a task of the pod was cut off")]
    Cancelled,
}

/// What became of a plan.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) failed: bool,
    pub(super) forgotten: bool,
}

/// What must not be done because something before it failed.
#[derive(Debug, Default)]
struct Blocked {
    containers: BTreeSet<ContainerName>,
    starts: bool,
    teardown: bool,
}

impl Blocked {
    fn blocks(&self, action: &Action) -> bool {
        match action {
            Action::RemoveSandbox { .. }
            | Action::RemoveVolumes
            | Action::ReleaseAddress
            | Action::FinishTeardown { .. }
            | Action::Forget => self.teardown,
            Action::CreateSandbox { .. } => self.starts,
            Action::StartContainer { id, .. } => self.starts || self.containers.contains(&id.name),
            Action::SignalContainer { id }
            | Action::RunPreStop { id }
            | Action::RecordExit { id, .. }
            | Action::RemoveContainer { id } => self.containers.contains(&id.name),
            Action::BeginTeardown { .. }
            | Action::StopContainer { .. }
            | Action::KillContainer { .. }
            | Action::RemoveLog { .. }
            | Action::PrepareVolumes { .. }
            | Action::PullImage { .. } => false,
        }
    }

    fn failed(&mut self, action: &Action) {
        match action {
            Action::StopContainer { id, .. }
            | Action::RunPreStop { id }
            | Action::SignalContainer { id }
            | Action::KillContainer { id }
            | Action::RecordExit { id, .. }
            | Action::RemoveContainer { id } => {
                self.containers.insert(id.name.clone());
                self.teardown = true;
            }
            Action::StartContainer { id, .. } => {
                self.containers.insert(id.name.clone());
            }
            Action::PrepareVolumes { .. } | Action::CreateSandbox { .. } => self.starts = true,
            Action::RemoveSandbox { .. } => {
                self.starts = true;
                self.teardown = true;
            }
            Action::BeginTeardown { .. }
            | Action::RemoveVolumes
            | Action::ReleaseAddress
            | Action::FinishTeardown { .. }
            | Action::Forget => self.teardown = true,
            Action::RemoveLog { .. } | Action::PullImage { .. } => {}
        }
    }
}

impl PodWorker {
    /// Does all that can be done of a plan. A failure blocks only what depends on it.
    pub(super) async fn apply(&mut self, plan: &Plan) -> Outcome {
        let mut blocked = Blocked::default();
        let mut outcome = Outcome::default();
        for action in &plan.actions {
            if blocked.blocks(action) {
                continue;
            }
            match self.perform(action).await {
                Ok(()) => outcome.forgotten |= *action == Action::Forget,
                Err(err) => {
                    blocked.failed(action);
                    outcome.failed = true;
                    self.note_failure(action, &err).await;
                }
            }
        }
        outcome
    }

    async fn perform(&mut self, action: &Action) -> Result<(), ApplyError> {
        match action {
            Action::BeginTeardown { reason, grace } => self.begin_teardown(*reason, *grace).await,
            Action::StopContainer { id, grace, reason } => {
                self.stop_container(id, *grace, reason).await
            }
            Action::RunPreStop { id } => {
                self.run_pre_stop(id);
                Ok(())
            }
            Action::SignalContainer { id } => self.signal_container(id).await,
            Action::KillContainer { id } => Ok(ignore_gone(self.node.runtime.kill(&rt(id)).await)?),
            Action::RecordExit { id, exit } => self.record_exit(id, exit.clone()).await,
            Action::RemoveContainer { id } => self.remove_container(id).await,
            Action::RemoveLog { id } => self.remove_log(id).await,
            Action::RemoveSandbox { id } => self.remove_sandbox(id).await,
            Action::RemoveVolumes => self.remove_volumes().await,
            Action::ReleaseAddress => self.release_address().await,
            Action::FinishTeardown { reason } => self.finish_teardown(*reason).await,
            Action::Forget => self.forget().await,
            Action::PrepareVolumes { fingerprint } => self.prepare_volumes(*fingerprint).await,
            Action::PullImage { name } => {
                self.start_pull(name);
                Ok(())
            }
            Action::CreateSandbox { id } => self.create_sandbox(id).await,
            Action::StartContainer { id, sandbox, backoff } => {
                self.start_container(id, *sandbox, *backoff).await
            }
        }
    }

    /// Logs a failure once, remembers it for the planner, and tells it in an event.
    async fn note_failure(&mut self, action: &Action, err: &ApplyError) {
        let now = self.node.clock.now();
        let message = chain(err);
        let pod = self.pod_ref();
        let subject = Subject::Pod { uid: self.uid, pod: pod.clone(), container: None };
        match action {
            Action::CreateSandbox { .. } => {
                let before = self.memory.sandbox_failure.as_ref();
                let failure = failed_again(before, "FailedCreatePodSandBox", message.clone(), now);
                self.memory.sandbox_failure = Some(failure);
                self.memory.lacks_cidr = matches!(err, ApplyError::Network(NetworkError::NoCidr));
                let text = format!("Failed to create pod sandbox: {message}");
                self.node.events.warning(subject, "FailedCreatePodSandBox", text).await;
            }
            Action::PrepareVolumes { .. } => {
                let before = self.memory.volume_failure.as_ref();
                let failure = failed_again(before, "FailedMount", message.clone(), now);
                self.memory.volume_failure = Some(failure);
                self.node.events.warning(subject, "FailedMount", message.clone()).await;
            }
            Action::StartContainer { id, .. } => {
                // `start_container` has noted it, with the reason that it knows.
                tracing::debug!(container = %id, "A start failed");
            }
            Action::KillContainer { .. } | Action::RemoveSandbox { .. } => {
                let text = format!("error killing pod: {message}");
                self.node.events.warning(subject, "FailedKillPod", text).await;
            }
            Action::BeginTeardown { .. }
            | Action::StopContainer { .. }
            | Action::RunPreStop { .. }
            | Action::SignalContainer { .. }
            | Action::RecordExit { .. }
            | Action::RemoveContainer { .. }
            | Action::RemoveLog { .. }
            | Action::RemoveVolumes
            | Action::ReleaseAddress
            | Action::FinishTeardown { .. }
            | Action::Forget
            | Action::PullImage { .. } => {}
        }
        tracing::warn!(%pod, action = name_of(action), error = message, "Could not act for a pod");
    }
}

/// The runtime's name of a container.
pub(crate) fn rt(id: &agent_core::ids::ContainerId) -> agent_runtime::ContainerId {
    agent_runtime::ContainerId::new(id.to_string()).expect("a container id is a runtime name")
}

/// The runtime's name of a sandbox.
pub(crate) fn rt_sandbox(id: &agent_core::ids::SandboxId) -> agent_runtime::SandboxId {
    agent_runtime::SandboxId::new(id.to_string()).expect("a sandbox id is a runtime name")
}

/// Acting on a container that is not there or does not run is done already.
pub(super) fn ignore_gone(result: Result<(), CallError>) -> Result<(), CallError> {
    use agent_runtime::RefusalKind::{NotFound, NotRunning};
    match result {
        Err(err) if err.refusal().is_some_and(|it| matches!(it.kind, NotFound | NotRunning)) => {
            Ok(())
        }
        other => other,
    }
}

fn name_of(action: &Action) -> &'static str {
    match action {
        Action::BeginTeardown { .. } => "begin teardown",
        Action::StopContainer { .. } => "stop container",
        Action::RunPreStop { .. } => "run preStop hook",
        Action::SignalContainer { .. } => "signal container",
        Action::KillContainer { .. } => "kill container",
        Action::RecordExit { .. } => "record exit",
        Action::RemoveContainer { .. } => "remove container",
        Action::RemoveLog { .. } => "remove log",
        Action::RemoveSandbox { .. } => "remove sandbox",
        Action::RemoveVolumes => "remove volumes",
        Action::ReleaseAddress => "release address",
        Action::FinishTeardown { .. } => "finish teardown",
        Action::Forget => "forget",
        Action::PrepareVolumes { .. } => "prepare volumes",
        Action::PullImage { .. } => "pull image",
        Action::CreateSandbox { .. } => "create sandbox",
        Action::StartContainer { .. } => "start container",
    }
}
