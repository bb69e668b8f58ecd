//! Every bound of the API server, in one place and by name.

use std::time::Duration;

/// Connections of authenticated clients, at once; more are told to come again.
pub const MAX_CONNECTIONS: usize = 8192;
/// How many of these one user may have: nobody keeps all others out.
pub const MAX_CONNECTIONS_PER_USER: usize = 2048;
/// Connections beyond all of these, for members of `system:masters`: somebody must get in to look what is wrong.
pub const RESERVED_CONNECTIONS: usize = 64;
/// Connections of which no request was authenticated yet, at once; more are hung up on.
pub const MAX_GUESTS: usize = 2048;
/// How many of these may come from one source.
pub const MAX_GUESTS_PER_SOURCE: usize = 512;
/// Time from the TLS handshake to the first request.
pub const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that has not said who it is by then is ended.
pub const GUEST_LIFE: Duration = Duration::from_mins(1);
/// Time for the last answers of a connection that is ended.
pub const PARTING_TIMEOUT: Duration = Duration::from_secs(5);
/// Reads that are neither watches nor streams, served at once, whoever asks; more are told to come again.
pub const MAX_READS_IN_FLIGHT: usize = 1024;
/// Writes served at once, whoever asks.
pub const MAX_WRITES_IN_FLIGHT: usize = 1024;
/// Seats that the priority levels share.
pub const FLOW_SEATS: u64 = 600;
/// A request waits no longer for a seat.
pub const FLOW_WAIT: Duration = Duration::from_secs(15);
/// Time for the TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two requests of an HTTP/1.1 connection, and for the head of one.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(120);
/// Time for the whole body of a request.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest body of a request.
pub const MAX_BODY: usize = 3 << 20;
/// Largest head of an HTTP/1.1 request, and largest header list of HTTP/2.
pub const MAX_HEAD: u32 = 1 << 20;
/// Streams of one HTTP/2 connection.
pub const H2_MAX_STREAMS: u32 = 1000;
/// HTTP/2 flow control window of one stream.
pub const H2_STREAM_WINDOW: u32 = 256 << 10;
/// HTTP/2 flow control window of one connection.
pub const H2_CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes buffered for one HTTP/2 stream before its producer waits.
pub const H2_SEND_BUFFER: usize = 256 << 10;
/// HTTP/2 pings go out this often, so that dead peers are noticed.
pub const H2_PING_INTERVAL: Duration = Duration::from_secs(30);
/// A peer that does not answer a ping for this long is dead.
pub const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Answers above this many bytes are compressed for those who accept it.
pub const GZIP_THRESHOLD: usize = 128 << 10;
/// Length of a watch whose client names none.
pub const DEFAULT_WATCH_TIMEOUT: Duration = Duration::from_mins(30);
/// Longest watch.
pub const MAX_WATCH_TIMEOUT: Duration = Duration::from_hours(12);
/// Bookmarks go out this often.
pub const BOOKMARK_INTERVAL: Duration = Duration::from_mins(1);
/// How long a list waits for a resourceVersion that lies ahead.
pub const FRESHNESS_TIMEOUT: Duration = Duration::from_secs(3);
/// A store that does not answer in this time makes the server not ready.
pub const READY_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes gathered into one frame of a watch answer.
pub const WATCH_BATCH: usize = 64 << 10;
/// Objects read from storage at a time when a selector drops some.
pub const LIST_PAGE: usize = 500;
/// Events are kept this long after something was last said about them.
pub const EVENT_TTL: Duration = Duration::from_hours(1);
/// Events are looked through for old ones this often.
pub const EXPIRY_INTERVAL: Duration = Duration::from_mins(5);
/// Bytes of a request that nobody wanted are read and dropped up to so many, so that the client sees the answer.
pub const MAX_LEFTOVER: usize = 8 << 20;
/// For so long.
pub const LEFTOVER_TIMEOUT: Duration = Duration::from_secs(10);
/// Objects of a collection that are deleted at once.
pub const COLLECTION_CONCURRENCY: usize = 64;
/// Old events that are deleted in one transaction; etcd takes 127 writes at once.
pub const EXPIRY_BATCH: usize = 120;
/// Retries of a write that met another one.
pub const MAX_CONFLICT_RETRIES: usize = 32;
/// Retries with a fresh suffix for `generateName`.
pub const MAX_NAME_RETRIES: usize = 8;
/// Time that requests get to finish when the server shuts down.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the server of an aggregated API to begin its answer, after the last piece of the request that it took.
pub const PROXY_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for the node to open a stream.
pub const STREAM_OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// Time to connect to a server that a request is passed on to, and for TLS with it.
pub const PASSING_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the server of an aggregated API to answer whether it is there.
pub const AGGREGATION_TIMEOUT: Duration = Duration::from_secs(5);
/// Servers of aggregated APIs are asked this often whether they are still there.
pub const AGGREGATION_CHECK: Duration = Duration::from_secs(15);
/// Those that are not there are looked for this often.
pub const AGGREGATION_RECHECK: Duration = Duration::from_secs(2);
/// What is said of a server that is not there is put in other words at most this often.
pub const AGGREGATION_REWORD: Duration = Duration::from_mins(1);
/// Where nothing is aggregated, conditions are looked through this often.
pub const AGGREGATION_IDLE: Duration = Duration::from_mins(5);
/// Changes of APIServices that come within this time are looked at together.
pub const AGGREGATION_BATCH: Duration = Duration::from_millis(100);
/// Time for the server of an aggregated API to send its OpenAPI document.
pub const AGGREGATION_DOCUMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// OpenAPI documents of others are asked for this often, should one have changed unnoticed.
pub const AGGREGATION_DOCUMENT_LIFE: Duration = Duration::from_mins(5);
/// Largest OpenAPI document that is taken from another server.
pub const MAX_OPENAPI: usize = 4 << 20;
/// Largest document of discovery that is taken from another server.
pub const MAX_DISCOVERY: usize = 2 << 20;
/// Time for a node to answer with a page of its own.
pub const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest page of a node.
pub const MAX_PAGE: usize = 32 << 20;
/// Time for a node to say what it uses; after it, the node counts as one that says nothing.
pub const USAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a node said of what it uses, or that it said nothing, holds for so long.
pub const USAGE_LIFE: Duration = Duration::from_secs(10);
/// Nodes that are asked at once what they use.
pub const USAGE_CONCURRENCY: usize = 64;
/// Longest window over which a node may have measured.
pub const USAGE_MAX_WINDOW: Duration = Duration::from_mins(10);
/// Time for the client to open all streams of an exec over SPDY.
pub const STREAM_SETUP_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for the client to close after the last frame was sent.
pub const STREAM_CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pings on exec and attach connections.
pub const STREAM_PING_INTERVAL: Duration = Duration::from_secs(30);
/// Messages buffered in each direction of an exec.
pub const STREAM_QUEUE: usize = 4;
/// How long a log request waits for the node's first word before it sends its head.
pub const LOG_FIRST_WORD: Duration = Duration::from_millis(500);
/// Largest WebSocket message.
pub const MAX_WS_MESSAGE: usize = 1 << 20;
/// Largest SPDY frame.
pub const MAX_SPDY_FRAME: usize = 1 << 20;
/// Largest SPDY header block, decompressed.
pub const MAX_SPDY_HEADERS: usize = 64 << 10;
/// Streams of one SPDY connection that are open at once.
pub const MAX_SPDY_STREAMS: usize = 512;
/// Chunks buffered for one SPDY stream before the connection waits for its reader.
pub const SPDY_STREAM_QUEUE: usize = 8;
/// All quotas are counted anew this often, should anything have gone by them.
pub const QUOTA_RECOUNT: Duration = Duration::from_mins(5);
/// Time to connect to one place where a webhook is, and for TLS with it.
pub const WEBHOOK_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections to one webhook that are kept for the next request.
pub const WEBHOOK_IDLE: usize = 8;
