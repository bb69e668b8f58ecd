//! A connection into a pod: to a port on its own loopback, as the kubelet forwards ports, or at its
//! address, as others in the pod network connect to it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream as StdTcpStream},
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
use crate::{chain, desired::Body, node::Node, pod_worker::rt_sandbox, records};

/// A server whose queue is full does not answer; threads that wait for it are few.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a pod is entered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Door {
    /// What listens for the pod alone is there as well: for those who may forward ports.
    Loopback,
    /// The address that the pod's status tells.
    Address,
}

impl Door {
    /// The address to connect to; `own` is the pod's.
    fn of(self, own: Option<IpAddr>, port: u16) -> Result<SocketAddr, String> {
        match (self, own.map(|it| it.to_canonical())) {
            (Self::Loopback, _) => Ok((Ipv4Addr::LOCALHOST, port).into()),
            (Self::Address, Some(ip)) if ip.is_loopback() || ip.is_unspecified() => {
                Err(format!("address {ip} is not allowed"))
            }
            (Self::Address, Some(ip)) => Ok((ip, port).into()),
            (Self::Address, None) => Err("the pod has no address".to_owned()),
        }
    }
}

pub(super) async fn serve<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    node: &Node,
    found: &Found,
    door: Door,
    port: u16,
    recv: FrameReader<R>,
    send: &mut FrameWriter<W>,
) -> io::Result<Result<(), Refusal>> {
    let stream = match connect(node, found, door, port).await {
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

async fn connect(node: &Node, found: &Found, door: Door, port: u16) -> Result<TcpStream, String> {
    let sandboxes = node.view.pod(&found.row.uid).sandboxes;
    let sandbox: SandboxId = sandboxes.into_iter().next_back().ok_or("the pod has no sandbox")?;
    let is_on_host = is_on_host(node, found);
    let own = match is_on_host {
        true => node.host_ip(),
        false => records::lease(&node.ledger, &found.row.uid).map(IpAddr::V4),
    };
    let address = door.of(own, port)?;
    let failed = |err: io::Error| {
        format!("failed to connect to {address} inside namespace of {sandbox}: {err}")
    };
    if is_on_host {
        return TcpStream::connect(address).await.map_err(failed);
    }
    let netns = node.runtime.netns(&rt_sandbox(&sandbox)).await.map_err(|err| chain(&err))?;
    let connected = tokio::task::spawn_blocking(move || {
        cni::in_netns(netns.as_fd(), move || {
            StdTcpStream::connect_timeout(&address, CONNECT_TIMEOUT)
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

    #[test]
    fn only_those_who_forward_ports_reach_a_loopback() {
        let own = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for (door, own, expected) in [
            (Door::Loopback, own("10.42.0.7"), Ok("127.0.0.1:80")),
            (Door::Loopback, None, Ok("127.0.0.1:80")),
            (Door::Address, own("10.42.0.7"), Ok("10.42.0.7:80")),
            (Door::Address, own("fd00::7"), Ok("[fd00::7]:80")),
            (Door::Address, own("127.0.0.1"), Err("address 127.0.0.1 is not allowed")),
            (Door::Address, own("::ffff:127.0.0.1"), Err("address 127.0.0.1 is not allowed")),
            (Door::Address, own("::1"), Err("address ::1 is not allowed")),
            (Door::Address, own("0.0.0.0"), Err("address 0.0.0.0 is not allowed")),
            (Door::Address, None, Err("the pod has no address")),
        ] {
            let found = door.of(own, 80).map(|it| it.to_string());
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(found, expected, "{door:?} {own:?}");
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
