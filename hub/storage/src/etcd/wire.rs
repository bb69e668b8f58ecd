//! The part of etcd's API (version 3) that the storage speaks, as it is on the wire: gRPC messages by hand, so that
//! nothing has to be generated. Source: `etcdserverpb/rpc.proto`, `mvccpb/kv.proto`; fields that are not used are left out.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::uri::PathAndQuery;
use prost::{Enumeration, Message, Oneof};
use tonic::{
    Code, Request, Status, Streaming, client::Grpc, metadata::MetadataValue, transport::Channel,
};
use tonic_prost::ProstCodec;

/// etcd bounds what it sends by the size of one revision; what it has accepted must be readable.
const MAX_MESSAGE: usize = 512 << 20;

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct ResponseHeader {
    #[prost(uint64, tag = "1")]
    pub(super) cluster_id: u64,
    #[prost(int64, tag = "3")]
    pub(super) revision: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(int64, tag = "2")]
    pub(super) create_revision: i64,
    #[prost(int64, tag = "3")]
    pub(super) mod_revision: i64,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) range_end: Bytes,
    #[prost(int64, tag = "3")]
    pub(super) limit: i64,
    #[prost(int64, tag = "4")]
    pub(super) revision: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    pub(super) kvs: Vec<KeyValue>,
    #[prost(bool, tag = "3")]
    pub(super) more: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeleteRangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RequestOp {
    #[prost(oneof = "Op", tags = "1, 2, 3")]
    pub(super) op: Option<Op>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Op {
    #[prost(message, tag = "1")]
    Range(RangeRequest),
    #[prost(message, tag = "2")]
    Put(PutRequest),
    #[prost(message, tag = "3")]
    Delete(DeleteRangeRequest),
}

impl From<Op> for RequestOp {
    fn from(op: Op) -> Self {
        Self { op: Some(op) }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseOp {
    /// The answers to writes say nothing that is not known.
    #[prost(message, optional, tag = "1")]
    pub(super) range: Option<RangeResponse>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Enumeration)]
#[repr(i32)]
pub(super) enum CompareResult {
    Equal = 0,
    Greater = 1,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Enumeration)]
#[repr(i32)]
pub(super) enum CompareTarget {
    Create = 1,
    Mod = 2,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Compare {
    #[prost(enumeration = "CompareResult", tag = "1")]
    pub(super) result: i32,
    #[prost(enumeration = "CompareTarget", tag = "2")]
    pub(super) target: i32,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) key: Bytes,
    #[prost(oneof = "CompareTo", tags = "5, 6")]
    pub(super) to: Option<CompareTo>,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(super) enum CompareTo {
    #[prost(int64, tag = "5")]
    CreateRevision(i64),
    #[prost(int64, tag = "6")]
    ModRevision(i64),
}

impl Compare {
    /// Nothing is stored under the key.
    pub(super) fn absent(key: Bytes) -> Self {
        Self {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            key,
            to: Some(CompareTo::CreateRevision(0)),
        }
    }

    /// Something is stored under the key.
    pub(super) fn present(key: Bytes) -> Self {
        Self { result: CompareResult::Greater.into(), ..Self::absent(key) }
    }

    /// The last write of the key is this one.
    pub(super) fn unchanged(key: Bytes, revision: i64) -> Self {
        Self {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key,
            to: Some(CompareTo::ModRevision(revision)),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub(super) success: Vec<RequestOp>,
    #[prost(message, repeated, tag = "3")]
    pub(super) failure: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(bool, tag = "2")]
    pub(super) succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub(super) responses: Vec<ResponseOp>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct CompactionRequest {
    #[prost(int64, tag = "1")]
    pub(super) revision: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct CompactionResponse {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) create: Option<WatchCreateRequest>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchCreateRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) range_end: Bytes,
    #[prost(int64, tag = "3")]
    pub(super) start_revision: i64,
    #[prost(bool, tag = "4")]
    pub(super) progress_notify: bool,
    #[prost(bool, tag = "8")]
    pub(super) fragment: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(bool, tag = "3")]
    pub(super) created: bool,
    #[prost(bool, tag = "4")]
    pub(super) canceled: bool,
    #[prost(int64, tag = "5")]
    pub(super) compact_revision: i64,
    #[prost(string, tag = "6")]
    pub(super) cancel_reason: String,
    /// More of the same revisions follows.
    #[prost(bool, tag = "7")]
    pub(super) fragment: bool,
    #[prost(message, repeated, tag = "11")]
    pub(super) events: Vec<WatchEvent>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchEvent {
    #[prost(enumeration = "EventType", tag = "1")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) kv: Option<KeyValue>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Enumeration)]
#[repr(i32)]
pub(super) enum EventType {
    Put = 0,
    Delete = 1,
}

/// Why etcd did not answer a request as it should.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum CallError {
    /// Nothing answers, or the connection broke: if it was a write, it may have happened.
    #[error("{reason}")]
    Unreachable { reason: String },
    /// No answer in time: if it was a write, it may have happened.
    #[error("etcdserver: request timed out")]
    TimedOut,
    /// The revision is forgotten.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// More than etcd takes in one request.
    #[error("etcdserver: request is too large")]
    TooLarge,
    /// Understood and refused.
    #[error("{reason}")]
    Refused { reason: String },
}

/// Words of rustls: it does not trust the other side, or the other side does not trust it. What carries its errors here
/// keeps no more than their text.
const UNTRUSTED: [&str; 2] = ["invalid peer certificate", "received fatal alert"];

impl CallError {
    /// Whether it will be so again, until somebody changes a certificate.
    pub(super) fn is_about_certificates(&self) -> bool {
        match self {
            Self::Unreachable { reason } => UNTRUSTED.iter().any(|it| reason.contains(it)),
            Self::TimedOut | Self::Compacted | Self::TooLarge | Self::Refused { .. } => false,
        }
    }

    fn of(status: &Status) -> Self {
        let message = status.message();
        if message.contains("request timed out") || message.contains("deadline exceeded") {
            return Self::TimedOut;
        }
        match status.code() {
            Code::DeadlineExceeded | Code::Cancelled => Self::TimedOut,
            Code::OutOfRange if message.contains("compacted") => Self::Compacted,
            Code::InvalidArgument if message.contains("too large") => Self::TooLarge,
            // What gRPC refuses before etcd sees it.
            Code::ResourceExhausted if message.contains("larger than max") => Self::TooLarge,
            Code::Unavailable | Code::Unknown | Code::Internal => {
                Self::Unreachable { reason: with_causes(status) }
            }
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::DataLoss
            | Code::Unauthenticated => Self::Refused { reason: message.to_owned() },
        }
    }
}

/// The message and what lies behind it, each once.
fn with_causes(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(err) = source {
        let cause = err.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = err.source();
    }
    text
}

const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

pub(super) async fn range(
    channel: &Channel,
    request: RangeRequest,
    timeout: Duration,
) -> Result<RangeResponse, CallError> {
    unary(channel, RANGE, request, timeout).await
}

pub(super) async fn txn(
    channel: &Channel,
    request: TxnRequest,
    timeout: Duration,
) -> Result<TxnResponse, CallError> {
    unary(channel, TXN, request, timeout).await
}

pub(super) async fn compact(
    channel: &Channel,
    request: CompactionRequest,
    timeout: Duration,
) -> Result<CompactionResponse, CallError> {
    unary(channel, COMPACT, request, timeout).await
}

async fn unary<A, B>(
    channel: &Channel,
    path: &'static str,
    message: A,
    timeout: Duration,
) -> Result<B, CallError>
where
    A: Message + Send + Sync + 'static,
    B: Message + Default + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE);
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    let answer = tokio::time::timeout(timeout, async {
        grpc.ready().await.map_err(|err| Status::from_error(err.into()))?;
        let codec = ProstCodec::<A, B>::default();
        grpc.unary(request, PathAndQuery::from_static(path), codec).await
    });
    match answer.await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(CallError::of(&status)),
        Err(_elapsed) => Err(CallError::TimedOut),
    }
}

/// A running watch. Dropping it ends it.
pub(super) struct WatchStream(Streaming<WatchResponse>);

impl WatchStream {
    /// The next message; waits for it. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<WatchResponse, CallError> {
        let ended = || CallError::Unreachable { reason: "etcd ended the watch".to_owned() };
        self.0.message().await.map_err(|status| CallError::of(&status))?.ok_or_else(ended)
    }
}

/// Begins a watch; its first message says that it has begun.
pub(super) async fn watch(
    channel: &Channel,
    request: WatchCreateRequest,
    timeout: Duration,
) -> Result<WatchStream, CallError> {
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE);
    let create = WatchRequest { create: Some(request) };
    // The watch lives as long as what it is asked by.
    let asked = stream::once(std::future::ready(create)).chain(stream::pending());
    let mut request = Request::new(asked);
    // A member that is cut off from the others must say so instead of being silent.
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    let answer = tokio::time::timeout(timeout, async {
        grpc.ready().await.map_err(|err| Status::from_error(err.into()))?;
        let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
        grpc.streaming(request, PathAndQuery::from_static(WATCH), codec).await
    });
    match answer.await {
        Ok(Ok(answer)) => Ok(WatchStream(answer.into_inner())),
        Ok(Err(status)) => Err(CallError::of(&status)),
        Err(_elapsed) => Err(CallError::TimedOut),
    }
}
