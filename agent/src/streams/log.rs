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
    let mut left = options.limit();
    let mut reader = Some(open(path, options.query(node.clock.now())).await?);
    loop {
        // Looked at before the log: what is written until the end is seen in any case.
        let runs = options.follow && is_running(node, &id);
        while let Some((bytes, more, back)) = read(reader.take(), left.min(CHUNK)).await? {
            reader = Some(back);
            let bytes = &bytes[..bytes.len().min(left)];
            if !bytes.is_empty() {
                send.write(Channel::Stdout, bytes).await?;
            }
            left -= bytes.len();
            if left == 0 {
                return Ok(Ok(()));
            }
            if !more {
                break;
            }
        }
        if !runs {
            return Ok(Ok(()));
        }
        // Both are cancel-safe. A client that goes away ends the stream here.
        tokio::select! {
            frame = recv.next() => if frame?.is_none() && !is_half_open(&mut recv).await {
                return Ok(Ok(()));
            },
            () = tokio::time::sleep(FOLLOW_PAUSE) => {}
        }
    }
}

/// The hub may end its direction at once and go on reading: then the pause is all that is left.
async fn is_half_open<R: AsyncRead + Unpin>(recv: &mut FrameReader<R>) -> bool {
    let _ = recv;
    tokio::time::sleep(FOLLOW_PAUSE).await;
    true
}

async fn open(path: PathBuf, query: LogQuery) -> io::Result<LogReader> {
    tokio::task::spawn_blocking(move || LogReader::open(&path, query))
        .await
        .map_err(io::Error::other)?
}

/// Reads a piece off the worker threads; the reader comes back with it.
async fn read(
    reader: Option<LogReader>,
    limit: usize,
) -> io::Result<Option<(Vec<u8>, bool, LogReader)>> {
    let Some(mut reader) = reader else { return Ok(None) };
    tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let more = reader.read(limit, &mut bytes)?;
        Ok(Some((bytes, more, reader)))
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
