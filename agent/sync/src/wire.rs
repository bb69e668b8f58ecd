//! Frames on the wire: protocol version 1.
//!
//! A frame is a length (u32, big endian) and a protobuf message. Fields are only ever added.
//! Object bodies are the JSON bytes that the API serves; a batch is compressed as a whole.

use bytes::Bytes;
use prost::Message;

use crate::{Change, ObjectKey, ParseKeyError};

/// Largest frame accepted, in bytes: a batch with one object of the API's own limit has room.
pub const MAX_FRAME: usize = 8 << 20;
/// Largest batch after decompression, in bytes.
const MAX_BATCH: usize = 32 << 20;
/// Batches smaller than this are sent as they are.
const COMPRESS_FROM: usize = 512;
const COMPRESSION_LEVEL: i32 = 3;

/// One life of the hub's storage. A hub that was restored from a backup has another one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Epoch(pub u128);

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::str::FromStr for Epoch {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

impl Epoch {
    fn to_wire(self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }

    fn from_wire(bytes: &[u8]) -> Option<Self> {
        Some(Self(u128::from_be_bytes(bytes.try_into().ok()?)))
    }
}

/// What the peer sent is not this protocol.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("could not accept a frame of {size} bytes: the limit is {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("could not decode a frame")]
    Decode(#[source] prost::DecodeError),
    #[error("could not decompress a batch")]
    Decompress(#[source] std::io::Error),
    #[error("could not use an object key of the peer")]
    Key(#[source] ParseKeyError),
    #[error("could not use a frame: {what} is missing or malformed")]
    Malformed { what: &'static str },
    #[error("could not use a {frame} frame in this state")]
    Unexpected { frame: &'static str },
    #[error("could not talk to a peer of protocol {theirs}: ours is {ours}")]
    Version { theirs: u32, ours: u32 },
    #[error("the hub's storage was replaced: its epoch is {offered}, this node follows {known}")]
    EpochChanged { known: Epoch, offered: Epoch },
    #[error(
        "the hub's storage went back in time, to a backup perhaps: it is at revision {offered}, this node has seen {known}"
    )]
    RolledBack { known: u64, offered: u64 },
}

/// Version that `Hello` and `Welcome` carry.
pub(crate) const PROTOCOL: u32 = 1;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Frame {
    #[prost(oneof = "Body", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(crate) body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Body {
    #[prost(message, tag = "1")]
    Hello(Hello),
    #[prost(message, tag = "2")]
    Welcome(Welcome),
    #[prost(message, tag = "3")]
    Have(Have),
    #[prost(message, tag = "4")]
    Batch(Batch),
    #[prost(message, tag = "5")]
    Ack(Ack),
    #[prost(message, tag = "6")]
    Report(Report),
    #[prost(message, tag = "7")]
    Done(Done),
}

impl Body {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::Welcome(_) => "Welcome",
            Self::Have(_) => "Have",
            Self::Batch(_) => "Batch",
            Self::Ack(_) => "Ack",
            Self::Report(_) => "Report",
            Self::Done(_) => "Done",
        }
    }
}

/// The node says who it is and what it has.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Hello {
    #[prost(uint32, tag = "1")]
    pub(crate) protocol: u32,
    #[prost(string, tag = "2")]
    pub(crate) node: String,
    /// Empty when the node never followed a hub.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) epoch: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub(crate) revision: u64,
    #[prost(fixed64, tag = "5")]
    pub(crate) root: u64,
}

/// The hub answers `Hello`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Welcome {
    #[prost(uint32, tag = "1")]
    pub(crate) protocol: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) epoch: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub(crate) revision: u64,
    /// The digests are equal: the node's set is complete as it is.
    #[prost(bool, tag = "4")]
    pub(crate) in_sync: bool,
    /// The hub's clock, microseconds since 1970, for nodes that have none.
    #[prost(int64, tag = "5")]
    pub(crate) unix_micros: i64,
}

/// The digests of the node's buckets.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Have {
    #[prost(fixed64, repeated, tag = "1")]
    pub(crate) buckets: Vec<u64>,
}

/// Changes to a node's view.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Batch {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    /// The first batch of a snapshot names the buckets that it covers completely.
    #[prost(bool, tag = "2")]
    pub(crate) begin: bool,
    #[prost(uint32, repeated, tag = "3")]
    pub(crate) buckets: Vec<u32>,
    /// After the last batch of a snapshot, what was not named in these buckets is gone.
    #[prost(bool, tag = "4")]
    pub(crate) end: bool,
    #[prost(uint64, tag = "5")]
    pub(crate) revision: u64,
    #[prost(bool, tag = "6")]
    pub(crate) compressed: bool,
    /// An encoded `Changes`.
    #[prost(bytes = "bytes", tag = "7")]
    pub(crate) changes: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Changes {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Item>,
}

#[derive(Clone, PartialEq, Message)]
struct Item {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(bytes = "bytes", tag = "3")]
    body: Bytes,
    #[prost(bool, tag = "4")]
    deleted: bool,
}

/// Everything up to this batch is durable on the node.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ack {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
}

/// Something that happened on the node.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Report {
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
    #[prost(enumeration = "ReportKind", tag = "2")]
    pub(crate) kind: i32,
    #[prost(string, tag = "3")]
    pub(crate) key: String,
    #[prost(string, tag = "4")]
    pub(crate) uid: String,
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) body: Bytes,
}

/// The hub has dealt with this report.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Done {
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
}

/// What a report is about.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub enum ReportKind {
    /// Never sent.
    Unknown = 0,
    /// The body is the pod's status.
    PodStatus = 1,
    /// Every container of a pod that was to go is gone, and so is what they held.
    PodGone = 2,
    /// The body is a Node object: labels and status count.
    NodeStatus = 3,
    /// The body is a core/v1 Event.
    Event = 4,
}

/// A report without its number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReportBody {
    pub kind: ReportKind,
    pub key: ObjectKey,
    pub uid: String,
    /// JSON.
    pub body: Bytes,
}

impl Report {
    pub(crate) fn new(seq: u64, report: &ReportBody) -> Self {
        Self {
            seq,
            kind: report.kind.into(),
            key: report.key.to_string(),
            uid: report.uid.clone(),
            body: report.body.clone(),
        }
    }

    pub(crate) fn into_parts(self) -> Result<(u64, ReportBody), FrameError> {
        let kind = match self.kind() {
            ReportKind::Unknown => return Err(FrameError::Malformed { what: "report kind" }),
            kind @ (ReportKind::PodStatus
            | ReportKind::PodGone
            | ReportKind::NodeStatus
            | ReportKind::Event) => kind,
        };
        let key = self.key.parse().map_err(FrameError::Key)?;
        Ok((self.seq, ReportBody { kind, key, uid: self.uid, body: self.body }))
    }
}

impl Hello {
    pub(crate) fn new(node: &str, epoch: Option<Epoch>, revision: u64, root: u64) -> Self {
        Self {
            protocol: PROTOCOL,
            node: node.to_owned(),
            epoch: epoch.map(Epoch::to_wire).unwrap_or_default(),
            revision,
            root,
        }
    }

    pub(crate) fn epoch(&self) -> Option<Epoch> {
        Epoch::from_wire(&self.epoch)
    }
}

impl Welcome {
    pub(crate) fn new(epoch: Epoch, revision: u64, in_sync: bool, unix_micros: i64) -> Self {
        Self { protocol: PROTOCOL, epoch: epoch.to_wire(), revision, in_sync, unix_micros }
    }

    pub(crate) fn epoch(&self) -> Result<Epoch, FrameError> {
        Epoch::from_wire(&self.epoch).ok_or(FrameError::Malformed { what: "epoch" })
    }
}

/// Encodes changes, compressed where that pays.
pub(crate) fn encode_changes(changes: Vec<Change>) -> (Bytes, bool) {
    let items = changes
        .into_iter()
        .map(|change| match change {
            Change::Upsert { key, revision, body } => {
                Item { key: key.to_string(), revision, body, deleted: false }
            }
            Change::Delete { key } => {
                Item { key: key.to_string(), revision: 0, body: Bytes::new(), deleted: true }
            }
        })
        .collect();
    let plain = Changes { items }.encode_to_vec();
    if plain.len() >= COMPRESS_FROM
        && let Ok(packed) = zstd::bulk::compress(&plain, COMPRESSION_LEVEL)
        && packed.len() < plain.len()
    {
        return (packed.into(), true);
    }
    (plain.into(), false)
}

/// The inverse of [`encode_changes`], bounded.
pub(crate) fn decode_changes(bytes: Bytes, compressed: bool) -> Result<Vec<Change>, FrameError> {
    let plain = if compressed {
        let room = zstd::bulk::Decompressor::upper_bound(&bytes).unwrap_or(MAX_BATCH);
        Bytes::from(
            zstd::bulk::decompress(&bytes, room.min(MAX_BATCH)).map_err(FrameError::Decompress)?,
        )
    } else {
        bytes
    };
    let changes = Changes::decode(plain).map_err(FrameError::Decode)?;
    changes
        .items
        .into_iter()
        .map(|item| {
            let key = item.key.parse().map_err(FrameError::Key)?;
            Ok(if item.deleted {
                Change::Delete { key }
            } else {
                Change::Upsert { key, revision: item.revision, body: item.body }
            })
        })
        .collect()
}

/// A frame with its length in front.
pub(crate) fn encode(body: Body) -> Vec<u8> {
    let frame = Frame { body: Some(body) };
    let size = frame.encoded_len();
    let mut out = Vec::with_capacity(size + 4);
    out.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
    // A vector grows as needed, so encoding into one cannot fail.
    frame.encode(&mut out).unwrap_or_default();
    out
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    buffer: Vec<u8>,
}

impl Splitter {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) fn next(&mut self) -> Result<Option<Body>, FrameError> {
        let Some(head) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let size = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
        if size > MAX_FRAME {
            return Err(FrameError::TooLarge { size, limit: MAX_FRAME });
        }
        if self.buffer.len() < size + 4 {
            return Ok(None);
        }
        let rest = self.buffer.split_off(size + 4);
        let frame = std::mem::replace(&mut self.buffer, rest);
        let frame = Frame::decode(Bytes::from(frame).slice(4..)).map_err(FrameError::Decode)?;
        frame.body.map(Some).ok_or(FrameError::Malformed { what: "frame body" })
    }
}
