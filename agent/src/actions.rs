//! Does what a probe or a hook asks of a container: a command, a request, a connection, a pause.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use agent_core::{
    ids::ContainerId,
    probe::{HttpGet, ProbeAction},
};
use agent_runtime::{CallError, ExecProcess, ExecSpec, RefusalKind};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
};

use crate::{chain, grpc, http, node::Node, pod_worker::rt};

/// A hook that takes longer is cut off by the end of the grace period anyway.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(3600);
/// Output of a command that is kept for the message, in bytes. The rest is read and dropped.
const MAX_OUTPUT: usize = 10 << 10;
const SIGKILL: i32 = 9;

/// What came of an action.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ActionOutcome {
    Success,
    /// The container said no.
    Failure(String),
    /// It could not be asked: that says nothing about it.
    Error(String),
}

impl ActionOutcome {
    /// What the container said, if it was asked at all. The kubelet throws errors of a prober away.
    pub fn answer(&self) -> Option<bool> {
        match self {
            Self::Success => Some(true),
            Self::Failure(_) => Some(false),
            Self::Error(_) => None,
        }
    }

    pub fn into_result(self) -> Result<(), String> {
        match self {
            Self::Success => Ok(()),
            Self::Failure(message) | Self::Error(message) => Err(message),
        }
    }
}

/// Runs one action; `pod_ip` is where requests go that name no host.
pub async fn run(
    node: &Node,
    id: &ContainerId,
    action: &ProbeAction,
    pod_ip: Option<IpAddr>,
    timeout: Duration,
) -> ActionOutcome {
    match action {
        ProbeAction::Exec { command } => exec(node, id, command, timeout).await,
        ProbeAction::Http(get) => {
            let Some(address) = resolve(get.host.as_deref(), get.port, pod_ip).await else {
                return ActionOutcome::Error("no address to ask".to_owned());
            };
            http_get(get, address, timeout).await
        }
        ProbeAction::Tcp { host, port } => {
            let Some(address) = resolve(host.as_deref(), *port, pod_ip).await else {
                return ActionOutcome::Error("no address to connect to".to_owned());
            };
            tcp(address, timeout).await
        }
        ProbeAction::Grpc { port, service } => {
            let Some(address) = resolve(None, *port, pod_ip).await else {
                return ActionOutcome::Error("no address to connect to".to_owned());
            };
            grpc::check(address, service, timeout).await
        }
        ProbeAction::Sleep { seconds } => {
            let seconds = u64::try_from(*seconds).unwrap_or(0);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            ActionOutcome::Success
        }
        ProbeAction::Unsupported { what } => {
            ActionOutcome::Error(format!("{what} is not supported on this node"))
        }
    }
}

async fn resolve(host: Option<&str>, port: u16, pod_ip: Option<IpAddr>) -> Option<SocketAddr> {
    match host {
        None => pod_ip.map(|ip| SocketAddr::new(ip, port)),
        Some(host) => tokio::net::lookup_host((host, port)).await.ok()?.next(),
    }
}

async fn http_get(get: &HttpGet, address: SocketAddr, timeout: Duration) -> ActionOutcome {
    let place = http::Place {
        https: get.https,
        host: get.host.clone().unwrap_or_else(|| address.ip().to_string()),
        port: address.port(),
        path: get.path.clone(),
    };
    let url = place.to_string();
    match tokio::time::timeout(timeout, http::get(address.ip(), place, &get.headers)).await {
        Err(_elapsed) => ActionOutcome::Failure(format!(
            "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
        Ok(Err(err)) => ActionOutcome::Failure(format!("Get {url:?}: {}", chain(&err))),
        Ok(Ok(200..400)) => ActionOutcome::Success,
        Ok(Ok(code)) => {
            ActionOutcome::Failure(format!("HTTP probe failed with statuscode: {code}"))
        }
    }
}

async fn tcp(address: SocketAddr, timeout: Duration) -> ActionOutcome {
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(_stream)) => ActionOutcome::Success,
        Ok(Err(err)) => ActionOutcome::Failure(format!("dial tcp {address}: {err}")),
        Err(_elapsed) => ActionOutcome::Failure(format!("dial tcp {address}: i/o timeout")),
    }
}

async fn exec(
    node: &Node,
    id: &ContainerId,
    command: &[String],
    timeout: Duration,
) -> ActionOutcome {
    let spec = ExecSpec { args: command.to_vec(), ..ExecSpec::default() };
    // The start counts too: in a container that is stuck, nothing starts.
    let mut started: Option<ExecProcess> = None;
    let finished = tokio::time::timeout(timeout, async {
        let process = started.insert(node.runtime.exec(&rt(id), &spec).await?);
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        let (out, err, exit) = tokio::join!(drain(stdout), drain(stderr), process.wait());
        Ok::<_, CallError>((out + &err, exit))
    });
    let finished = match finished.await {
        Ok(Err(err)) => return not_started(&err),
        Ok(Ok(finished)) => Ok(finished),
        Err(elapsed) => Err(elapsed),
    };
    match finished {
        Ok((_, Ok(exit))) if exit.unknown => {
            ActionOutcome::Error("nobody saw how the command ended".to_owned())
        }
        Ok((_, Ok(exit))) if exit.code == 0 => ActionOutcome::Success,
        Ok((output, Ok(exit))) if output.is_empty() => {
            ActionOutcome::Failure(format!("command exited with code {}", exit.code))
        }
        Ok((output, Ok(_))) => ActionOutcome::Failure(output),
        Ok((_, Err(err))) => ActionOutcome::Error(chain(&err)),
        Err(_elapsed) => {
            if let Some(process) = &mut started
                && let Err(err) = process.signal(SIGKILL).await
            {
                tracing::debug!(container = %id, error = chain(&err), "Could not kill a command");
            }
            ActionOutcome::Failure(format!(
                "command timed out: {:?} timed out after {timeout:?}",
                command.join(" ")
            ))
        }
    }
}

/// A command that the container does not have, or cannot run, fails as it would in a shell there (127,
/// 126). Anything else is the node's trouble: the keeper is away or out of something, or the container
/// has just ended.
fn not_started(err: &CallError) -> ActionOutcome {
    let is_answer = err.refusal().is_some_and(|it| {
        matches!(it.kind, RefusalKind::CommandNotFound | RefusalKind::CommandNotExecutable)
    });
    let message = chain(err);
    if is_answer { ActionOutcome::Failure(message) } else { ActionOutcome::Error(message) }
}

/// Reads to the end and keeps the beginning.
async fn drain(stream: Option<Box<dyn AsyncRead + Send + Sync + Unpin>>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut kept = Vec::new();
    let mut buffer = [0_u8; 4096];
    // An error ends the output like its end does.
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        let room = MAX_OUTPUT.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..n.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io;

    use agent_runtime::Refusal;

    use super::*;

    #[test]
    fn only_what_the_container_says_is_an_answer() {
        let operation = "run a command";
        let refused = |kind| {
            let refusal = Refusal { kind, message: "no".to_owned() };
            not_started(&CallError::Refused { operation, refusal }).answer()
        };
        for kind in [RefusalKind::CommandNotFound, RefusalKind::CommandNotExecutable] {
            assert_eq!(refused(kind), Some(false), "{kind:?}");
        }
        for kind in [
            RefusalKind::NotFound,
            RefusalKind::NotRunning,
            RefusalKind::SpecMismatch,
            RefusalKind::InvalidSpec,
            RefusalKind::Setup,
            RefusalKind::Kernel,
        ] {
            assert_eq!(refused(kind), None, "{kind:?}");
        }
        assert_eq!(not_started(&CallError::Unreachable { operation }).answer(), None);
        let err = io::Error::other("no descriptors");
        let streams = not_started(&CallError::Streams { operation, err });
        assert_eq!(streams.answer(), None);
        assert_eq!(
            streams.into_result().unwrap_err(),
            "could not run a command: no streams: no descriptors"
        );
        assert_eq!(ActionOutcome::Success.answer(), Some(true));
    }
}
