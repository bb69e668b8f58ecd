//! The agent's side of the keeper: asks, and is told.
//!
//! `Runtime` is a cheap handle. It starts a keeper if none answers, matches answers with questions, and
//! when the keeper is lost it finds or starts another one and says so. It decides nothing.

mod connection;
mod process;
mod spawn;

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use crate::error::{CallError, ConnectError, Refusal, RefusalKind};
use crate::ids::{ContainerId, SandboxId};
use crate::protocol::{Answer, Call};
use crate::types::{
    ContainerSpec, ContainerState, ExecSpec, Inventory, RuntimeConfig, RuntimeEvent, SandboxSpec,
    SandboxState, Stats,
};

use connection::{Connection, Reply};
pub use process::ExecProcess;

/// Events that may wait for one receiver; one that is slower must list again.
const EVENTS: usize = 4096;
/// How long a question waits for a keeper to come back.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between attempts to find or start a keeper.
const PAUSE: Duration = Duration::from_millis(100);

/// A handle on the keeper.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    config: RuntimeConfig,
    connection: watch::Sender<Option<Arc<Connection>>>,
    events: broadcast::Sender<RuntimeEvent>,
    /// The keeper was told to end: its silence is no reason to start another one.
    retired: AtomicBool,
    /// Reads what the keeper says. Ends with the last handle.
    tasks: Mutex<JoinSet<()>>,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Connects to the keeper of `config`, and starts one if there is none.
    ///
    /// The program that calls this must call `dispatch` first thing in its `main`.
    pub async fn connect(config: &RuntimeConfig) -> Result<Self, ConnectError> {
        let first = Arc::new(Connection::new(spawn::open(config).await?));
        let inner = Arc::new(Inner {
            config: config.clone(),
            connection: watch::Sender::new(Some(Arc::clone(&first))),
            events: broadcast::Sender::new(EVENTS),
            retired: AtomicBool::new(false),
            tasks: Mutex::new(JoinSet::new()),
        });
        if let Ok(mut tasks) = inner.tasks.lock() {
            tasks.spawn(read_for_ever(Arc::downgrade(&inner), first));
        }
        let runtime = Self { inner };
        runtime.empty_trash();
        Ok(runtime)
    }

    /// Everything the keeper holds.
    pub async fn list(&self) -> Result<Inventory, CallError> {
        let operation = "list containers";
        let Answer::Inventory(inventory) = self.call(operation, Call::List, &[]).await?.answer
        else {
            return Err(out_of_step(operation));
        };
        Ok(inventory)
    }

    /// Makes a sandbox, or finds the one that was made before.
    pub async fn ensure_sandbox(&self, spec: &SandboxSpec) -> Result<SandboxState, CallError> {
        let operation = "make a sandbox";
        let call = Call::EnsureSandbox(Box::new(spec.clone()));
        let Answer::Sandbox(state) = self.call(operation, call, &[]).await?.answer else {
            return Err(out_of_step(operation));
        };
        Ok(state)
    }

    /// Removes a sandbox and whatever is left in it. Removing what is not there is fine.
    pub async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), CallError> {
        self.call("remove a sandbox", Call::RemoveSandbox(id.clone()), &[]).await?;
        self.empty_trash();
        Ok(())
    }

    /// The network namespace of a sandbox.
    pub async fn netns(&self, id: &SandboxId) -> Result<OwnedFd, CallError> {
        let operation = "get a network namespace";
        let reply = self.call(operation, Call::Netns(id.clone()), &[]).await?;
        reply.fds.into_iter().next().ok_or_else(|| out_of_step(operation))
    }

    /// Creates and starts a container, or finds the one that was started before.
    pub async fn ensure_container(
        &self,
        spec: &ContainerSpec,
    ) -> Result<ContainerState, CallError> {
        let operation = "start a container";
        let call = Call::EnsureContainer(Box::new(spec.clone()));
        let result = self.call(operation, call, &[]).await;
        if result.is_err() {
            // What was half made of it is in there.
            self.empty_trash();
        }
        let Answer::Container(state) = result?.answer else {
            return Err(out_of_step(operation));
        };
        Ok(state)
    }

    /// Sends a signal to a container's first process.
    pub async fn signal(&self, id: &ContainerId, signal: i32) -> Result<(), CallError> {
        self.call("signal a container", Call::Signal(id.clone(), signal), &[]).await?;
        Ok(())
    }

    /// Kills every process of a container. Its end comes as an event.
    pub async fn kill(&self, id: &ContainerId) -> Result<(), CallError> {
        self.call("kill a container", Call::Kill(id.clone()), &[]).await?;
        Ok(())
    }

    /// Removes a container, killing it if it runs. Removing what is not there is fine.
    pub async fn remove_container(&self, id: &ContainerId) -> Result<(), CallError> {
        self.call("remove a container", Call::RemoveContainer(id.clone()), &[]).await?;
        self.empty_trash();
        Ok(())
    }

    /// Runs a command in a running container.
    pub async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<ExecProcess, CallError> {
        let operation = "run a command";
        let streams =
            process::ExecStreams::new(spec).map_err(|err| CallError::Streams { operation, err })?;
        let fds: Vec<_> = streams.far.iter().map(AsFd::as_fd).collect();
        let call = Call::Exec(id.clone(), Box::new(spec.clone()));
        let reply = self.call(operation, call, &fds).await?;
        let Answer::Exec { id } = reply.answer else {
            return Err(out_of_step(operation));
        };
        let exit = reply.exec_exit.ok_or_else(|| out_of_step(operation))?;
        ExecProcess::of_exec(self.clone(), id, streams, reply.fds, exit)
            .map_err(|err| CallError::Streams { operation, err })
    }

    /// The streams of a running container's own first process, from here on.
    pub async fn attach(&self, id: &ContainerId) -> Result<ExecProcess, CallError> {
        let operation = "attach to a container";
        let events = self.events();
        let reply = self.call(operation, Call::Attach(id.clone()), &[]).await?;
        let Answer::Attach { stdin, tty } = reply.answer else {
            return Err(out_of_step(operation));
        };
        ExecProcess::of_attach(self.clone(), id.clone(), (stdin, tty), reply.fds, events)
            .map_err(|err| CallError::Streams { operation, err })
    }

    /// What a container uses.
    pub async fn stats(&self, id: &ContainerId) -> Result<Stats, CallError> {
        let operation = "read statistics";
        let Answer::Stats(stats) = self.call(operation, Call::Stats(id.clone()), &[]).await?.answer
        else {
            return Err(out_of_step(operation));
        };
        Ok(stats)
    }

    /// What happens from here on. A receiver that lags behind must `list` again.
    pub fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.inner.events.subscribe()
    }

    /// Ends the keeper; containers go on running, unwatched, until another keeper takes over. This
    /// handle starts none.
    pub async fn retire_keeper(&self) -> Result<(), CallError> {
        self.inner.retired.store(true, Ordering::Release);
        self.call("retire the keeper", Call::Retire, &[]).await?;
        Ok(())
    }

    async fn signal_exec(&self, id: u64, signal: i32) -> Result<(), CallError> {
        self.call("signal a command", Call::SignalExec(id, signal), &[]).await?;
        Ok(())
    }

    async fn call(
        &self,
        operation: &'static str,
        call: Call,
        fds: &[std::os::fd::BorrowedFd<'_>],
    ) -> Result<Reply, CallError> {
        let mut connection = self.inner.connection.subscribe();
        // The watch's lock must not be held while the keeper thinks.
        let connection = {
            let wait = connection.wait_for(Option::is_some);
            match tokio::time::timeout(PATIENCE, wait).await {
                Ok(Ok(it)) => it.clone(),
                Ok(Err(_)) | Err(_) => None,
            }
        };
        let connection = connection.ok_or(CallError::Unreachable { operation })?;
        connection.call(operation, call, fds).await
    }

    /// Deletes what was removed, in the background.
    fn empty_trash(&self) {
        let trash = self.inner.config.state_dir.join("trash");
        if let Ok(mut tasks) = self.inner.tasks.lock() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn_blocking(move || empty(&trash));
        }
    }
}

fn empty(trash: &Path) {
    for entry in std::fs::read_dir(trash).into_iter().flatten().flatten() {
        let path = entry.path();
        match std::fs::remove_dir_all(&path) {
            // Two may empty it at once.
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), error = %err, "Could not delete a container's files");
            }
            _ => {}
        }
    }
}

/// The keeper answered something that does not belong to the question.
fn out_of_step(operation: &'static str) -> CallError {
    let refusal = Refusal::new(RefusalKind::Kernel, "the keeper answered out of step");
    CallError::Refused { operation, refusal }
}

/// Reads until the connection ends, then finds another one, until nobody holds a handle any more.
async fn read_for_ever(inner: Weak<Inner>, first: Arc<Connection>) {
    let mut connection = first;
    loop {
        let Some(events) = inner.upgrade().map(|it| it.events.clone()) else { return };
        connection.read_to_end(&events).await;
        let Some(config) = inner.upgrade().and_then(|it| {
            it.connection.send_replace(None);
            (!it.retired.load(Ordering::Acquire)).then(|| it.config.clone())
        }) else {
            return;
        };
        tracing::warn!("Lost the keeper");
        let socket = loop {
            match spawn::open(&config).await {
                Ok(socket) => break socket,
                Err(err) => {
                    let source = std::error::Error::source(&err).map(ToString::to_string);
                    tracing::error!(error = %err, ?source, "Could not find a keeper");
                }
            }
            tokio::time::sleep(PAUSE).await;
        };
        connection = Arc::new(Connection::new(socket));
        let Some(inner) = inner.upgrade() else { return };
        inner.connection.send_replace(Some(Arc::clone(&connection)));
        // Nobody may be listening.
        let _ = inner.events.send(RuntimeEvent::KeeperRestarted);
        tracing::info!("Connected to a keeper");
    }
}
