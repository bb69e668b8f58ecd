//! What goes into containers: logs, exec, attach, port-forward.

use std::convert::Infallible;

use agent_sync::stream::{StreamKind, StreamRequest};
use futures_util::stream;
use http::{HeaderValue, Request};
use http_body_util::StreamBody;
use hub_api::{FieldError, Status, object};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::{Call, Open};
use crate::limits::{LOG_FIRST_WORD, STREAM_OPEN_TIMEOUT};
use crate::request::body::RequestBody;
use crate::response::{self, Answer};
use crate::streaming::remote_spdy::Wanted;
use crate::streaming::upgrade::{self, Upgrade};
use crate::streaming::{
    LogReader, NodeStream, portforward, portforward_channels, remote_spdy, remote_websocket,
};

const LOG: HeaderValue = HeaderValue::from_static("text/plain");

/// A pod, and where it runs.
struct Target {
    node: String,
    request: StreamRequest,
}

/// `GET .../log`
pub(super) async fn log(call: Call) -> Result<Answer, Status> {
    let kind = log_options(&call)?;
    let entry = call.shared.registry.get(&call.resource, call.namespace(), call.name())?;
    let pod = &*entry.value();
    let container = container(pod, call.query.text("container"))?;
    let node = object::text(pod, "spec.nodeName");
    if node.is_empty() {
        // Nothing has run, nothing was said.
        return Ok(response::ready(http::StatusCode::OK, LOG, Vec::new()));
    }
    let request = stream_request(pod, container, kind);
    let mut reader = LogReader::new(open(&call, node, request).await?);
    // A log that is silent so far gets its head all the same.
    if let Ok(started) = tokio::time::timeout(LOG_FIRST_WORD, reader.start()).await {
        started?;
    }
    let state = (reader, Open::new(call.shared.clone()), call.shared.stopping.clone());
    let frames = stream::unfold(state, |(mut reader, open, stopping)| async move {
        let bytes = stopping.run_until_cancelled(reader.next()).await.flatten()?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), (reader, open, stopping)))
    });
    Ok(response::streamed(LOG, StreamBody::new(frames)))
}

fn log_options(call: &Call) -> Result<StreamKind, Status> {
    let query = &call.query;
    let tail_lines = query.number("tailLines")?;
    let since_seconds = query.number("sinceSeconds")?;
    let limit_bytes = query.number("limitBytes")?;
    let since_time = query.text("sinceTime").map(str::to_owned);
    let mut errors = Vec::new();
    let below = |field: &str, value: Option<i64>, least: i64, detail: &str| {
        value.filter(|it| *it < least).map(|it| FieldError::invalid(field, it, detail))
    };
    const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
    const POSITIVE: &str = "must be greater than 0";
    errors.extend(below("tailLines", tail_lines, 0, NOT_NEGATIVE));
    errors.extend(below("limitBytes", limit_bytes, 1, POSITIVE));
    errors.extend(below("sinceSeconds", since_seconds, 1, POSITIVE));
    if since_time.is_some() && since_seconds.is_some() {
        let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden("", detail));
    }
    if !errors.is_empty() {
        return Err(Status::invalid("", "PodLogOptions", call.name(), errors));
    }
    Ok(StreamKind::Logs {
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        tail_lines,
        since_seconds,
        since_time,
        timestamps: query.flag("timestamps"),
        limit_bytes,
    })
}

/// `exec`, `attach`, `portforward`: everything is found out before the connection changes.
pub(super) async fn stream(
    call: Call,
    mut request: Request<RequestBody>,
) -> Result<Answer, Status> {
    if call.subresource() == Some("portforward") {
        return forward(call, request).await;
    }
    let upgrade =
        upgrade::negotiate(&call.headers, remote_websocket::PROTOCOLS, remote_spdy::PROTOCOLS)?;
    let query = &call.query;
    let tty = query.flag("tty");
    let wanted = Wanted {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        // A terminal has one output.
        stderr: query.flag("stderr") && !tty,
        tty,
    };
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    let Wanted { stdin, stdout, stderr, tty } = wanted;
    let mut options = json!({"stdin": stdin, "stdout": stdout, "stderr": stderr, "tty": tty});
    if let Some(container) = query.text("container") {
        options["container"] = json!(container);
    }
    let mut options_kind = "PodAttachOptions";
    let kind = if call.subresource() == Some("exec") {
        let command: Vec<String> = query.all("command").map(str::to_owned).collect();
        if command.is_empty() {
            return Err(Status::bad_request(
                "you must specify at least one command for the container",
            ));
        }
        options["command"] = json!(command);
        options_kind = "PodExecOptions";
        StreamKind::Exec { command, stdin, stdout, stderr, tty }
    } else {
        StreamKind::Attach { stdin, stdout, stderr, tty }
    };
    let target = running(&call, kind)?;
    admit(&call, options_kind, options).await?;
    let answer = upgrade::switching(upgrade, &call.headers)?;
    let node = open(&call, &target.node, target.request).await?;
    let upgraded = hyper::upgrade::on(&mut request);
    let shared = call.shared.clone();
    let tasks = shared.streams.clone();
    shared.streams.clone().spawn(async move {
        let _open = Open::new(shared.clone());
        let serving = async {
            let io = match upgraded.await {
                Ok(upgraded) => TokioIo::new(upgraded),
                Err(err) => return tracing::debug!(error = %err, "Upgrade failed"),
            };
            match upgrade {
                Upgrade::WebSocket { .. } => remote_websocket::serve(io, node, stdout).await,
                Upgrade::Spdy { .. } => remote_spdy::serve(io, node, wanted, &tasks).await,
            }
        };
        // At the end of the server streams are cut: their processes go with them.
        let _ = shared.stopping.run_until_cancelled(serving).await;
    });
    Ok(answer)
}

async fn forward(call: Call, mut request: Request<RequestBody>) -> Result<Answer, Status> {
    let upgrade = upgrade::negotiate(
        &call.headers,
        portforward::WEBSOCKET_PROTOCOLS,
        portforward::SPDY_PROTOCOLS,
    )?;
    let channels = Upgrade::WebSocket { protocol: portforward_channels::PROTOCOL };
    let ports = if upgrade == channels {
        let query = &call.query;
        portforward_channels::parse_ports(query.all("ports").chain(query.all("port")))?
    } else {
        Vec::new()
    };
    let target = running(&call, StreamKind::PortForward { port: 0 })?;
    let options = if ports.is_empty() { json!({}) } else { json!({"ports": ports}) };
    admit(&call, "PodPortForwardOptions", options).await?;
    let answer = upgrade::switching(upgrade, &call.headers)?;
    let upgraded = hyper::upgrade::on(&mut request);
    let shared = call.shared.clone();
    let target = portforward::Target {
        nodes: shared.nodes.clone(),
        node: target.node,
        request: target.request,
    };
    let tasks = shared.streams.clone();
    shared.streams.clone().spawn(async move {
        let _open = Open::new(shared.clone());
        let serving = async {
            let io = match upgraded.await {
                Ok(upgraded) => TokioIo::new(upgraded),
                Err(err) => return tracing::debug!(error = %err, "Upgrade failed"),
            };
            match upgrade {
                _ if upgrade == channels => {
                    portforward_channels::serve(io, target, ports, &tasks).await;
                }
                Upgrade::WebSocket { .. } => portforward::serve_tunnel(io, target, &tasks).await,
                Upgrade::Spdy { .. } => portforward::serve(io, target, &tasks).await,
            }
        };
        let _ = shared.stopping.run_until_cancelled(serving).await;
    });
    Ok(answer)
}

/// Asks admission about a connection, before anything of it is opened.
async fn admit(call: &Call, kind: &str, mut options: Value) -> Result<(), Status> {
    options["apiVersion"] = json!("v1");
    options["kind"] = json!(kind);
    let subresource = call.subresource().unwrap_or_default();
    let registry = &call.registry;
    registry
        .admit_connect(&call.resource, call.namespace(), call.name(), subresource, options)
        .await
}

async fn open(call: &Call, node: &str, request: StreamRequest) -> Result<NodeStream, Status> {
    let opening = call.shared.nodes.open(node, request);
    match tokio::time::timeout(STREAM_OPEN_TIMEOUT, opening).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(err)) => Err(err.to_status()),
        Err(_) => Err(Status::timeout("the node did not open the stream in time")),
    }
}

/// The pod as a target of streams: it must be on a node, and not be over.
fn running(call: &Call, kind: StreamKind) -> Result<Target, Status> {
    let entry = call.shared.registry.get(&call.resource, call.namespace(), call.name())?;
    let pod = &*entry.value();
    let phase = object::text(pod, "status.phase");
    if matches!(phase, "Succeeded" | "Failed") {
        return Err(Status::bad_request(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        )));
    }
    let container = match kind {
        StreamKind::PortForward { .. }
        | StreamKind::Connect { .. }
        | StreamKind::Stats
        | StreamKind::Page { .. } => String::new(),
        StreamKind::Exec { .. } | StreamKind::Attach { .. } | StreamKind::Logs { .. } => {
            container(pod, call.query.text("container"))?
        }
    };
    let node = object::text(pod, "spec.nodeName").to_owned();
    if node.is_empty() {
        return Err(Status::bad_request(format!(
            "pod {} does not have a host assigned",
            call.name()
        )));
    }
    Ok(Target { node, request: stream_request(pod, container, kind) })
}

fn stream_request(pod: &Value, container: String, kind: StreamKind) -> StreamRequest {
    StreamRequest {
        pod_namespace: object::namespace(pod).to_owned(),
        pod_name: object::name(pod).to_owned(),
        pod_uid: object::uid(pod).to_owned(),
        container,
        kind,
    }
}

/// The container that is meant: the named one, or the only one.
fn container(pod: &Value, wanted: Option<&str>) -> Result<String, Status> {
    let names = |path: &str| -> Vec<&str> {
        object::list(pod, path).iter().map(|it| object::text(it, "name")).collect()
    };
    let (containers, init) = (names("spec.containers"), names("spec.initContainers"));
    let ephemeral = names("spec.ephemeralContainers");
    let pod_name = object::name(pod);
    if let Some(wanted) = wanted {
        let known = [&containers, &init, &ephemeral].into_iter().any(|it| it.contains(&wanted));
        if known {
            return Ok(wanted.to_owned());
        }
        return Err(Status::bad_request(format!(
            "container {wanted} is not valid for pod {pod_name}"
        )));
    }
    match (containers.as_slice(), init.as_slice()) {
        ([only], _) => Ok((*only).to_owned()),
        (many, []) => Err(Status::bad_request(format!(
            "a container name must be specified for pod {pod_name}, choose one of: [{}]",
            many.join(" ")
        ))),
        (many, init) => Err(Status::bad_request(format!(
            "a container name must be specified for pod {pod_name}, choose one of: [{}] or one of the init containers: [{}]",
            many.join(" "),
            init.join(" ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_named_or_the_only_one() {
        let one = json!({"metadata":{"name":"p"},"spec":{"containers":[{"name":"a"}],"initContainers":[{"name":"i"}]}});
        let two =
            json!({"metadata":{"name":"p"},"spec":{"containers":[{"name":"a"},{"name":"b"}]}});
        assert_eq!(container(&one, None).unwrap(), "a");
        assert_eq!(container(&one, Some("i")).unwrap(), "i");
        for (pod, wanted, message) in [
            (&two, None, "a container name must be specified for pod p, choose one of: [a b]"),
            (&two, Some("c"), "container c is not valid for pod p"),
        ] {
            assert_eq!(container(pod, wanted).unwrap_err().message, message);
        }
    }
}
