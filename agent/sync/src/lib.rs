//! Both ends of the protocol between the hub and a node, without input or output.
//!
//! The hub shows each node its own *view*: the objects it needs to know. The node makes every
//! change durable before it acknowledges it. In the other direction the node sends *reports*
//! (status, events), which it keeps until the hub has acknowledged them.
//!
//! ```text
//! node                                   hub
//!  | Hello{node, epoch, view digest} ---> |
//!  | <--- Welcome{epoch, in_sync | want_buckets}
//!  | Have{256 bucket digests} ---------> |      only when the digests differ
//!  | <--- Batch{begin, buckets} .. Batch{end}   absence deletes inside these buckets only
//!  | Ack{batch} -----------------------> |      after the ledger made it durable
//!  | Report{seq} ----------------------> |
//!  | <------------------------ Done{seq} |      after storage made it durable
//! ```
//!
//! Nothing here reads a clock, draws a random number or touches a socket: [`NodeSession`] and
//! [`HubSession`] are driven by frames and by the caller's clock, so that one test drives both.

pub mod digest;
mod hub;
pub mod join;
mod key;
mod node;
pub mod stats;
pub mod stream;
pub mod token;
mod wire;

pub use hub::{HubConfig, HubEvent, HubSession, ViewObject};
pub use key::{ObjectKey, ParseKeyError};
pub use node::{NodeConfig, NodeEvent, NodeSession, Persist};
pub use wire::{Epoch, FrameError, MAX_FRAME, ReportBody, ReportKind};

/// ALPN of an established node: mutual TLS.
pub const ALPN: &[u8] = b"outbye/1";
/// ALPN of a node that has a join token and no certificate yet.
pub const ALPN_JOIN: &[u8] = b"outbye-join/1";

/// One change to what a node should know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// The object exists and has this content: the JSON that the API serves.
    Upsert { key: ObjectKey, revision: u64, body: bytes::Bytes },
    /// The object is gone, or is no longer this node's business.
    Delete { key: ObjectKey },
}

impl Change {
    /// The object that changes.
    pub fn key(&self) -> &ObjectKey {
        match self {
            Self::Upsert { key, .. } | Self::Delete { key } => key,
        }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
