//! A command's streams on the agent's side.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::{broadcast, oneshot};

use super::Runtime;
use crate::error::CallError;
use crate::ids::ContainerId;
use crate::types::{ExecSpec, ExitStatus, Phase, RuntimeEvent};

/// A command running in a container. Dropping it closes its streams; the command is not killed.
pub struct ExecProcess {
    /// Where its standard input comes from, if it was asked for. Dropping it ends the input (not that
    /// of a terminal).
    pub stdin: Option<Box<dyn AsyncWrite + Send + Sync + Unpin>>,
    /// Its standard output, or all of a terminal's output.
    pub stdout: Option<Box<dyn AsyncRead + Send + Sync + Unpin>>,
    /// Its standard error; `None` with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Sync + Unpin>>,
    terminal: Option<Arc<AsyncFd<OwnedFd>>>,
    runtime: Runtime,
    subject: Subject,
}

enum Subject {
    Exec { id: u64, exit: oneshot::Receiver<ExitStatus>, ended: Option<ExitStatus> },
    Container { id: ContainerId, events: broadcast::Receiver<RuntimeEvent> },
}

impl fmt::Debug for ExecProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecProcess").field("tty", &self.terminal.is_some()).finish_non_exhaustive()
    }
}

/// Pipes for a command: our sides, and the sides that go to the keeper.
#[derive(Debug)]
pub(super) struct ExecStreams {
    pub(super) far: Vec<OwnedFd>,
    stdin: Option<Sender>,
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
}

impl ExecStreams {
    pub(super) fn new(spec: &ExecSpec) -> io::Result<Self> {
        let mut streams = Self { far: vec![], stdin: None, stdout: None, stderr: None };
        if spec.tty {
            return Ok(streams);
        }
        if spec.stdin {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            streams.far.push(reader);
            streams.stdin = Some(Sender::from_owned_fd(writer)?);
        }
        for near in [&mut streams.stdout, &mut streams.stderr] {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            streams.far.push(writer);
            *near = Some(Receiver::from_owned_fd(reader)?);
        }
        Ok(streams)
    }
}

fn boxed_reader(
    reader: impl AsyncRead + Send + Sync + Unpin + 'static,
) -> Box<dyn AsyncRead + Send + Sync + Unpin> {
    Box::new(reader)
}

fn boxed_writer(
    writer: impl AsyncWrite + Send + Sync + Unpin + 'static,
) -> Box<dyn AsyncWrite + Send + Sync + Unpin> {
    Box::new(writer)
}

#[expect(
    deprecated,
    reason = "an owned descriptor that moves in stays open as long as it is registered"
)]
fn open_terminal(fd: OwnedFd) -> io::Result<Arc<AsyncFd<OwnedFd>>> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(Arc::new(AsyncFd::new(fd)?))
}

impl ExecProcess {
    pub(super) fn of_exec(
        runtime: Runtime,
        id: u64,
        streams: ExecStreams,
        fds: Vec<OwnedFd>,
        exit: oneshot::Receiver<ExitStatus>,
    ) -> io::Result<Self> {
        // The command must be the only one to hold the far sides, or their ends will not be seen.
        drop(streams.far);
        let subject = Subject::Exec { id, exit, ended: None };
        let terminal = fds.into_iter().next().map(open_terminal).transpose()?;
        if let Some(terminal) = terminal {
            let side = Terminal(Arc::clone(&terminal));
            return Ok(Self {
                stdin: Some(boxed_writer(Terminal(Arc::clone(&terminal)))),
                stdout: Some(boxed_reader(side)),
                stderr: None,
                terminal: Some(terminal),
                runtime,
                subject,
            });
        }
        Ok(Self {
            stdin: streams.stdin.map(boxed_writer),
            stdout: streams.stdout.map(boxed_reader),
            stderr: streams.stderr.map(boxed_reader),
            terminal: None,
            runtime,
            subject,
        })
    }

    pub(super) fn of_attach(
        runtime: Runtime,
        id: ContainerId,
        (stdin, tty): (bool, bool),
        fds: Vec<OwnedFd>,
        events: broadcast::Receiver<RuntimeEvent>,
    ) -> io::Result<Self> {
        let mut fds = fds.into_iter();
        let input = if stdin { fds.next() } else { None };
        let mut reader = || fds.next().map(Receiver::from_owned_fd).transpose();
        let (stdout, stderr) = (reader()?.map(boxed_reader), reader()?.map(boxed_reader));
        let (terminal, stdin) = match input {
            Some(fd) if tty => {
                let terminal = open_terminal(fd)?;
                let side = Terminal(Arc::clone(&terminal));
                (Some(terminal), Some(boxed_writer(side)))
            }
            Some(fd) => (None, Some(boxed_writer(Sender::from_owned_fd(fd)?))),
            None => (None, None),
        };
        let subject = Subject::Container { id, events };
        Ok(Self { stdin, stdout, stderr, terminal, runtime, subject })
    }

    /// Waits for the end of the command. Cancel-safe.
    pub async fn wait(&mut self) -> Result<ExitStatus, CallError> {
        let unreachable = CallError::Unreachable { operation: "wait for a command" };
        match &mut self.subject {
            Subject::Exec { ended: Some(exit), .. } => Ok(exit.clone()),
            Subject::Exec { exit, ended, .. } => {
                let exit = exit.await.map_err(|_| unreachable)?;
                *ended = Some(exit.clone());
                Ok(exit)
            }
            Subject::Container { id, events } => {
                wait_for_container(&self.runtime, id, events).await
            }
        }
    }

    /// Tells a terminal its size in characters. Nothing happens without a terminal.
    pub fn resize(&self, width: u16, height: u16) -> io::Result<()> {
        if let Some(terminal) = &self.terminal {
            let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
            tcsetwinsize(terminal.as_fd(), size)?;
        }
        Ok(())
    }

    /// Sends the command a signal.
    pub async fn signal(&self, signal: i32) -> Result<(), CallError> {
        match &self.subject {
            Subject::Exec { id, .. } => self.runtime.signal_exec(*id, signal).await,
            Subject::Container { id, .. } => self.runtime.signal(id, signal).await,
        }
    }
}

async fn wait_for_container(
    runtime: &Runtime,
    id: &ContainerId,
    events: &mut broadcast::Receiver<RuntimeEvent>,
) -> Result<ExitStatus, CallError> {
    let unreachable = || CallError::Unreachable { operation: "wait for a container" };
    loop {
        match events.recv().await {
            Ok(RuntimeEvent::Exited { id: ended, exit }) if ended == *id => return Ok(exit),
            Ok(RuntimeEvent::Exited { .. }) => {}
            // Something may have been missed.
            Ok(RuntimeEvent::KeeperRestarted) | Err(broadcast::error::RecvError::Lagged(_)) => {
                let inventory = runtime.list().await?;
                match inventory.containers.into_iter().find(|it| it.id == *id).map(|it| it.phase) {
                    Some(Phase::Exited(exit)) => return Ok(exit),
                    Some(Phase::Created | Phase::Running { .. }) => {}
                    None => return Err(unreachable()),
                }
            }
            Err(broadcast::error::RecvError::Closed) => return Err(unreachable()),
        }
    }
}

/// One handle on the keeper's side of a terminal.
struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let unfilled = buf.initialize_unfilled();
            match guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *unfilled)?)) {
                Ok(Ok(length)) => {
                    buf.advance(length);
                    return Poll::Ready(Ok(()));
                }
                // The other side is gone: the end.
                Ok(Err(err)) if err.raw_os_error() == Some(nix::libc::EIO) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(err)) => return Poll::Ready(Err(err)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
