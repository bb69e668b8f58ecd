//! The local socket: what a person on the machine may ask, with or without a hub.
//!
//! A request and its answer are JSON with a length in front (u32, big endian). After a request
//! for a stream, both sides speak the frames of `agent_sync::stream`. Only root gets an answer.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use agent_sync::{Change, ObjectKey, stream::StreamRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{chain, node::Node, streams};

/// Largest request or answer, in bytes.
const MAX_MESSAGE: u32 = 64 << 20;
/// A client that says nothing is cut off after this time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept: descriptors may have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What may be asked.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "call", rename_all = "camelCase")]
pub enum LocalRequest {
    Status,
    Pods,
    Images,
    /// Opens a stream; there is no answer but its frames.
    Stream {
        request: StreamRequest,
    },
    /// Replaces the desired objects, as a hub would.
    PutDesired {
        objects: Vec<Value>,
    },
}

/// The socket could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("another agent serves {path}")]
    InUse { path: PathBuf },
    #[error("could not bind {path}")]
    Bind {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
}

/// Makes the socket, for root alone.
///
/// # Errors
/// Another agent has it, or it cannot be made.
pub fn bind(path: &Path) -> Result<UnixListener, ServeError> {
    let failed = |err| ServeError::Bind { path: path.to_owned(), err };
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(ServeError::InUse { path: path.to_owned() });
    }
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(failed(err)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Serves until the agent stops.
pub async fn serve(node: Arc<Node>, listener: UnixListener, shutdown: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        // All are cancel-safe.
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_one(Arc::clone(&node), stream));
                }
                Err(err) => {
                    tracing::warn!(error = %err, "Could not accept a local connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    connections.shutdown().await;
    // The next agent makes its own.
    let _ = std::fs::remove_file(node.config.socket());
}

async fn serve_one(node: Arc<Node>, mut stream: UnixStream) {
    let is_root = stream.peer_cred().is_ok_and(|it| it.uid() == 0);
    if !is_root {
        tracing::warn!("Refused a local connection that is not root's");
        return;
    }
    let request = tokio::time::timeout(REQUEST_TIMEOUT, read_message(&mut stream)).await;
    let Ok(Ok(request)) = request else { return };
    let answer = match serde_json::from_slice::<LocalRequest>(&request) {
        Ok(LocalRequest::Stream { request }) => {
            let (recv, send) = stream.into_split();
            streams::serve(node, request, recv, send).await;
            return;
        }
        Ok(request) => answer(&node, request).await,
        Err(err) => Err(format!("could not read the request: {err}")),
    };
    let message = match answer {
        Ok(value) => json!({"ok": value}),
        Err(error) => json!({"error": error}),
    };
    if let Err(err) = write_message(&mut stream, message.to_string().as_bytes()).await {
        tracing::debug!(error = %err, "A local client did not wait for its answer");
    }
}

async fn answer(node: &Node, request: LocalRequest) -> Result<Value, String> {
    match request {
        LocalRequest::Status => Ok(status(node)),
        LocalRequest::Pods => serde_json::to_value(node.pods.list()).map_err(|it| it.to_string()),
        LocalRequest::Images => Ok(images(node)),
        LocalRequest::PutDesired { objects } => put_desired(node, &objects).await,
        LocalRequest::Stream { .. } => Err("a stream has no answer".to_owned()),
    }
}

fn status(node: &Node) -> Value {
    let view = node.desired.snapshot();
    let pods = node.pods.list();
    let ready = |row: &&crate::node::PodRow| {
        let conditions = row.status["conditions"].as_array();
        conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True")
    };
    json!({
        "node": node.config.node_name,
        "hub": node.link.get().map(crate::link::LinkHandle::status),
        "podCIDR": node.network.cidr().map(|it| it.to_string()),
        "address": node.host_ip().map(|it| it.to_string()),
        "pods": pods.len(),
        "ready": pods.iter().filter(ready).count(),
        "desiredObjects": view.objects.len(),
        "desiredComplete": view.complete,
        "reportsWaiting": node.outbox.len(),
        "stateDir": node.config.state_dir,
        "version": env!("CARGO_PKG_VERSION"),
    })
}

fn images(node: &Node) -> Value {
    let images = node.images.list().into_iter().map(|image| {
        json!({
            "name": image.reference.to_string(),
            "digest": image.digest.to_string(),
            "layers": image.layers.len(),
            "sizeBytes": image.size_bytes,
        })
    });
    Value::Array(images.collect())
}

/// Replaces the whole set of desired objects.
async fn put_desired(node: &Node, objects: &[Value]) -> Result<Value, String> {
    let before = node.desired.snapshot();
    let mut gone: Vec<ObjectKey> = before.objects.keys().cloned().collect();
    let mut changes = Vec::new();
    for object in objects {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let meta = &object["metadata"];
        let key =
            ObjectKey::new(text(&object["kind"]), text(&meta["namespace"]), text(&meta["name"]));
        gone.retain(|it| *it != key);
        let known = before.objects.get(&key);
        if known.is_some_and(|it| it.body.parse::<Value>().as_ref() == Some(object)) {
            continue;
        }
        let revision = known.map_or(1, |it| it.revision + 1);
        let body = serde_json::to_vec(object).map_err(|err| err.to_string())?;
        changes.push(Change::Upsert { key, revision, body: body.into() });
    }
    changes.extend(gone.into_iter().map(|key| Change::Delete { key }));
    let n_changes = changes.len();
    node.desired.apply(changes, true).await.map_err(|err| chain(&err))?;
    Ok(json!({"changes": n_changes}))
}

/// Reads one message.
///
/// # Errors
/// The other side is gone, or sends too much.
pub async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let size = stream.read_u32().await?;
    if size > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    let mut message = Vec::new();
    stream.take(u64::from(size)).read_to_end(&mut message).await?;
    if u32::try_from(message.len()) == Ok(size) {
        Ok(message)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Writes one message.
///
/// # Errors
/// The other side is gone.
pub async fn write_message(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &[u8],
) -> io::Result<()> {
    let size = u32::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_u32(size).await?;
    stream.write_all(message).await?;
    stream.flush().await
}
