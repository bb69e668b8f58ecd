//! Taking down: stopping containers, and removing what a pod held, step by step.

use std::{fs, io, path::PathBuf, sync::Arc};

use agent_core::{
    event::{self, Subject},
    ids::{ContainerId, SandboxId},
    pod::{HookState, StopReason, VolumeState},
    probe,
    record::{ExitRecord, Lifecycle, StopRecord, TeardownReason},
};
use jiff::SignedDuration;

use super::{
    Done, PodWorker,
    apply::{ApplyError, ignore_gone, rt, rt_sandbox},
};
use crate::{actions, records, termination};

impl PodWorker {
    pub(super) async fn begin_teardown(
        &mut self,
        reason: TeardownReason,
        grace: SignedDuration,
    ) -> Result<(), ApplyError> {
        let since = self.node.clock.now();
        let grace_seconds = grace.as_secs();
        tracing::info!(pod = %self.pod_ref(), ?reason, grace_seconds, "Taking a pod down");
        self.set_lifecycle(Lifecycle::Terminating { since, grace_seconds, reason }).await
    }

    /// Durable before it counts: a teardown that began is never forgotten.
    async fn set_lifecycle(&mut self, lifecycle: Lifecycle) -> Result<(), ApplyError> {
        let address = self.records.address;
        let Some(record) = self.pod_record() else { return Ok(()) };
        let mut next = record.clone();
        next.lifecycle = lifecycle;
        records::put_pod(&self.node.ledger, &next, address).await.map_err(ApplyError::Ledger)?;
        self.records.pod = Some(next);
        Ok(())
    }

    pub(super) async fn stop_container(
        &mut self,
        id: &ContainerId,
        grace: SignedDuration,
        reason: &StopReason,
    ) -> Result<(), ApplyError> {
        let Some(mut record) = self.records.containers.get(&id.name).cloned() else {
            return Ok(());
        };
        let since = self.node.clock.now();
        let stop = StopRecord { since, grace_seconds: grace.as_secs() };
        // Once more only because the clock was set back: it was told then.
        let is_told = record.stop.replace(stop).is_some();
        self.put_container(record).await?;
        if is_told {
            return Ok(());
        }
        let message = event::killing_message(&id.name, reason);
        let subject = self.container_subject(id);
        self.node.events.normal(subject, "Killing", message).await;
        Ok(())
    }

    pub(super) fn container_subject(&self, id: &ContainerId) -> Subject {
        let role = self.pod.as_ref().and_then(|it| it.container(&id.name)).map(|it| it.role);
        let role = role.unwrap_or(agent_core::desired::Role::Main);
        Subject::container(self.uid, &self.pod_ref(), &id.name, role)
    }

    pub(super) fn run_pre_stop(&mut self, id: &ContainerId) {
        let Some(pod) = self.pod.clone() else { return };
        let Some(desired) = pod.container(&id.name) else { return };
        let hook = desired.container.lifecycle.as_ref().and_then(|it| it.pre_stop.as_ref());
        let Some(hook) = hook else { return };
        let memory = self.memory.container(&id.name);
        if memory.pre_stop == HookState::Running {
            return;
        }
        memory.pre_stop_began(id.attempt);
        let action = probe::action(hook, &desired.container);
        let (node, id, pod_ip) = (Arc::clone(&self.node), id.clone(), self.pod_ip());
        let subject = self.container_subject(&id);
        self.tasks.spawn(async move {
            let outcome = actions::run(&node, &id, &action, pod_ip, actions::HOOK_TIMEOUT).await;
            if let Err(message) = outcome.into_result() {
                let text = format!("PreStopHook failed: {message}");
                node.events.warning(subject, "FailedPreStopHook", text).await;
            }
            Done::PreStop { id }
        });
    }

    pub(super) async fn signal_container(&mut self, id: &ContainerId) -> Result<(), ApplyError> {
        let record = self.records.containers.get(&id.name);
        let signal = record.map_or(agent_core::spec::DEFAULT_STOP_SIGNAL, |it| it.stop_signal);
        ignore_gone(self.node.runtime.signal(&rt(id), signal).await)?;
        self.memory.container(&id.name).signalled = true;
        Ok(())
    }

    pub(super) async fn record_exit(
        &mut self,
        id: &ContainerId,
        mut exit: ExitRecord,
    ) -> Result<(), ApplyError> {
        let Some(mut record) = self.records.containers.get(&id.name).cloned() else {
            return Ok(());
        };
        if record.attempt != id.attempt {
            return Ok(());
        }
        if exit.message.is_empty() {
            exit.message = self.last_words(id, &exit);
        }
        let (code, reason) = (exit.code, exit.reason.clone());
        tracing::info!(pod = %self.pod_ref(), container = %id.name, code, reason, "A container ended");
        record.exit = Some(exit);
        record.ready = false;
        self.memory.container(&id.name).probes = None;
        self.put_container(record).await
    }

    fn last_words(&self, id: &ContainerId, exit: &ExitRecord) -> String {
        let pod = self.pod.as_ref();
        let container = pod.and_then(|it| it.container(&id.name)).map(|it| &it.container);
        let policy = container.and_then(|it| it.termination_message_policy.as_deref());
        let fall_back = policy == Some("FallbackToLogsOnError") && exit.code != 0;
        let log = fall_back.then(|| self.node.config.log_path(&self.pod_ref(), id));
        termination::message(&self.node.config.termination_log(id), log.as_deref())
    }

    pub(super) async fn remove_container(&mut self, id: &ContainerId) -> Result<(), ApplyError> {
        self.node.runtime.remove_container(&rt(id)).await?;
        self.node.view.container_removed(id);
        remove_path(self.node.config.termination_log(id))
    }

    pub(super) async fn remove_log(&self, id: &ContainerId) -> Result<(), ApplyError> {
        let path = self.node.config.log_path(&self.pod_ref(), id);
        remove_blocking(move || crate::logs::remove(&path)).await
    }

    pub(super) async fn remove_sandbox(&mut self, id: &SandboxId) -> Result<(), ApplyError> {
        let is_replaced =
            self.records.pod.as_ref().is_none_or(|it| it.lifecycle == Lifecycle::Syncing);
        if is_replaced {
            // The next sandbox of the pod has the same address.
            self.node.network.detach(id).await?;
        }
        self.node.runtime.remove_sandbox(&rt_sandbox(id)).await?;
        // The link goes with the namespace that one end of it lay in, as soon as the kernel gets to it.
        self.node.network.abandon(id);
        self.node.view.sandbox_removed(id);
        Ok(())
    }

    pub(super) async fn remove_volumes(&mut self) -> Result<(), ApplyError> {
        let (volumes, dir) =
            (self.node.config.volumes_dir(&self.uid), self.node.config.pod_dir(&self.uid));
        remove_blocking(move || {
            if volumes.exists() {
                agent_volume::remove_pod_volumes(&volumes)
                    .map_err(|err| (volumes.clone(), io::Error::other(err)))?;
            }
            remove_tree(&dir)
        })
        .await?;
        self.memory.volumes = VolumeState::Absent;
        Ok(())
    }

    pub(super) async fn release_address(&mut self) -> Result<(), ApplyError> {
        records::release(&self.node.ledger, &self.uid).await.map_err(ApplyError::Ledger)?;
        self.node.network.release(&self.uid);
        self.records.address = None;
        Ok(())
    }

    pub(super) async fn finish_teardown(
        &mut self,
        reason: TeardownReason,
    ) -> Result<(), ApplyError> {
        self.memory.stop_probes();
        let at = self.node.clock.now();
        self.set_lifecycle(Lifecycle::Terminated { at, reason }).await?;
        tracing::info!(pod = %self.pod_ref(), "A pod is down");
        Ok(())
    }

    pub(super) async fn forget(&mut self) -> Result<(), ApplyError> {
        let logs = self.node.config.pod_logs_dir(&self.uid, &self.pod_ref());
        remove_blocking(move || remove_tree(&logs)).await?;
        records::forget(&self.node.ledger, &self.uid).await.map_err(ApplyError::Ledger)?;
        self.node.outbox.forget_pod(&self.uid.to_string());
        Ok(())
    }
}

fn remove_path(path: PathBuf) -> Result<(), ApplyError> {
    match fs::remove_file(&path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(ApplyError::Remove { path, err }),
        _ => Ok(()),
    }
}

/// Removes a directory of ours that holds plain files only.
fn remove_tree(dir: &std::path::Path) -> Result<(), (PathBuf, io::Error)> {
    match fs::remove_dir_all(dir) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err((dir.to_owned(), err)),
        _ => Ok(()),
    }
}

async fn remove_blocking(
    work: impl FnOnce() -> Result<(), (PathBuf, io::Error)> + Send + 'static,
) -> Result<(), ApplyError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ApplyError::Cancelled)?
        .map_err(|(path, err)| ApplyError::Remove { path, err })
}
