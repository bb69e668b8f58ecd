//! Between a client's transport and a node's frames. Queues are short: a slow end makes the
//! other one wait.

use agent_sync::stream::{Channel, FrameDecoder, MAX_PAYLOAD, encode_frame};
use bytes::{Bytes, BytesMut};
use hub_api::Status;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::NodeStream;

/// What a client sends. The end of the queue means that the client is gone.
#[derive(Debug)]
pub(super) enum Input {
    Stdin(Bytes),
    CloseStdin,
    /// JSON `{"Width":80,"Height":24}`.
    Resize(Bytes),
}

/// What a client gets. The status is always the last.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Output {
    Stdout(Bytes),
    Stderr(Bytes),
    /// JSON `Status`.
    Status(Bytes),
}

/// Carries frames until the node says how it ended, or the client is gone.
pub(super) async fn bridge(
    node: NodeStream,
    mut input: mpsc::Receiver<Input>,
    output: mpsc::Sender<Output>,
) {
    let NodeStream { recv, mut send } = node;
    let mut frames = Frames::new(recv);
    let to_node = async {
        while let Some(input) = input.recv().await {
            let mut frame = Vec::new();
            match &input {
                Input::Stdin(bytes) => encode_frame(Channel::Stdin, bytes, &mut frame),
                Input::CloseStdin => encode_frame(Channel::CloseStdin, b"", &mut frame),
                Input::Resize(json) => encode_frame(Channel::Resize, json, &mut frame),
            }
            let written = async {
                send.write_all(&frame).await?;
                send.flush().await
            };
            if written.await.is_err() {
                // The process may be over before it read all: its status is still to come.
                return std::future::pending().await;
            }
        }
    };
    let to_client = async {
        loop {
            let out = match frames.next().await {
                Some((Channel::Stdout, payload)) => Output::Stdout(payload),
                Some((Channel::Stderr, payload)) => Output::Stderr(payload),
                Some((Channel::Error, payload)) => Output::Status(payload),
                Some((Channel::Stdin | Channel::Resize | Channel::CloseStdin, _)) => continue,
                None => Output::Status(lost()),
            };
            let last = matches!(out, Output::Status(_));
            if output.send(out).await.is_err() || last {
                return;
            }
        }
    };
    tokio::select! {
        () = to_node => tracing::debug!("Client left a stream"),
        () = to_client => {}
    }
}

/// What a client is told when the node is gone in the middle.
fn lost() -> Bytes {
    let status = Status::internal("the connection to the node was lost").to_value();
    serde_json::to_vec(&status).unwrap_or_default().into()
}

/// Frames of a node, as a sequence.
pub(crate) struct Frames {
    recv: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    decoder: FrameDecoder,
    buffer: BytesMut,
}

impl Frames {
    pub(crate) fn new(recv: Box<dyn tokio::io::AsyncRead + Send + Unpin>) -> Self {
        Self { recv, decoder: FrameDecoder::default(), buffer: BytesMut::new() }
    }

    /// The next frame; `None` if the node is gone or talks nonsense. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<(Channel, Bytes)> {
        loop {
            match self.decoder.next() {
                Ok(Some((channel, payload))) => return Some((channel, payload.into())),
                Ok(None) => {}
                Err(err) => {
                    tracing::warn!(error = %err, "A node sent a malformed frame");
                    return None;
                }
            }
            self.buffer.clear();
            self.buffer.reserve(MAX_PAYLOAD / 4);
            let n = self.recv.read_buf(&mut self.buffer).await.ok()?;
            if n == 0 {
                return None;
            }
            self.decoder.push(&self.buffer);
        }
    }
}

/// The lines of a log, as a node sends them.
pub(crate) struct LogReader {
    frames: Frames,
    /// Held open: its end tells the node that nobody reads.
    _send: Box<dyn tokio::io::AsyncWrite + Send + Unpin>,
    first: Option<Bytes>,
    over: bool,
}

impl LogReader {
    pub(crate) fn new(node: NodeStream) -> Self {
        Self { frames: Frames::new(node.recv), _send: node.send, first: None, over: false }
    }

    /// Waits for the node's first word. A refusal is an error here, later it would be too late.
    pub(crate) async fn start(&mut self) -> Result<(), Status> {
        match self.frames.next().await {
            Some((Channel::Stdout | Channel::Stderr, payload)) => self.first = Some(payload),
            Some((Channel::Error, payload)) => {
                self.over = true;
                if let Some(refusal) = refusal(&payload) {
                    return Err(refusal);
                }
            }
            Some((Channel::Stdin | Channel::Resize | Channel::CloseStdin, _)) => {}
            None => {
                self.over = true;
                return Err(Status::internal("the connection to the node was lost"));
            }
        }
        Ok(())
    }

    /// The next piece of the log.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take().filter(|it| !it.is_empty()) {
            return Some(first);
        }
        while !self.over {
            match self.frames.next().await {
                Some((Channel::Stdout | Channel::Stderr, payload)) if !payload.is_empty() => {
                    return Some(payload);
                }
                Some((Channel::Error, _)) | None => self.over = true,
                Some(_) => {}
            }
        }
        None
    }
}

/// The failure that a node's status tells of.
pub(crate) fn refusal(payload: &[u8]) -> Option<Status> {
    let value: Value = serde_json::from_slice(payload).ok()?;
    if value["status"] == "Success" {
        return None;
    }
    let message = hub_api::object::text(&value, "message");
    let code = hub_api::object::int(&value, "code").and_then(|it| u16::try_from(it).ok());
    Some(match code.unwrap_or(500) {
        400 => Status::bad_request(message),
        404 => Status { message: message.to_owned(), ..Status::no_such_resource() },
        _ => Status::internal(message),
    })
}
