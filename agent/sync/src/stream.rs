//! Streams that the hub opens to a node: exec, attach, logs, connections, statistics, pages.
//!
//! A stream begins with a [`StreamRequest`] (u32 big-endian length, JSON). After it both
//! directions carry frames: one byte channel, u32 big-endian length, payload. The node's last
//! frame is [`Channel::Error`] with a `metav1.Status` as JSON.

use serde::{Deserialize, Serialize};

use crate::FrameError;

/// Largest payload of one frame, in bytes.
pub const MAX_PAYLOAD: usize = 64 << 10;
/// Largest request, in bytes.
pub const MAX_REQUEST: usize = 1 << 20;

/// What the hub wants of one container, of a pod, or of the node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamRequest {
    pub pod_namespace: String,
    pub pod_name: String,
    pub pod_uid: String,
    /// Empty for connections and for what is about the node.
    pub container: String,
    pub kind: StreamKind,
}

impl StreamRequest {
    /// A request that is about the node itself.
    pub fn of_node(kind: StreamKind) -> Self {
        Self {
            pod_namespace: String::new(),
            pod_name: String::new(),
            pod_uid: String::new(),
            container: String::new(),
            kind,
        }
    }
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum StreamKind {
    Exec {
        command: Vec<String>,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        tty: bool,
    },
    Attach {
        stdin: bool,
        stdout: bool,
        stderr: bool,
        tty: bool,
    },
    Logs {
        follow: bool,
        previous: bool,
        tail_lines: Option<i64>,
        since_seconds: Option<i64>,
        /// RFC 3339.
        since_time: Option<String>,
        timestamps: bool,
        limit_bytes: Option<i64>,
    },
    /// A connection to a port on the pod's loopback.
    PortForward {
        port: u16,
    },
    /// A connection to a port at the address under which others know the pod. What listens on a
    /// loopback alone is out of its reach. A node that does not know this kind ends the stream.
    Connect {
        port: u16,
    },
    /// What the node and its containers use: one [`crate::stats::Report`] as JSON on
    /// [`Channel::Stdout`]. Names no pod.
    Stats,
    /// A page that the node answers for itself: a [`PageHead`] as JSON in the first frame, the
    /// body in the others, all on [`Channel::Stdout`]. Names no pod.
    Page {
        /// Absolute path, with the query if there is one.
        path: String,
    },
}

impl StreamKind {
    /// Whether the request is about the node itself and names no pod.
    pub fn is_of_node(&self) -> bool {
        match self {
            Self::Stats | Self::Page { .. } => true,
            Self::Exec { .. }
            | Self::Attach { .. }
            | Self::Logs { .. }
            | Self::PortForward { .. }
            | Self::Connect { .. } => false,
        }
    }
}

/// What comes before the body of a page.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PageHead {
    /// Status of HTTP.
    pub code: u16,
    /// Media type of the body.
    pub content_type: String,
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Channel {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    /// Node to hub, once, last: a `metav1.Status` as JSON.
    Error = 3,
    /// Hub to node: `{"Width":80,"Height":24}`.
    Resize = 4,
    /// Hub to node: no more input comes.
    CloseStdin = 5,
}

impl Channel {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Stdin,
            1 => Self::Stdout,
            2 => Self::Stderr,
            3 => Self::Error,
            4 => Self::Resize,
            5 => Self::CloseStdin,
            _ => return None,
        })
    }
}

/// Encodes a request with its length in front.
pub fn encode_request(request: &StreamRequest) -> Vec<u8> {
    let json = serde_json::to_vec(request).unwrap_or_default();
    let mut out = Vec::with_capacity(json.len() + 4);
    out.extend_from_slice(&u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&json);
    out
}

/// Length of the request that follows these four bytes.
///
/// # Errors
/// The length is above [`MAX_REQUEST`].
pub fn request_len(head: [u8; 4]) -> Result<usize, FrameError> {
    let size = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    if size > MAX_REQUEST {
        return Err(FrameError::TooLarge { size, limit: MAX_REQUEST });
    }
    Ok(size)
}

/// Parses the request's JSON.
///
/// # Errors
/// The bytes are not a request.
pub fn decode_request(json: &[u8]) -> Result<StreamRequest, FrameError> {
    serde_json::from_slice(json).map_err(|_| FrameError::Malformed { what: "stream request" })
}

/// Appends one or more frames; a payload above [`MAX_PAYLOAD`] is cut into several.
pub fn encode_frame(channel: Channel, payload: &[u8], out: &mut Vec<u8>) {
    let mut push = |part: &[u8]| {
        out.push(channel as u8);
        out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(part);
    };
    if payload.is_empty() {
        push(payload);
    }
    for part in payload.chunks(MAX_PAYLOAD) {
        push(part);
    }
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
}

impl FrameDecoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// The peer sent an unknown channel or an oversized frame: close the stream.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot return errors and end")]
    pub fn next(&mut self) -> Result<Option<(Channel, Vec<u8>)>, FrameError> {
        let Some(head) = self.buffer.first_chunk::<5>() else { return Ok(None) };
        let channel =
            Channel::from_byte(head[0]).ok_or(FrameError::Malformed { what: "channel" })?;
        let size = usize::try_from(u32::from_be_bytes([head[1], head[2], head[3], head[4]]))
            .unwrap_or(usize::MAX);
        if size > MAX_PAYLOAD {
            return Err(FrameError::TooLarge { size, limit: MAX_PAYLOAD });
        }
        if self.buffer.len() < size + 5 {
            return Ok(None);
        }
        let payload = self.buffer[5..size + 5].to_vec();
        self.buffer.drain(..size + 5);
        Ok(Some((channel, payload)))
    }
}
