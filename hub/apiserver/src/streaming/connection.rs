//! A connection into a pod as a byte stream: what a port-forward carries, without a client's
//! protocol around it.

use std::sync::{Arc, OnceLock};

use agent_sync::stream::{Channel, encode_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::NodeStream;
use super::bridge::{Frames, refusal};

/// Bytes under way in each direction.
const BUFFER: usize = 64 << 10;

/// Why the node ended the connection, once it did.
pub(crate) type Reason = Arc<OnceLock<String>>;

/// Makes a byte stream of a node's frames. The future carries them: it ends with either side.
pub(crate) fn connection(
    node: NodeStream,
) -> (DuplexStream, Reason, impl Future<Output = ()> + Send) {
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let reason = Reason::default();
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
    };
    let inbound = async {
        while let Some((channel, payload)) = frames.next().await {
            match channel {
                Channel::Stdout if write.write_all(&payload).await.is_err() => return,
                Channel::Error => {
                    if let Some(status) = refusal(&payload) {
                        // Set once: nobody else sets it.
                        let _ = reason.set(status.message);
                    }
                    break;
                }
                Channel::Stdout
                | Channel::Stdin
                | Channel::Stderr
                | Channel::Resize
                | Channel::CloseStdin => {}
            }
        }
        let _ = write.shutdown().await; // the reader may be gone
    };
    tokio::select! {
        () = inbound => {}
        () = outbound => {}
    }
}
