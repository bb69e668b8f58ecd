//! The server's end of one SPDY connection: accepts streams, delivers their data, writes frames.
//! One task reads, one writes. A stream whose reader is slow holds up the whole connection, as
//! its peers do too: they know no flow control windows.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::SpdyError;
use super::frame::{Frame, FrameDecoder, FrameEncoder};
use super::headers::Headers;
use crate::limits::{
    MAX_SPDY_STREAMS, SPDY_STREAM_QUEUE, STREAM_CLOSE_TIMEOUT, STREAM_PING_INTERVAL, STREAM_QUEUE,
};

/// Payload of one DATA frame of ours.
const CHUNK: usize = 32 << 10;
/// Why a stream is refused: the peer reused or confused its id.
const RST_PROTOCOL_ERROR: u32 = 1;
const RST_REFUSED: u32 = 3;

/// An open connection.
pub(crate) struct Session {
    accepted: mpsc::Receiver<SpdyStream>,
    frames: mpsc::Sender<Frame>,
    stop: CancellationToken,
    peer_gone: CancellationToken,
}

/// One stream that the peer opened.
pub(crate) struct SpdyStream {
    pub(crate) headers: Headers,
    pub(crate) reader: StreamReader,
    pub(crate) writer: StreamWriter,
}

/// What the peer sends on a stream.
pub(crate) struct StreamReader {
    data: mpsc::Receiver<Bytes>,
}

impl StreamReader {
    /// The next piece; `None` once the peer has finished, or the connection is gone.
    pub(crate) async fn read(&mut self) -> Option<Bytes> {
        self.data.recv().await
    }
}

/// Where answers on a stream go.
#[derive(Clone)]
pub(crate) struct StreamWriter {
    id: u32,
    frames: mpsc::Sender<Frame>,
}

impl StreamWriter {
    /// Sends the bytes, waiting while the connection is full.
    pub(crate) async fn write(&self, mut bytes: Bytes) -> Result<(), SpdyError> {
        while !bytes.is_empty() {
            let payload = bytes.split_to(bytes.len().min(CHUNK));
            self.send(Frame::Data { id: self.id, payload, fin: false }).await?;
        }
        Ok(())
    }

    /// Says that no more comes on this stream.
    pub(crate) async fn finish(&self) -> Result<(), SpdyError> {
        self.send(Frame::Data { id: self.id, payload: Bytes::new(), fin: true }).await
    }

    /// Ends the stream in both directions at once.
    pub(crate) async fn reset(&self) -> Result<(), SpdyError> {
        self.send(Frame::RstStream { id: self.id, status: 5 }).await
    }

    async fn send(&self, frame: Frame) -> Result<(), SpdyError> {
        self.frames.send(frame).await.map_err(|_| SpdyError::Closed)
    }
}

impl Session {
    /// Starts to serve the connection.
    pub(crate) fn start<T>(io: T, tasks: &TaskTracker) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = tokio::io::split(io);
        let (frames, frames_rx) = mpsc::channel(STREAM_QUEUE);
        let (accepted_tx, accepted) = mpsc::channel(STREAM_QUEUE);
        let (stop, peer_gone) = (CancellationToken::new(), CancellationToken::new());
        let reader = Reader {
            accepted: accepted_tx,
            frames: frames.clone(),
            streams: BTreeMap::new(),
            last: 0,
        };
        tasks.spawn({
            let (stop, peer_gone) = (stop.clone(), peer_gone.clone());
            async move {
                if let Some(Err(err)) = stop.run_until_cancelled(reader.run(read)).await {
                    tracing::debug!(error = %err, "SPDY connection ended early");
                }
                peer_gone.cancel();
            }
        });
        tasks.spawn({
            let stop = stop.clone();
            async move {
                // An error means the peer is gone; the reader sees the same.
                let _ = stop.run_until_cancelled(write_frames(write, frames_rx)).await;
            }
        });
        Self { accepted, frames, stop, peer_gone }
    }

    /// The next stream that the peer opens; `None` once it is gone.
    pub(crate) async fn accept(&mut self) -> Option<SpdyStream> {
        self.accepted.recv().await
    }

    /// Fires when the peer is gone.
    pub(crate) fn peer_gone(&self) -> CancellationToken {
        self.peer_gone.clone()
    }

    /// Says goodbye, lets the peer read what is under way, and closes.
    pub(crate) async fn close(mut self) {
        if self.frames.send(Frame::GoAway { last: 0 }).await.is_ok() {
            let drain = async {
                // Streams opened now come too late, but must not hold up the reader.
                while self.accepted.recv().await.is_some() {}
                self.peer_gone.cancelled().await;
            };
            // A peer that does not hang up is hung up on.
            let _ = tokio::time::timeout(STREAM_CLOSE_TIMEOUT, drain).await;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Reader {
    accepted: mpsc::Sender<SpdyStream>,
    frames: mpsc::Sender<Frame>,
    /// `None` while nobody reads the stream any more.
    streams: BTreeMap<u32, Option<mpsc::Sender<Bytes>>>,
    last: u32,
}

impl Reader {
    async fn run(mut self, mut io: impl AsyncRead + Unpin) -> Result<(), SpdyError> {
        let mut decoder = FrameDecoder::new();
        loop {
            while let Some(frame) = decoder.next()? {
                self.handle(frame).await?;
            }
            let buffer = decoder.buffer();
            buffer.reserve(CHUNK);
            let n = io.read_buf(buffer).await.map_err(|err| SpdyError::Io { err })?;
            if n == 0 {
                return Ok(());
            }
        }
    }

    async fn handle(&mut self, frame: Frame) -> Result<(), SpdyError> {
        match frame {
            Frame::SynStream { id, headers, fin } => self.open(id, headers, fin).await,
            Frame::Data { id, payload, fin } => {
                self.deliver(id, payload).await;
                self.finish(id, fin);
                Ok(())
            }
            Frame::Headers { id, fin, .. } => {
                self.finish(id, fin);
                Ok(())
            }
            Frame::RstStream { id, .. } => {
                self.finish(id, true);
                Ok(())
            }
            // Ours carry even ids and are not waited for.
            Frame::Ping { id } if id % 2 == 1 => self.send(Frame::Ping { id }).await,
            Frame::Ping { .. }
            | Frame::SynReply { .. }
            | Frame::Settings
            | Frame::GoAway { .. }
            | Frame::WindowUpdate { .. } => Ok(()),
        }
    }

    async fn open(&mut self, id: u32, headers: Headers, fin: bool) -> Result<(), SpdyError> {
        if id.is_multiple_of(2) || id <= self.last {
            return self.send(Frame::RstStream { id, status: RST_PROTOCOL_ERROR }).await;
        }
        if self.streams.len() >= MAX_SPDY_STREAMS {
            return Err(SpdyError::TooManyStreams { limit: MAX_SPDY_STREAMS });
        }
        self.last = id;
        let (data_tx, data) = mpsc::channel(SPDY_STREAM_QUEUE);
        if !fin {
            self.streams.insert(id, Some(data_tx));
        }
        let writer = StreamWriter { id, frames: self.frames.clone() };
        let stream = SpdyStream { headers, reader: StreamReader { data }, writer };
        self.send(Frame::SynReply { id, headers: Headers::default(), fin: false }).await?;
        if self.accepted.send(stream).await.is_err() {
            self.streams.remove(&id);
            return self.send(Frame::RstStream { id, status: RST_REFUSED }).await;
        }
        Ok(())
    }

    async fn deliver(&mut self, id: u32, payload: Bytes) {
        if payload.is_empty() {
            return;
        }
        if let Some(slot) = self.streams.get_mut(&id)
            && let Some(data) = slot
            && data.send(payload).await.is_err()
        {
            *slot = None;
        }
    }

    fn finish(&mut self, id: u32, fin: bool) {
        if fin {
            self.streams.remove(&id);
        }
    }

    async fn send(&self, frame: Frame) -> Result<(), SpdyError> {
        self.frames.send(frame).await.map_err(|_| SpdyError::Closed)
    }
}

async fn write_frames(
    mut io: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
) -> Result<(), SpdyError> {
    let mut encoder = FrameEncoder::new();
    let mut buffer = BytesMut::new();
    let mut ping_id = 0_u32;
    loop {
        let frame = match tokio::time::timeout(STREAM_PING_INTERVAL, frames.recv()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(_) => {
                ping_id = ping_id.wrapping_add(2);
                Frame::Ping { id: ping_id }
            }
        };
        encoder.encode(&frame, &mut buffer)?;
        // What is ready goes out with it.
        while buffer.len() < 2 * CHUNK
            && let Ok(frame) = frames.try_recv()
        {
            encoder.encode(&frame, &mut buffer)?;
        }
        io.write_all_buf(&mut buffer).await.map_err(|err| SpdyError::Io { err })?;
        io.flush().await.map_err(|err| SpdyError::Io { err })?;
    }
    io.shutdown().await.map_err(|err| SpdyError::Io { err })
}
