//! A connection into a pod as a byte stream: what a port-forward carries, without a client's
//! protocol around it.
//!
//! It ends only where the pod ended it. Where the node is lost instead, reading fails: whatever is
//! as long as its connection must not seem whole.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use agent_sync::stream::{Channel, encode_frame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

use super::NodeStream;
use super::bridge::{Frames, refusal};

/// Bytes under way in each direction.
const BUFFER: usize = 64 << 10;
/// Why a connection ended whose node did not say so.
const LOST: &str = "the connection to the node was lost";

/// How the connection ended, once it did: well, or why not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reason(Arc<OnceLock<Result<(), String>>>);

impl Reason {
    /// Why it ended, unless it goes on or ended well.
    pub(crate) fn get(&self) -> Option<&str> {
        self.0.get()?.as_ref().err().map(String::as_str)
    }

    /// What was said first holds.
    fn set(&self, ended: Result<(), String>) {
        let _ = self.0.set(ended);
    }
}

/// The end of a connection into a pod that the hub holds.
pub(crate) struct PodConnection {
    io: DuplexStream,
    reason: Reason,
}

impl AsyncRead for PodConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = buf.remaining();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if left == 0 || buf.remaining() < left {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(match self.reason.0.get() {
            Some(Ok(())) => Ok(()),
            Some(Err(why)) => Err(io::Error::other(why.clone())),
            // Nobody carries any more.
            None => Err(io::ErrorKind::ConnectionAborted.into()),
        })
    }
}

impl AsyncWrite for PodConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Makes a byte stream of a node's frames. The future carries them: it ends with either side.
pub(crate) fn connection(
    node: NodeStream,
) -> (PodConnection, Reason, impl Future<Output = ()> + Send) {
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let reason = Reason::default();
    let ours = PodConnection { io: ours, reason: reason.clone() };
    (ours, reason.clone(), carry(node, theirs, reason))
}

async fn carry(node: NodeStream, io: DuplexStream, reason: Reason) {
    let NodeStream { recv, mut send } = node;
    let (mut read, mut write) = tokio::io::split(io);
    let mut frames = Frames::new(recv);
    let outbound = async {
        let mut buffer = vec![0; BUFFER / 2];
        // The end means that nobody reads any more either: there are no half-open connections.
        while let Ok(n @ 1..) = read.read(&mut buffer).await {
            let mut frame = Vec::new();
            encode_frame(Channel::Stdin, &buffer[..n], &mut frame);
            let sent = async {
                send.write_all(&frame).await?;
                send.flush().await
            };
            if sent.await.is_err() {
                // What the pod still says is carried to its end.
                return std::future::pending().await;
            }
        }
        reason.set(Ok(()));
    };
    let inbound = async {
        let ended = loop {
            match frames.next().await {
                Some((Channel::Stdout, payload)) if write.write_all(&payload).await.is_err() => {
                    return;
                }
                Some((Channel::Error, payload)) => {
                    break refusal(&payload).map_or(Ok(()), |it| Err(it.message));
                }
                Some(_) => {}
                None => break Err(LOST.to_owned()),
            }
        };
        // Before the end shows.
        reason.set(ended);
        let _ = write.shutdown().await; // the reader may be gone
    };
    tokio::select! {
        () = inbound => {}
        () = outbound => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a connection on which the node sends these frames and then hangs up.
    async fn read(frames: &[(Channel, &[u8])]) -> (Vec<u8>, bool, Option<String>) {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let (recv, send) = tokio::io::split(ours);
        let node = NodeStream { recv: Box::new(recv), send: Box::new(send) };
        let (mut io, reason, carrying) = connection(node);
        let mut sent = Vec::new();
        for (channel, payload) in frames {
            encode_frame(*channel, payload, &mut sent);
        }
        let sending = async move {
            theirs.write_all(&sent).await.unwrap();
            drop(theirs);
        };
        let mut heard = Vec::new();
        let (result, (), ()) = tokio::join!(io.read_to_end(&mut heard), carrying, sending);
        (heard, result.is_ok(), reason.get().map(str::to_owned))
    }

    #[tokio::test]
    async fn only_an_end_that_the_node_tells_of_is_an_end() {
        let failed = br#"{"status":"Failure","message":"connection refused"}"#;
        for (last, is_whole, why) in [
            (Some((Channel::Error, &br#"{"status":"Success"}"#[..])), true, None),
            (Some((Channel::Error, &failed[..])), false, Some("connection refused")),
            (None, false, Some(LOST)),
        ] {
            let frames: Vec<_> =
                Some((Channel::Stdout, &b"half"[..])).into_iter().chain(last).collect();
            let (heard, ended, reason) = read(&frames).await;
            assert_eq!((&heard[..], ended), (&b"half"[..], is_whole), "{why:?}");
            let reason = reason.as_deref();
            assert!(reason.zip(why).map_or(reason == why, |(a, b)| a.contains(b)), "{reason:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_nobody_carries_any_more_does_not_end_well() {
        let (ours, _theirs) = tokio::io::duplex(1024);
        let (recv, send) = tokio::io::split(ours);
        let node = NodeStream { recv: Box::new(recv), send: Box::new(send) };
        let (mut io, _, carrying) = connection(node);
        drop(carrying);
        assert!(io.read_to_end(&mut Vec::new()).await.is_err());
    }
}
