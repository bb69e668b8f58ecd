//! Serves what somebody asked of a container: exec, attach, logs, connections; or of the node:
//! statistics and pages.
//!
//! The other side is the hub or a local command; both speak the frames of `agent_sync::stream`.
//! The last frame is always a `metav1.Status`, after all output: clients depend on both.

mod exec;
mod frames;
mod log;
mod page;
mod port_forward;

use std::{io, sync::Arc};

use agent_core::ids::{ContainerId, ContainerName, PodUid};
use agent_sync::{
    stats::MAX_REPORT,
    stream::{Channel, StreamKind, StreamRequest},
};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::node::{Node, PodRow};
use frames::{FrameReader, FrameWriter};
use port_forward::Door;

/// Why a stream ends other than well, as the client is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    code: u16,
    reason: &'static str,
    message: String,
    details: Option<Value>,
}

impl Refusal {
    fn not_found(message: String) -> Self {
        Self { code: 404, reason: "NotFound", message, details: None }
    }

    fn bad_request(message: String) -> Self {
        Self { code: 400, reason: "BadRequest", message, details: None }
    }

    fn internal(message: String) -> Self {
        Self { code: 500, reason: "InternalError", message, details: None }
    }

    /// A command ended with a code of its own.
    fn exit_code(code: i32) -> Self {
        Self {
            code: 500,
            reason: "NonZeroExitCode",
            message: format!(
                "command terminated with non-zero exit code: error executing command, exit code \
                 {code}"
            ),
            details: Some(json!({"causes": [{"reason": "ExitCode", "message": code.to_string()}]})),
        }
    }

    fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        });
        // A command's own code is no failure of ours.
        if self.reason != "NonZeroExitCode" {
            status["code"] = json!(self.code);
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}

/// Serves one request to its end. `recv` and `send` carry frames from here on.
pub async fn serve(
    node: Arc<Node>,
    request: StreamRequest,
    recv: impl AsyncRead + Unpin + Send,
    send: impl AsyncWrite + Unpin + Send,
) {
    let (recv, mut send) = (FrameReader::new(recv), FrameWriter::new(send));
    let result = match &request.kind {
        StreamKind::Stats => stats(&node, &mut send).await,
        StreamKind::Page { path } => page::serve(&node, path, &mut send).await,
        StreamKind::Exec { .. }
        | StreamKind::Attach { .. }
        | StreamKind::Logs { .. }
        | StreamKind::PortForward { .. }
        | StreamKind::Connect { .. } => match find(&node, &request) {
            Err(refusal) => Ok(Err(refusal)),
            Ok(found) => dispatch(&node, &request, &found, recv, &mut send).await,
        },
    };
    let status = match result {
        Ok(Ok(())) => json!({"metadata": {}, "status": "Success"}),
        Ok(Err(refusal)) => refusal.to_status(),
        Err(err) => {
            // The other side is gone: there is nobody to tell.
            tracing::debug!(error = %err, "A stream was cut off");
            return;
        }
    };
    if let Err(err) = send.finish(&status).await {
        tracing::debug!(error = %err, "A stream was cut off at its end");
    }
}

/// What the node and its containers use.
async fn stats<W: AsyncWrite + Unpin>(
    node: &Node,
    send: &mut FrameWriter<W>,
) -> io::Result<Result<(), Refusal>> {
    let report = node.stats.measure(node).await.to_report();
    let json = serde_json::to_vec(&report)?;
    if json.len() > MAX_REPORT {
        return Ok(Err(Refusal::internal("there is more to report than fits".to_owned())));
    }
    send.write(Channel::Stdout, &json).await?;
    Ok(Ok(()))
}

/// A pod that a stream is about, and the container if it names one.
struct Found {
    row: PodRow,
    container: Option<ContainerName>,
}

async fn dispatch<R: AsyncRead + Unpin + Send, W: AsyncWrite + Unpin + Send>(
    node: &Arc<Node>,
    request: &StreamRequest,
    found: &Found,
    recv: FrameReader<R>,
    send: &mut FrameWriter<W>,
) -> io::Result<Result<(), Refusal>> {
    match &request.kind {
        StreamKind::PortForward { port } => {
            port_forward::serve(node, found, Door::Loopback, *port, recv, send).await
        }
        StreamKind::Connect { port } => {
            port_forward::serve(node, found, Door::Address, *port, recv, send).await
        }
        StreamKind::Exec { command, stdin, stdout, stderr, tty } => {
            let wanted = exec::Wanted { stdin: *stdin, stdout: *stdout, stderr: *stderr };
            match running(found) {
                Err(refusal) => Ok(Err(refusal)),
                Ok(id) => exec::exec(node, &id, command, *tty, wanted, recv, send).await,
            }
        }
        StreamKind::Attach { stdin, stdout, stderr, tty: _ } => {
            let wanted = exec::Wanted { stdin: *stdin, stdout: *stdout, stderr: *stderr };
            match running(found) {
                Err(refusal) => Ok(Err(refusal)),
                Ok(id) => exec::attach(node, &id, wanted, recv, send).await,
            }
        }
        StreamKind::Logs {
            follow,
            previous,
            tail_lines,
            since_seconds,
            since_time,
            timestamps,
            limit_bytes,
        } => {
            let options = log::Options {
                follow: *follow,
                previous: *previous,
                tail_lines: *tail_lines,
                since_seconds: *since_seconds,
                since_time: since_time.clone(),
                timestamps: *timestamps,
                limit_bytes: *limit_bytes,
            };
            log::serve(node, found, &options, recv, send).await
        }
        StreamKind::Stats | StreamKind::Page { .. } => {
            Ok(Err(Refusal::bad_request("the request names no pod".to_owned())))
        }
    }
}

/// The pod, by its UID or, where none is given, by its name; the container, by its name or because
/// there is only one.
fn find(node: &Node, request: &StreamRequest) -> Result<Found, Refusal> {
    let uid: Option<PodUid> = match request.pod_uid.as_str() {
        "" => None,
        text => Some(
            text.parse().map_err(|_| Refusal::bad_request(format!("{text:?} is no pod UID")))?,
        ),
    };
    let matches = |row: &PodRow| match uid {
        Some(uid) => row.uid == uid,
        None => row.pod.namespace == request.pod_namespace && row.pod.name == request.pod_name,
    };
    let row = node.pods.list().into_iter().find(matches).ok_or_else(|| {
        let StreamRequest { pod_namespace, pod_name, .. } = request;
        Refusal::not_found(format!("pod \"{pod_name}\" not found in {pod_namespace} on this node"))
    })?;
    if matches!(request.kind, StreamKind::PortForward { .. } | StreamKind::Connect { .. }) {
        return Ok(Found { row, container: None });
    }
    let container = container_name(&row, &request.container)?;
    Ok(Found { row, container: Some(container) })
}

fn container_name(row: &PodRow, wanted: &str) -> Result<ContainerName, Refusal> {
    let names: Vec<&str> = statuses(row).filter_map(|it| it["name"].as_str()).collect();
    let pod = &row.pod.name;
    let name = match (wanted, mains(row).as_slice()) {
        ("", [only]) => *only,
        ("", many) => {
            let list = many.join(" ");
            return Err(Refusal::bad_request(format!(
                "a container name must be specified for pod {pod}, choose one of: [{list}]"
            )));
        }
        (wanted, _) if names.contains(&wanted) => wanted,
        (wanted, _) => {
            return Err(Refusal::bad_request(format!(
                "container {wanted} is not valid for pod {pod}"
            )));
        }
    };
    name.parse().map_err(|_| Refusal::bad_request(format!("{name:?} is no container name")))
}

fn mains(row: &PodRow) -> Vec<&str> {
    let list = row.status["containerStatuses"].as_array();
    list.into_iter().flatten().filter_map(|it| it["name"].as_str()).collect()
}

fn statuses(row: &PodRow) -> impl Iterator<Item = &Value> {
    let list = |key: &str| row.status[key].as_array().into_iter().flatten();
    list("containerStatuses")
        .chain(list("initContainerStatuses"))
        .chain(list("ephemeralContainerStatuses"))
}

fn container_status(found: &Found) -> Option<(&ContainerName, &Value)> {
    let name = found.container.as_ref()?;
    let status = statuses(&found.row).find(|it| it["name"] == name.as_str())?;
    Some((name, status))
}

/// The attempt that runs now.
fn running(found: &Found) -> Result<ContainerId, Refusal> {
    let (name, status) =
        container_status(found).ok_or_else(|| Refusal::internal("no status yet".to_owned()))?;
    if status["state"]["running"].is_null() {
        return Err(Refusal::internal(format!("container not found (\"{name}\")")));
    }
    parse_id(&status["containerID"]).ok_or_else(|| Refusal::internal("no container id".to_owned()))
}

fn parse_id(value: &Value) -> Option<ContainerId> {
    value.as_str()?.split_once("://")?.1.parse().ok()
}
