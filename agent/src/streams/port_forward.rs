//! A connection into a pod, to a port on its own loopback, as the kubelet makes it.

use std::{
    io,
    net::{Ipv4Addr, TcpStream as StdTcpStream},
    os::fd::AsFd,
};

use agent_core::ids::SandboxId;
use agent_sync::stream::Channel;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    Found, Refusal,
    frames::{FrameReader, FrameWriter, chunk},
};
use crate::{chain, node::Node, pod_worker::rt_sandbox};

pub(super) async fn serve<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    node: &Node,
    found: &Found,
    port: u16,
    mut recv: FrameReader<R>,
    send: &mut FrameWriter<W>,
) -> io::Result<Result<(), Refusal>> {
    let stream = match connect(node, found, port).await {
        Ok(stream) => stream,
        Err(message) => return Ok(Err(Refusal::internal(message))),
    };
    let (mut from_pod, mut to_pod) = stream.into_split();
    let mut buffer = chunk();
    let mut input_open = true;
    loop {
        // Reads are cancel-safe; each arm finishes its write before the next look.
        tokio::select! {
            n = from_pod.read(&mut buffer) => match n? {
                0 => return Ok(Ok(())),
                n => send.write(Channel::Stdout, &buffer[..n]).await?,
            },
            frame = recv.next(), if input_open => match frame? {
                Some((Channel::Stdin, bytes)) => to_pod.write_all(&bytes).await?,
                Some((Channel::CloseStdin, _)) | None => {
                    to_pod.shutdown().await?;
                    input_open = false;
                }
                Some(_) => {}
            },
        }
    }
}

async fn connect(node: &Node, found: &Found, port: u16) -> Result<TcpStream, String> {
    let sandboxes = node.view.pod(&found.row.uid).sandboxes;
    let sandbox: SandboxId = sandboxes.into_iter().next_back().ok_or("the pod has no sandbox")?;
    let failed = |err: io::Error| {
        format!("failed to connect to localhost:{port} inside namespace of {sandbox}: {err}")
    };
    let address = (Ipv4Addr::LOCALHOST, port);
    if found.row.status["podIP"] == found.row.status["hostIP"] {
        return TcpStream::connect(address).await.map_err(failed);
    }
    let netns = node.runtime.netns(&rt_sandbox(&sandbox)).await.map_err(|err| chain(&err))?;
    let connected = tokio::task::spawn_blocking(move || {
        cni::in_netns(netns.as_fd(), move || StdTcpStream::connect(address))
    });
    let stream = connected.await.map_err(|err| err.to_string())?.map_err(failed)?;
    stream.set_nonblocking(true).map_err(failed)?;
    TcpStream::from_std(stream).map_err(failed)
}
