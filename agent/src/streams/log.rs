//! Logs of one attempt at a container, and on while it runs.

use std::{io, path::PathBuf, time::Duration};

use agent_core::ids::ContainerId;
use agent_runtime::Phase;
use agent_sync::stream::Channel;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Found, Refusal, container_status,
    frames::{FrameReader, FrameWriter},
    parse_id,
};
use crate::{
    logs::{LogQuery, LogReader},
    node::Node,
};

/// Bytes read at once.
const CHUNK: usize = 32 << 10;
/// How often a log that is followed is looked at.
const FOLLOW_PAUSE: Duration = Duration::from_millis(150);

/// How long a followed log may be silent before the client is looked for.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// What the client asked for.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) follow: bool,
    pub(super) previous: bool,
    pub(super) tail_lines: Option<i64>,
    pub(super) since_seconds: Option<i64>,
    pub(super) since_time: Option<String>,
    pub(super) timestamps: bool,
    pub(super) limit_bytes: Option<i64>,
}

impl Options {
    fn query(&self, now: Timestamp) -> LogQuery {
        let ago = |seconds: i64| now.checked_sub(SignedDuration::from_secs(seconds)).ok();
        let at = self.since_time.as_deref().and_then(|it| it.parse().ok());
        LogQuery {
            tail: self.tail_lines.map(|it| usize::try_from(it).unwrap_or(0)),
            since: at.or_else(|| self.since_seconds.and_then(ago)),
            timestamps: self.timestamps,
        }
    }

    fn limit(&self) -> usize {
        self.limit_bytes.and_then(|it| usize::try_from(it).ok()).unwrap_or(usize::MAX)
    }
}

pub(super) async fn serve<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    node: &Node,
    found: &Found,
    options: &Options,
    mut recv: FrameReader<R>,
    send: &mut FrameWriter<W>,
) -> io::Result<Result<(), Refusal>> {
    let id = match attempt(found, options.previous) {
        Ok(id) => id,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let path = node.config.log_path(&found.row.pod, &id);
    let mut reader = open(path, options.query(node.clock.now())).await?;
    let mut left = options.limit();
    let mut input_open = true;
    let mut idle = Duration::ZERO;
    loop {
        // Looked at before the log: what is written until the end is seen in any case.
        let runs = options.follow && is_running(node, &id);
        let before = left;
        reader = copy(reader, send, &mut left).await?;
        if left == 0 || !runs {
            return Ok(Ok(()));
        }
        idle = if left == before { idle.saturating_add(FOLLOW_PAUSE) } else { Duration::ZERO };
        if idle >= KEEPALIVE {
            // A client that is gone shows when it is written to.
            send.write(Channel::Stdout, &[]).await?;
            idle = Duration::ZERO;
        }
        // Both are cancel-safe.
        tokio::select! {
            frame = recv.next(), if input_open => input_open = frame?.is_some(),
            () = tokio::time::sleep(FOLLOW_PAUSE) => {}
        }
    }
}

/// Sends what is there, up to `left` bytes.
async fn copy<W: AsyncWrite + Unpin>(
    mut reader: LogReader,
    send: &mut FrameWriter<W>,
    left: &mut usize,
) -> io::Result<LogReader> {
    loop {
        let (bytes, more, back) = read(reader, CHUNK).await?;
        reader = back;
        let bytes = &bytes[..bytes.len().min(*left)];
        if !bytes.is_empty() {
            send.write(Channel::Stdout, bytes).await?;
        }
        *left -= bytes.len();
        if !more || *left == 0 {
            return Ok(reader);
        }
    }
}

async fn open(path: PathBuf, query: LogQuery) -> io::Result<LogReader> {
    tokio::task::spawn_blocking(move || LogReader::open(&path, query))
        .await
        .map_err(io::Error::other)?
}

/// Reads a piece off the worker threads; the reader comes back with it.
async fn read(mut reader: LogReader, limit: usize) -> io::Result<(Vec<u8>, bool, LogReader)> {
    tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let more = reader.read(limit, &mut bytes)?;
        Ok((bytes, more, reader))
    })
    .await
    .map_err(io::Error::other)?
}

fn is_running(node: &Node, id: &ContainerId) -> bool {
    matches!(node.view.phase(id), Some(Phase::Created | Phase::Running { .. }))
}

/// The attempt whose log is asked for, by the rules of the kubelet.
fn attempt(found: &Found, previous: bool) -> Result<ContainerId, Refusal> {
    let pod = &found.row.pod.name;
    let Some((name, status)) = container_status(found) else {
        return Err(Refusal::internal("the pod has no status yet".to_owned()));
    };
    let ended = |state: &Value| parse_id(&state["terminated"]["containerID"]);
    let last = ended(&status["lastState"]);
    if previous {
        return last.ok_or_else(|| {
            let message =
                format!("previous terminated container \"{name}\" in pod \"{pod}\" not found");
            Refusal::bad_request(message)
        });
    }
    let state = &status["state"];
    if !state["running"].is_null()
        && let Some(id) = parse_id(&status["containerID"])
    {
        return Ok(id);
    }
    let reason = state["waiting"]["reason"].as_str().unwrap_or("ContainerCreating");
    ended(state).or(last).ok_or_else(|| {
        let why = match reason {
            "ErrImagePull" => "image can't be pulled",
            "ImagePullBackOff" => "trying and failing to pull image",
            reason => reason,
        };
        let message = format!("container \"{name}\" in pod \"{pod}\" is waiting to start: {why}");
        Refusal::bad_request(message)
    })
}
