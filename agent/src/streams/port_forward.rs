//! A connection into a pod, to a port on its own loopback, as the kubelet makes it.

use std::{
    io,
    net::{Ipv4Addr, TcpStream as StdTcpStream},
    os::fd::AsFd,
    time::Duration,
};

use agent_core::ids::{PodUid, SandboxId};
use agent_sync::stream::Channel;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    Found, Refusal,
    frames::{FrameReader, FrameWriter, chunk},
};
use crate::{chain, desired::Body, node::Node, pod_worker::rt_sandbox};

/// A server whose queue is full does not answer; threads that wait for it are few.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn serve<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    node: &Node,
    found: &Found,
    port: u16,
    recv: FrameReader<R>,
    send: &mut FrameWriter<W>,
) -> io::Result<Result<(), Refusal>> {
    let stream = match connect(node, found, port).await {
        Ok(stream) => stream,
        Err(message) => return Ok(Err(Refusal::internal(message))),
    };
    let (from_pod, to_pod) = stream.into_split();
    pump(from_pod, to_pod, recv, send).await?;
    Ok(Ok(()))
}

/// Moves bytes both ways until the pod sends no more.
async fn pump<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    mut from_pod: impl AsyncRead + Unpin,
    mut to_pod: impl AsyncWrite + Unpin,
    mut recv: FrameReader<R>,
    send: &mut FrameWriter<W>,
) -> io::Result<()> {
    let mut buffer = chunk();
    let mut input_open = true;
    // What the pod has not read yet: one frame at most.
    let mut input: Vec<u8> = Vec::new();
    loop {
        // Reads and single writes are cancel-safe. Input waits beside output: a server may read no
        // more before its answer is taken.
        tokio::select! {
            n = to_pod.write(&input), if !input.is_empty() => drop(input.drain(..n?)),
            n = from_pod.read(&mut buffer) => match n? {
                0 => return Ok(()),
                n => send.write(Channel::Stdout, &buffer[..n]).await?,
            },
            frame = recv.next(), if input_open && input.is_empty() => match frame? {
                Some((Channel::Stdin, bytes)) => input = bytes,
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
    if is_on_host(node, found) {
        return TcpStream::connect(address).await.map_err(failed);
    }
    let netns = node.runtime.netns(&rt_sandbox(&sandbox)).await.map_err(|err| chain(&err))?;
    let connected = tokio::task::spawn_blocking(move || {
        cni::in_netns(netns.as_fd(), move || {
            StdTcpStream::connect_timeout(&address.into(), CONNECT_TIMEOUT)
        })
    });
    let stream = connected.await.map_err(|err| err.to_string())?.map_err(failed)?;
    stream.set_nonblocking(true).map_err(failed)?;
    TcpStream::from_std(stream).map_err(failed)
}

/// Whether the pod asked to live in the machine's own network: only then the machine's loopback is its own. A pod that
/// is not known any more, or cannot be read, has a network of its own or none.
fn is_on_host(node: &Node, found: &Found) -> bool {
    let pod = &found.row.pod;
    let view = node.desired.snapshot();
    let object = view.find("Pod", &pod.namespace, &pod.name);
    object.is_some_and(|it| asks_for_host(&it.body, &found.row.uid))
}

fn asks_for_host(pod: &Body, uid: &PodUid) -> bool {
    pod.pod_uid().as_ref() == Some(uid)
        && pod.parse::<Asked>().is_some_and(|it| it.spec.host_network)
}

/// What of a Pod says where it lives.
#[derive(Deserialize)]
struct Asked {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    host_network: bool,
}

#[cfg(test)]
mod tests {
    use agent_sync::stream::encode_frame;
    use serde_json::json;
    use tokio::io::{DuplexStream, duplex, split};

    use super::*;

    #[test]
    fn only_a_pod_that_asked_for_it_has_the_loopback_of_the_machine() {
        const UID: &str = "5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e";
        const OTHER: &str = "5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5f";
        for (uid, spec, want) in [
            (UID, json!({"hostNetwork": true}), true),
            (OTHER, json!({"hostNetwork": true}), false),
            (UID, json!({"hostNetwork": false}), false),
            (UID, json!({}), false),
        ] {
            let pod = json!({"metadata": {"uid": uid}, "spec": spec});
            let body = Body::new(pod.to_string().as_bytes()).unwrap();
            assert_eq!(asks_for_host(&body, &UID.parse().unwrap()), want, "{pod}");
        }
    }

    async fn echo(stream: DuplexStream) {
        let (mut read, mut write) = split(stream);
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_answers_before_it_has_read_all_is_served() {
        let (pod, server) = duplex(1024);
        let (client, hub) = duplex(1024);
        let (from_pod, to_pod) = split(pod);
        let (from_hub, to_hub) = split(hub);
        let (mut answers, mut questions) = split(client);
        let payload: Vec<u8> =
            (0..1_u32 << 20).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect();
        let mut frames = Vec::new();
        for piece in payload.chunks(32 << 10) {
            encode_frame(Channel::Stdin, piece, &mut frames);
        }
        encode_frame(Channel::CloseStdin, &[], &mut frames);
        let mut send = FrameWriter::new(to_hub);
        let ask = async { questions.write_all(&frames).await.unwrap() };
        let serve = async {
            pump(from_pod, to_pod, FrameReader::new(from_hub), &mut send).await.unwrap();
            send.finish(&serde_json::Value::Null).await.unwrap();
        };
        let hear = async {
            let mut reader = FrameReader::new(&mut answers);
            let mut heard = Vec::new();
            while let Some((Channel::Stdout, bytes)) = reader.next().await.unwrap() {
                heard.extend(bytes);
            }
            heard
        };
        let (heard, ..) = tokio::join!(hear, ask, serve, echo(server));
        assert!(heard == payload);
    }
}
