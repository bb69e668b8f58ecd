//! Streams into containers: logs, exec, attach, port-forward. Clients come over WebSocket or
//! SPDY, nodes speak the frames of `agent_sync::stream`; here the two are joined.

mod bridge;
pub(crate) mod connection;
#[cfg(test)]
mod fuzz;
pub(crate) mod portforward;
pub(crate) mod portforward_channels;
pub(crate) mod remote_spdy;
pub(crate) mod remote_websocket;
mod spdy;
#[cfg(test)]
mod tests;
pub(crate) mod upgrade;

use agent_sync::stream::StreamRequest;
use futures_util::future::BoxFuture;
use hub_api::Status;
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use bridge::{Frames, LogReader, refusal};

/// An open stream to a node. The request has been sent; frames follow in both directions.
/// Dropping it tells the node that nobody listens any more.
pub struct NodeStream {
    /// What the node sends.
    pub recv: Box<dyn AsyncRead + Send + Unpin>,
    /// What the node gets.
    pub send: Box<dyn AsyncWrite + Send + Unpin>,
}

impl std::fmt::Debug for NodeStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeStream").finish_non_exhaustive()
    }
}

/// Why a stream to a node could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The node has no session with this hub.
    #[error("node \"{node}\" is not connected")]
    NotConnected {
        /// Its name.
        node: String,
    },
    /// The node has a session with another hub, and the stream did not come about through that.
    #[error("node \"{node}\" is connected to hub {hub}, which {reason}")]
    Elsewhere {
        /// Its name.
        node: String,
        /// The other hub's identity.
        hub: String,
        /// What it did.
        reason: String,
    },
    /// The session broke while the stream was opened.
    #[error("could not open a stream to node \"{node}\"")]
    Io {
        /// Its name.
        node: String,
        #[source]
        err: std::io::Error,
    },
}

impl OpenError {
    /// What the client is told.
    pub(crate) fn to_status(&self) -> Status {
        Status::service_unavailable(format!("error dialing backend: {self}"))
    }
}

/// The way to nodes.
pub trait NodeStreams: Send + Sync {
    /// Opens a stream and sends the request on it.
    fn open(
        &self,
        node: &str,
        request: StreamRequest,
    ) -> BoxFuture<'_, Result<NodeStream, OpenError>>;
}

/// A hub without nodes.
#[derive(Clone, Copy, Debug)]
pub struct NoNodes;

impl NodeStreams for NoNodes {
    fn open(
        &self,
        node: &str,
        _request: StreamRequest,
    ) -> BoxFuture<'_, Result<NodeStream, OpenError>> {
        let node = node.to_owned();
        Box::pin(async { Err(OpenError::NotConnected { node }) })
    }
}
