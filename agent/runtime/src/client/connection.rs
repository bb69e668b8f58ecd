//! One connection to a keeper: many questions at once, answers in any order.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{broadcast, oneshot};

use crate::error::{CallError, Refusal};
use crate::protocol::{self, Answer, Call, Inbox, Message, Request};
use crate::types::{ExitStatus, RuntimeEvent};

/// A good answer and what came with it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) answer: Answer,
    pub(super) fds: Vec<OwnedFd>,
    /// How the command ends that the answer is about.
    pub(super) exec_exit: Option<oneshot::Receiver<ExitStatus>>,
}

#[derive(Debug)]
pub(super) struct Connection {
    socket: UnixStream,
    /// Held while a frame is written, so that frames do not mix.
    writing: tokio::sync::Mutex<()>,
    next_id: AtomicU64,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    closed: bool,
    calls: BTreeMap<u64, oneshot::Sender<Result<Reply, Refusal>>>,
    execs: BTreeMap<u64, oneshot::Sender<ExitStatus>>,
}

impl Connection {
    pub(super) fn new(socket: UnixStream) -> Self {
        let next_id = AtomicU64::new(1);
        let (writing, waiting) = (tokio::sync::Mutex::default(), Mutex::default());
        Self { socket, writing, next_id, waiting }
    }

    pub(super) async fn call(
        &self,
        operation: &'static str,
        call: Call,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Reply, CallError> {
        let unreachable = || CallError::Unreachable { operation };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (reply_tx, reply_rx) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().map_err(|_| unreachable())?;
            if waiting.closed {
                return Err(unreachable());
            }
            waiting.calls.insert(id, reply_tx);
        }
        let request = Request { id, call, least_time: crate::clock::least() };
        let frame = protocol::encode(&request, fds.len()).map_err(|_| unreachable())?;
        self.write(&frame, fds).await.map_err(|_| unreachable())?;
        match reply_rx.await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(refusal)) => Err(CallError::Refused { operation, refusal }),
            Err(_) => Err(unreachable()),
        }
    }

    async fn write(&self, frame: &[u8], mut fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let _turn = self.writing.lock().await;
        let mut rest = frame;
        while !rest.is_empty() {
            let sent = self
                .socket
                .async_io(Interest::WRITABLE, || protocol::send(&self.socket, rest, fds))
                .await?;
            rest = rest.get(sent..).unwrap_or_default();
            fds = &[];
        }
        Ok(())
    }

    /// Reads until the connection ends; whoever waits then is told so.
    pub(super) async fn read_to_end(&self, events: &broadcast::Sender<RuntimeEvent>) {
        if let Err(err) = self.read(events).await {
            tracing::debug!(error = %err, "Connection to the keeper broke");
        }
        if let Ok(mut waiting) = self.waiting.lock() {
            *waiting = Waiting { closed: true, ..Waiting::default() };
        }
    }

    async fn read(&self, events: &broadcast::Sender<RuntimeEvent>) -> io::Result<()> {
        let mut inbox = Inbox::default();
        while self.socket.async_io(Interest::READABLE, || inbox.receive(&self.socket)).await? {
            while let Some((message, fds)) = inbox.next::<Message>()? {
                self.handle(message, fds, events);
            }
        }
        Ok(())
    }

    fn handle(
        &self,
        message: Message,
        fds: Vec<OwnedFd>,
        events: &broadcast::Sender<RuntimeEvent>,
    ) {
        let Ok(mut waiting) = self.waiting.lock() else { return };
        // Receivers that are gone have lost their interest.
        match message {
            Message::Answer { id, result } => {
                // Made before anything else is read, so that a short command's end finds it.
                let exec_exit = match &result {
                    Ok(Answer::Exec { id }) => {
                        let (exit_tx, exit_rx) = oneshot::channel();
                        waiting.execs.insert(*id, exit_tx);
                        Some(exit_rx)
                    }
                    _ => None,
                };
                if let Some(call) = waiting.calls.remove(&id) {
                    let _ = call.send(result.map(|answer| Reply { answer, fds, exec_exit }));
                }
            }
            Message::ExecExited { id, exit } => {
                if let Some(exec) = waiting.execs.remove(&id) {
                    let _ = exec.send(exit);
                }
            }
            Message::Exited { id, exit } => {
                let _ = events.send(RuntimeEvent::Exited { id, exit });
            }
        }
    }
}
