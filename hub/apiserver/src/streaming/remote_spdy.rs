//! Exec and attach over SPDY/3.1: the client opens one stream each for error, stdin, stdout,
//! stderr and terminal sizes, named by the header `streamtype`.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::NodeStream;
use super::bridge::{Input, Output, bridge};
use super::spdy::{Session, SpdyError, SpdyStream, StreamReader, StreamWriter};
use crate::limits::{STREAM_QUEUE, STREAM_SETUP_TIMEOUT};

/// Protocols of exec and attach, the best first.
pub(crate) const PROTOCOLS: &[&str] = &["v4.channel.k8s.io"];

/// Which streams the client will open beside the one for the error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

#[derive(Default)]
struct Streams {
    error: Option<SpdyStream>,
    stdin: Option<SpdyStream>,
    stdout: Option<SpdyStream>,
    stderr: Option<SpdyStream>,
    resize: Option<SpdyStream>,
}

/// Serves one exec or attach to its end.
pub(crate) async fn serve<T>(io: T, node: NodeStream, wanted: Wanted, tasks: &TaskTracker)
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut session = Session::start(io, tasks);
    let setup = tokio::time::timeout(STREAM_SETUP_TIMEOUT, accept(&mut session, wanted));
    let Ok(Some(streams)) = setup.await else {
        tracing::debug!("Client did not open its streams");
        return;
    };
    let (input_tx, input) = mpsc::channel(STREAM_QUEUE);
    let (output, output_rx) = mpsc::channel(STREAM_QUEUE);
    let Streams { error, stdin, stdout, stderr, resize } = streams;
    let writer = |it: Option<SpdyStream>| it.map(|it| it.writer);
    let writers = Writers { error: writer(error), stdout: writer(stdout), stderr: writer(stderr) };
    let reading = async {
        tokio::join!(
            read_stdin(stdin.map(|it| it.reader), &input_tx),
            read_sizes(resize.map(|it| it.reader), &input_tx),
        );
        // Input may end long before the client goes.
        session.peer_gone().cancelled().await;
    };
    let work = async { tokio::join!(bridge(node, input, output), writers.write(output_rx)).1 };
    tokio::pin!(work);
    let written = tokio::select! {
        written = work.as_mut() => written,
        () = reading => Err(SpdyError::Closed),
    };
    if let Err(err) = written {
        tracing::debug!(error = %err, "Client left a stream");
    }
    session.close().await;
}

async fn accept(session: &mut Session, wanted: Wanted) -> Option<Streams> {
    let mut streams = Streams::default();
    loop {
        let missing = streams.error.is_none()
            || (wanted.stdin && streams.stdin.is_none())
            || (wanted.stdout && streams.stdout.is_none())
            || (wanted.stderr && !wanted.tty && streams.stderr.is_none())
            || (wanted.tty && streams.resize.is_none());
        if !missing {
            return Some(streams);
        }
        let stream = session.accept().await?;
        let kind = stream.headers.first("streamtype").unwrap_or_default().to_owned();
        let slot = match kind.as_str() {
            "error" => &mut streams.error,
            "stdin" => &mut streams.stdin,
            "stdout" => &mut streams.stdout,
            "stderr" => &mut streams.stderr,
            "resize" => &mut streams.resize,
            _ => {
                stream.writer.reset().await.ok()?;
                continue;
            }
        };
        *slot = Some(stream);
    }
}

async fn read_stdin(stdin: Option<StreamReader>, input: &mpsc::Sender<Input>) {
    let Some(mut stdin) = stdin else { return };
    while let Some(bytes) = stdin.read().await {
        if input.send(Input::Stdin(bytes)).await.is_err() {
            return;
        }
    }
    let _ = input.send(Input::CloseStdin).await; // the process may be over already
}

/// Sizes come as JSON objects, one after the other; a piece may hold several.
async fn read_sizes(resize: Option<StreamReader>, input: &mpsc::Sender<Input>) {
    let Some(mut resize) = resize else { return };
    let mut pending = Vec::new();
    while let Some(bytes) = resize.read().await {
        pending.extend_from_slice(&bytes);
        while let Some(end) = pending.iter().position(|byte| *byte == b'}') {
            let rest = pending.split_off(end + 1);
            let size = std::mem::replace(&mut pending, rest);
            let size = size.trim_ascii().to_vec();
            if input.send(Input::Resize(size.into())).await.is_err() {
                return;
            }
        }
        if pending.len() > 1024 {
            return;
        }
    }
}

struct Writers {
    error: Option<StreamWriter>,
    stdout: Option<StreamWriter>,
    stderr: Option<StreamWriter>,
}

impl Writers {
    async fn write(self, mut output: mpsc::Receiver<Output>) -> Result<(), SpdyError> {
        while let Some(out) = output.recv().await {
            let (writer, bytes) = match out {
                Output::Stdout(bytes) => (&self.stdout, bytes),
                Output::Stderr(bytes) => (&self.stderr, bytes),
                Output::Status(bytes) => {
                    self.finish_output().await?;
                    (&self.error, bytes)
                }
            };
            write_to(writer, bytes).await?;
        }
        if let Some(error) = &self.error {
            error.finish().await?;
        }
        Ok(())
    }

    /// Output ends before the status is told.
    async fn finish_output(&self) -> Result<(), SpdyError> {
        for writer in [&self.stdout, &self.stderr].into_iter().flatten() {
            writer.finish().await?;
        }
        Ok(())
    }
}

async fn write_to(writer: &Option<StreamWriter>, bytes: Bytes) -> Result<(), SpdyError> {
    match writer {
        Some(writer) => writer.write(bytes).await,
        None => Ok(()),
    }
}
