//! Commands in a container, and the container's own streams.

use std::io;

use agent_core::ids::ContainerId;
use agent_runtime::{CallError, ExecProcess, ExecSpec, RefusalKind};
use agent_sync::stream::Channel;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{
    Refusal,
    frames::{FrameReader, FrameWriter, chunk, read_some},
};
use crate::{chain, node::Node, pod_worker::rt};

const SIGKILL: i32 = 9;

/// Which streams the client wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// Runs a command. Its exit code becomes the status.
pub(super) async fn exec<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    node: &Node,
    id: &ContainerId,
    command: &[String],
    tty: bool,
    wanted: Wanted,
    recv: FrameReader<R>,
    send: &mut FrameWriter<W>,
) -> io::Result<Result<(), Refusal>> {
    let env = if tty { vec!["TERM=xterm".to_owned()] } else { Vec::new() };
    let args = command.to_vec();
    let spec = ExecSpec { args, env, tty, stdin: wanted.stdin, ..ExecSpec::default() };
    let mut process = match node.runtime.exec(&rt(id), &spec).await {
        Ok(process) => process,
        Err(err) => return Ok(Err(refused(&err, command))),
    };
    let pumped = pump(&mut process, wanted, recv, send).await;
    if pumped.is_err() {
        // The client is gone, and its command goes with it.
        if let Err(err) = process.signal(SIGKILL).await {
            tracing::debug!(container = %id, error = chain(&err), "Could not kill a command");
        }
    }
    pumped?;
    Ok(match process.wait().await {
        Ok(exit) if exit.code == 0 => Ok(()),
        Ok(exit) => Err(Refusal::exit_code(exit.code)),
        Err(err) => Err(Refusal::internal(chain(&err))),
    })
}

/// Joins the container's own streams until its process ends.
pub(super) async fn attach<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    node: &Node,
    id: &ContainerId,
    wanted: Wanted,
    recv: FrameReader<R>,
    send: &mut FrameWriter<W>,
) -> io::Result<Result<(), Refusal>> {
    let mut process = match node.runtime.attach(&rt(id)).await {
        Ok(process) => process,
        Err(err) => return Ok(Err(refused(&err, &[]))),
    };
    pump(&mut process, wanted, recv, send).await?;
    Ok(Ok(()))
}

/// In the words of a kubelet with a runtime below it: scripts look for them.
fn refused(err: &CallError, command: &[String]) -> Refusal {
    let why = err.refusal().and_then(|it| missing_command(it.kind, command.first()?));
    let why = why.unwrap_or_else(|| chain(err));
    let message = format!("error executing command in container: {why}");
    Refusal {
        details: Some(json!({"causes": [{"message": message}]})),
        ..Refusal::internal(format!("Internal error occurred: {message}"))
    }
}

/// A command that cannot be run has no exit code of its own: Kubernetes calls that an internal error.
fn missing_command(kind: RefusalKind, command: &str) -> Option<String> {
    let why = match kind {
        RefusalKind::CommandNotFound if command.contains('/') => {
            format!("stat {command}: no such file or directory")
        }
        RefusalKind::CommandNotFound => "executable file not found in $PATH".to_owned(),
        RefusalKind::CommandNotExecutable => "permission denied".to_owned(),
        RefusalKind::NotFound
        | RefusalKind::NotRunning
        | RefusalKind::SpecMismatch
        | RefusalKind::InvalidSpec
        | RefusalKind::Setup
        | RefusalKind::Kernel => return None,
    };
    Some(format!(
        "failed to exec in container: OCI runtime exec failed: exec failed: unable to start container process: \
         exec: {command:?}: {why}: unknown"
    ))
}

/// Moves bytes both ways until the process's output has ended. Input waits beside output: a command
/// that reads no more before its output is taken must not stop the output.
async fn pump<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    process: &mut ExecProcess,
    wanted: Wanted,
    mut recv: FrameReader<R>,
    send: &mut FrameWriter<W>,
) -> io::Result<()> {
    let mut stdin = process.stdin.take().filter(|_| wanted.stdin);
    let (mut stdout, mut stderr) = (process.stdout.take(), process.stderr.take());
    let (mut out, mut err) = (chunk(), chunk());
    let mut input_open = true;
    // What came for the command and it has not read yet: one frame at most.
    let mut input: Vec<u8> = Vec::new();
    while stdout.is_some() || stderr.is_some() {
        // Reads and single writes are cancel-safe; what is sent is sent before the next look.
        tokio::select! {
            n = read_some(&mut stdout, &mut out), if stdout.is_some() => match n {
                Ok(n @ 1..) if wanted.stdout => send.write(Channel::Stdout, &out[..n]).await?,
                Ok(1..) => {}
                // A terminal ends with EIO.
                Ok(0) | Err(_) => stdout = None,
            },
            n = read_some(&mut stderr, &mut err), if stderr.is_some() => match n {
                Ok(n @ 1..) if wanted.stderr => send.write(Channel::Stderr, &err[..n]).await?,
                Ok(1..) => {}
                Ok(0) | Err(_) => stderr = None,
            },
            n = write_some(&mut stdin, &input), if !input.is_empty() => {
                if let Ok(n @ 1..) = n {
                    input.drain(..n);
                } else {
                    // The command reads no more.
                    stdin = None;
                    input.clear();
                }
            },
            frame = recv.next(), if input_open && input.is_empty() => match frame? {
                Some((Channel::Stdin, bytes)) if stdin.is_some() => input = bytes,
                Some((Channel::Stdin, _)) => {}
                Some((Channel::CloseStdin, _)) => stdin = None,
                Some((Channel::Resize, bytes)) => resize(process, &bytes),
                Some((Channel::Stdout | Channel::Stderr | Channel::Error, _)) => {}
                None => {
                    stdin = None;
                    input_open = false;
                }
            },
        }
    }
    Ok(())
}

/// Writes a part of `bytes`; nothing where there is no stream.
async fn write_some<W: AsyncWrite + Unpin>(
    stream: &mut Option<W>,
    bytes: &[u8],
) -> io::Result<usize> {
    match stream {
        Some(stream) => stream.write(bytes).await,
        None => Ok(0),
    }
}

fn resize(process: &ExecProcess, bytes: &[u8]) {
    let Ok(size) = serde_json::from_slice::<Size>(bytes) else { return };
    if let Err(err) = process.resize(size.width, size.height) {
        tracing::debug!(error = %err, "Could not resize a terminal");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_command_is_told_in_the_words_of_runtimes() {
        use RefusalKind as K;
        for (kind, command, expect) in [
            (K::CommandNotFound, "nosuch", Some("\"nosuch\": executable file not found in $PATH")),
            (
                K::CommandNotFound,
                "/no/such",
                Some("\"/no/such\": stat /no/such: no such file or directory"),
            ),
            (K::CommandNotExecutable, "/etc/passwd", Some("\"/etc/passwd\": permission denied")),
            (K::NotRunning, "sh", None),
        ] {
            let told = missing_command(kind, command);
            let end = told.as_deref().and_then(|it| it.split_once("process: exec: "));
            let end = end.and_then(|(_, it)| it.strip_suffix(": unknown"));
            assert_eq!(end, expect, "{kind:?} {command}");
        }
    }
}
