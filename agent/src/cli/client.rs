//! Talks to the agent over its socket.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    thread,
};

use agent_sync::stream::{Channel, FrameDecoder, StreamRequest, encode_frame};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::terminal;
use crate::local_api::{self, LocalRequest};

/// Bytes read at once.
const CHUNK: usize = 16 << 10;

/// A command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("could not reach the agent at {path}: is it running, and are you root?")]
    Connect {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("could not talk to the agent")]
    Talk(#[source] io::Error),
    #[error("{message}")]
    Refused { message: String },
    #[error("could not write the output")]
    Output(#[source] io::Error),
    #[error("could not read {path}")]
    File {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("could not parse {path}")]
    Json {
        path: PathBuf,
        #[source]
        err: serde_json::Error,
    },
}

/// One connection, for one request.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
}

impl Client {
    pub(super) async fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|err| ClientError::Connect { path: path.to_owned(), err })?;
        Ok(Self { stream })
    }

    pub(super) async fn ask(mut self, request: &LocalRequest) -> Result<Value, ClientError> {
        self.send(request).await?;
        let answer = local_api::read_message(&mut self.stream).await.map_err(ClientError::Talk)?;
        let mut answer: Value = serde_json::from_slice(&answer)
            .map_err(|err| ClientError::Talk(io::Error::other(err)))?;
        match answer["error"].as_str() {
            Some(message) => Err(ClientError::Refused { message: message.to_owned() }),
            None => Ok(answer["ok"].take()),
        }
    }

    async fn send(&mut self, request: &LocalRequest) -> Result<(), ClientError> {
        let bytes =
            serde_json::to_vec(request).map_err(|err| ClientError::Talk(io::Error::other(err)))?;
        local_api::write_message(&mut self.stream, &bytes).await.map_err(ClientError::Talk)
    }

    /// Opens a stream and joins it with this process's own; the answer is the exit code.
    pub(super) async fn stream(
        mut self,
        request: StreamRequest,
        stdin: bool,
    ) -> Result<u8, ClientError> {
        self.send(&LocalRequest::Stream { request }).await?;
        let (mut recv, mut send) = self.stream.into_split();
        let mut resized = signal(SignalKind::window_change()).map_err(ClientError::Talk)?;
        let mut decoder = FrameDecoder::default();
        let mut input = stdin.then(read_stdin);
        let mut chunk = vec![0; CHUNK];
        let mut pending = size_frame();
        loop {
            // All are cancel-safe. Input waits beside output: the other side may read no more before
            // its output is taken.
            tokio::select! {
                n = send.write(&pending), if !pending.is_empty() => match n {
                    Ok(n) => drop(pending.drain(..n)),
                    // A side that reads no more says so with its last frame.
                    Err(_) => pending.clear(),
                },
                n = recv.read(&mut chunk) => {
                    let n = n.map_err(ClientError::Talk)?;
                    if n == 0 {
                        let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
                        return Err(ClientError::Talk(ended));
                    }
                    decoder.push(&chunk[..n]);
                    if let Some(code) = output(&mut decoder)? {
                        return Ok(code);
                    }
                }
                bytes = next_input(&mut input), if pending.is_empty() => match bytes {
                    Some(bytes) => encode_frame(Channel::Stdin, &bytes, &mut pending),
                    None => {
                        input = None;
                        encode_frame(Channel::CloseStdin, &[], &mut pending);
                    }
                },
                _ = resized.recv() => pending.extend(size_frame()),
            }
        }
    }
}

fn size_frame() -> Vec<u8> {
    let mut frame = Vec::new();
    if let Some((width, height)) = terminal::size() {
        let size = json!({"Width": width, "Height": height}).to_string();
        encode_frame(Channel::Resize, size.as_bytes(), &mut frame);
    }
    frame
}

/// Writes what came; the exit code when the last frame was among it.
fn output(decoder: &mut FrameDecoder) -> Result<Option<u8>, ClientError> {
    let malformed = |err| ClientError::Talk(io::Error::other(err));
    while let Some((channel, bytes)) = decoder.next().map_err(malformed)? {
        match channel {
            Channel::Stdout => write(&mut io::stdout(), &bytes)?,
            Channel::Stderr => write(&mut io::stderr(), &bytes)?,
            Channel::Error => return exit_code(&bytes).map(Some),
            Channel::Stdin | Channel::Resize | Channel::CloseStdin => {}
        }
    }
    Ok(None)
}

fn write(out: &mut impl Write, bytes: &[u8]) -> Result<(), ClientError> {
    out.write_all(bytes).and_then(|()| out.flush()).map_err(ClientError::Output)
}

/// Reads standard input on a thread of its own, which ends with it or with the process.
fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (bytes_tx, bytes_rx) = mpsc::channel(1);
    thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        while let Ok(n @ 1..) = io::stdin().read(&mut buffer) {
            if bytes_tx.blocking_send(buffer[..n].to_vec()).is_err() {
                return;
            }
        }
    });
    bytes_rx
}

/// The next input; `None` when it ended, never when there is none to come.
async fn next_input(input: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

fn exit_code(status: &[u8]) -> Result<u8, ClientError> {
    let status: Value = serde_json::from_slice(status).unwrap_or_default();
    if status["status"] == "Success" {
        return Ok(0);
    }
    let causes = status["details"]["causes"].as_array();
    let code = causes.into_iter().flatten().find(|it| it["reason"] == "ExitCode");
    if let Some(code) = code.and_then(|it| it["message"].as_str()?.parse::<i32>().ok()) {
        return Ok(u8::try_from(code).unwrap_or(u8::MAX));
    }
    let message = status["message"].as_str().unwrap_or("the stream ended badly").to_owned();
    Err(ClientError::Refused { message })
}
