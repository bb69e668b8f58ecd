//! The health protocol of gRPC, from the asking side: one call of `grpc.health.v1.Health/Check`.
//!
//! The words for what goes wrong are the kubelet's.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{
    FutureExt,
    future::{Either, select},
};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;

use crate::{actions::ActionOutcome, chain, http::USER_AGENT};

/// Longest answer that is read, in bytes; a good one has seven.
const MAX_ANSWER: usize = 4096;
/// Length of the prefix of a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
const UNIMPLEMENTED: u32 = 12;
const DEADLINE_EXCEEDED: u32 = 4;
const SERVING: u64 = 1;

/// The call came to nothing.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("could not speak HTTP/2")]
    Http(#[from] h2::Error),
    #[error("could not make the request")]
    Request(#[from] http::Error),
    #[error("unexpected HTTP status {0}")]
    Status(http::StatusCode),
    #[error("rpc error: code = {code} desc = {message}")]
    Rpc { code: u32, message: String },
    #[error("malformed answer")]
    Malformed,
    #[error("the connection was closed")]
    Closed,
}

/// Asks how a service is; an empty name stands for the server as a whole.
pub(crate) async fn check(address: SocketAddr, service: &str, timeout: Duration) -> ActionOutcome {
    let connected = AtomicBool::new(false);
    let deadline = tokio::time::timeout(timeout, async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|err| format!("error: failed to connect service at \"{address}\": {err}"))?;
        connected.store(true, Ordering::Relaxed);
        call(stream, address, service).await.map_err(|err| explain(&err, timeout))
    });
    match deadline.await {
        Ok(Ok(SERVING)) => ActionOutcome::Success,
        Ok(Ok(status)) => {
            let word = match status {
                0 => "UNKNOWN".to_owned(),
                2 => "NOT_SERVING".to_owned(),
                3 => "SERVICE_UNKNOWN".to_owned(),
                other => other.to_string(),
            };
            ActionOutcome::Failure(format!("service unhealthy (responded with {word:?})"))
        }
        Ok(Err(message)) => ActionOutcome::Failure(message),
        Err(_elapsed) if connected.load(Ordering::Relaxed) => ActionOutcome::Failure(format!(
            "timeout: health rpc did not complete within {timeout:?}"
        )),
        Err(_elapsed) => ActionOutcome::Failure(format!(
            "timeout: failed to connect service \"{address}\" within {timeout:?}: context deadline \
             exceeded"
        )),
    }
}

fn explain(err: &CheckError, timeout: Duration) -> String {
    match err {
        CheckError::Rpc { code: UNIMPLEMENTED, message } => format!(
            "error: this server does not implement the grpc health protocol \
             (grpc.health.v1.Health): {message}"
        ),
        CheckError::Rpc { code: DEADLINE_EXCEEDED, .. } => {
            format!("timeout: health rpc did not complete within {timeout:?}")
        }
        CheckError::Http(_)
        | CheckError::Request(_)
        | CheckError::Status(_)
        | CheckError::Rpc { .. }
        | CheckError::Malformed
        | CheckError::Closed => format!("error: health rpc probe failed: {}", chain(err)),
    }
}

/// One call on a connection of its own. Returns the status that the service says it has.
async fn call(stream: TcpStream, address: SocketAddr, service: &str) -> Result<u64, CheckError> {
    let (sender, connection) = h2::client::handshake(stream).await?;
    let asking = std::pin::pin!(ask(sender, address, service));
    let connection = std::pin::pin!(connection);
    // The connection moves the bytes; when it ends first, the answer may be here all the same, or never.
    match select(asking, connection).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, asking)) => asking.now_or_never().unwrap_or(Err(CheckError::Closed)),
    }
}

async fn ask(
    sender: h2::client::SendRequest<Bytes>,
    address: SocketAddr,
    service: &str,
) -> Result<u64, CheckError> {
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", USER_AGENT)
        .body(())?;
    let (answer, mut body) = sender.ready().await?.send_request(request, false)?;
    body.send_data(message(service), true)?;
    let answer = answer.await?;
    if answer.status() != http::StatusCode::OK {
        return Err(CheckError::Status(answer.status()));
    }
    // A failure may come without a body, and then with the headers.
    rpc_status(answer.headers())?;
    let mut body = answer.into_body();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_ANSWER {
            return Err(CheckError::Malformed);
        }
    }
    match body.trailers().await? {
        Some(trailers) => rpc_status(&trailers)?,
        None if bytes.is_empty() => return Err(CheckError::Malformed),
        None => {}
    }
    serving_status(&bytes).ok_or(CheckError::Malformed)
}

fn rpc_status(headers: &HeaderMap) -> Result<(), CheckError> {
    let text = |name| headers.get(name).and_then(|it| it.to_str().ok());
    match text("grpc-status").map(str::parse) {
        None | Some(Ok(0)) => Ok(()),
        Some(Ok(code)) => {
            let message = text("grpc-message").unwrap_or_default().to_owned();
            Err(CheckError::Rpc { code, message })
        }
        Some(Err(_)) => Err(CheckError::Malformed),
    }
}

/// `HealthCheckRequest { string service = 1 }`.
fn message(service: &str) -> Bytes {
    let mut body = BytesMut::new();
    if !service.is_empty() {
        body.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            body.put_u8(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        body.put_u8(u8::try_from(length).unwrap_or(0));
        body.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(PREFIX + body.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(body.len()).unwrap_or(0));
    frame.put(body);
    frame.freeze()
}

/// `HealthCheckResponse { ServingStatus status = 1 }`.
pub(crate) fn serving_status(frame: &[u8]) -> Option<u64> {
    let (prefix, body) = frame.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes(prefix.get(1..)?.try_into().ok()?);
    if prefix.first() != Some(&0) || usize::try_from(length).ok()? != body.len() {
        return None;
    }
    match body {
        // A zero is left out.
        [] => Some(0),
        [0x08, value @ 0..=0x7f] => Some(u64::from(*value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
