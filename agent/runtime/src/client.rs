//! The agent's side of the keeper: asks, and is told.
//!
//! `Runtime` is a cheap handle. It starts a keeper if none answers, matches answers with questions, and
//! when the keeper is lost it finds or starts another one and says so. It decides nothing.

use std::os::fd::OwnedFd;

use tokio::sync::broadcast;

use crate::ids::{ContainerId, SandboxId};
use crate::types::{
    ContainerSpec, ContainerState, ExecSpec, ExitStatus, Inventory, RuntimeConfig, RuntimeEvent, SandboxSpec,
    SandboxState, Stats,
};
use crate::error::{CallError, ConnectError};

/// A handle on the keeper.
#[derive(Clone, Debug)]
pub struct Runtime {}

/// A command running in a container. Dropping it closes its streams; the command is not killed.
pub struct ExecProcess {
    /// Where its standard input comes from, if it was asked for. Dropping it ends the input (not of a terminal).
    pub stdin: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>>,
    /// Its standard output, or all of a terminal's output.
    pub stdout: Option<Box<dyn tokio::io::AsyncRead + Send + Unpin>>,
    /// Its standard error; `None` with a terminal.
    pub stderr: Option<Box<dyn tokio::io::AsyncRead + Send + Unpin>>,
}

impl std::fmt::Debug for ExecProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecProcess").finish_non_exhaustive()
    }
}

#[expect(clippy::unused_async, reason = "the shape of the handle")]
#[expect(unused_variables, clippy::unimplemented, reason = "the shape of the handle")]
impl ExecProcess {
    /// Waits for the end of the command.
    pub async fn wait(&mut self) -> Result<ExitStatus, CallError> { unimplemented!() }
    /// Tells a terminal its size in characters. Nothing happens without a terminal.
    pub fn resize(&self, width: u16, height: u16) -> std::io::Result<()> { unimplemented!() }
    /// Sends the command a signal.
    pub async fn signal(&self, signal: i32) -> Result<(), CallError> { unimplemented!() }
}

#[expect(clippy::unused_async, reason = "the shape of the handle")]
#[expect(unused_variables, clippy::unimplemented, reason = "the shape of the handle")]
impl Runtime {
    /// Connects to the keeper of `config`, and starts one if there is none.
    pub async fn connect(config: &RuntimeConfig) -> Result<Self, ConnectError> { unimplemented!() }
    /// Everything the keeper holds.
    pub async fn list(&self) -> Result<Inventory, CallError> { unimplemented!() }
    /// Makes a sandbox, or finds the one that was made before.
    pub async fn ensure_sandbox(&self, spec: &SandboxSpec) -> Result<SandboxState, CallError> { unimplemented!() }
    /// Removes a sandbox and whatever is left in it. Removing what is not there is fine.
    pub async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), CallError> { unimplemented!() }
    /// The network namespace of a sandbox.
    pub async fn netns(&self, id: &SandboxId) -> Result<OwnedFd, CallError> { unimplemented!() }
    /// Creates and starts a container, or finds the one that was started before.
    pub async fn ensure_container(&self, spec: &ContainerSpec) -> Result<ContainerState, CallError> { unimplemented!() }
    /// Sends a signal to a container's first process.
    pub async fn signal(&self, id: &ContainerId, signal: i32) -> Result<(), CallError> { unimplemented!() }
    /// Kills every process of a container.
    pub async fn kill(&self, id: &ContainerId) -> Result<(), CallError> { unimplemented!() }
    /// Removes a container, killing it if it runs. Removing what is not there is fine.
    pub async fn remove_container(&self, id: &ContainerId) -> Result<(), CallError> { unimplemented!() }
    /// Runs a command in a running container.
    pub async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<ExecProcess, CallError> { unimplemented!() }
    /// The streams of a running container's own first process.
    pub async fn attach(&self, id: &ContainerId) -> Result<ExecProcess, CallError> { unimplemented!() }
    /// What a container uses.
    pub async fn stats(&self, id: &ContainerId) -> Result<Stats, CallError> { unimplemented!() }
    /// What happens from here on. A receiver that lags behind must `list` again.
    pub fn events(&self) -> broadcast::Receiver<RuntimeEvent> { unimplemented!() }
}
