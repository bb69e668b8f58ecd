//! Frames over any byte stream.

use std::io;

use agent_sync::stream::{Channel, FrameDecoder, encode_frame};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes read at once.
const CHUNK: usize = 16 << 10;

/// Reads frames.
#[derive(Debug)]
pub(crate) struct FrameReader<R> {
    inner: R,
    decoder: FrameDecoder,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, decoder: FrameDecoder::default(), buffer: vec![0; CHUNK] }
    }

    /// The next frame; `None` when the other side sends no more. Cancel-safe: what was read stays
    /// in the decoder.
    pub(crate) async fn next(&mut self) -> io::Result<Option<(Channel, Vec<u8>)>> {
        loop {
            if let Some(frame) = self.decoder.next().map_err(io::Error::other)? {
                return Ok(Some(frame));
            }
            let n = self.inner.read(&mut self.buffer).await?;
            if n == 0 {
                return Ok(None);
            }
            self.decoder.push(&self.buffer[..n]);
        }
    }
}

/// Writes frames.
#[derive(Debug)]
pub(crate) struct FrameWriter<W> {
    inner: W,
    buffer: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, buffer: Vec::new() }
    }

    pub(crate) async fn write(&mut self, channel: Channel, payload: &[u8]) -> io::Result<()> {
        self.buffer.clear();
        encode_frame(channel, payload, &mut self.buffer);
        self.inner.write_all(&self.buffer).await?;
        self.inner.flush().await
    }

    /// The last frame.
    pub(crate) async fn finish(&mut self, status: &Value) -> io::Result<()> {
        self.write(Channel::Error, status.to_string().as_bytes()).await?;
        self.inner.shutdown().await
    }
}

/// Reads once from a stream that may not be there; an absent one has ended. Cancel-safe.
pub(crate) async fn read_some<R: AsyncRead + Unpin>(
    stream: &mut Option<R>,
    buffer: &mut [u8],
) -> io::Result<usize> {
    match stream {
        Some(stream) => stream.read(buffer).await,
        None => Ok(0),
    }
}

/// A buffer for one read.
pub(crate) fn chunk() -> Vec<u8> {
    vec![0; CHUNK]
}
