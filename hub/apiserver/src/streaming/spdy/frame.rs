//! Frames of SPDY/3.1, both ways. Pure: bytes in, frames out.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::SpdyError;
use super::headers::{Deflater, Headers, Inflater};
use crate::limits::MAX_SPDY_FRAME;

const VERSION: u16 = 3;
const FLAG_FIN: u8 = 1;
const FLAG_UNIDIRECTIONAL: u8 = 2;
const STREAM_ID: u32 = 0x7fff_ffff;

/// One frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Frame {
    SynStream {
        id: u32,
        headers: Headers,
        fin: bool,
    },
    SynReply {
        id: u32,
        headers: Headers,
        fin: bool,
    },
    RstStream {
        id: u32,
        status: u32,
    },
    /// Ignored: nothing in it matters to a tunnel.
    Settings,
    Ping {
        id: u32,
    },
    GoAway {
        last: u32,
    },
    Headers {
        id: u32,
        headers: Headers,
        fin: bool,
    },
    WindowUpdate {
        id: u32,
        delta: u32,
    },
    Data {
        id: u32,
        payload: Bytes,
        fin: bool,
    },
}

/// Cuts a byte stream into frames.
pub(crate) struct FrameDecoder {
    buffer: BytesMut,
    inflater: Inflater,
}

impl FrameDecoder {
    pub(crate) fn new() -> Self {
        Self { buffer: BytesMut::new(), inflater: Inflater::new() }
    }

    /// Where bytes from the peer go.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole frame, if there is one. After an error the connection is of no more use.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        loop {
            let Some(head) = self.buffer.first_chunk::<8>().copied() else { return Ok(None) };
            let word = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            let flags = head[4];
            let len = usize::try_from(u32::from_be_bytes([0, head[5], head[6], head[7]]))
                .unwrap_or(usize::MAX);
            if len > MAX_SPDY_FRAME {
                return Err(SpdyError::TooLarge { what: "frame" });
            }
            if self.buffer.len() < len + 8 {
                return Ok(None);
            }
            self.buffer.advance(8);
            let body = self.buffer.split_to(len).freeze();
            let fin = flags & FLAG_FIN != 0;
            if word & !STREAM_ID == 0 {
                return Ok(Some(Frame::Data { id: word, payload: body, fin }));
            }
            let [version_high, version_low, kind_high, kind_low] = word.to_be_bytes();
            if u16::from_be_bytes([version_high & 0x7f, version_low]) != VERSION {
                return Err(SpdyError::Malformed { what: "version" });
            }
            let kind = u16::from_be_bytes([kind_high, kind_low]);
            if let Some(frame) = self.control(kind, body, fin)? {
                return Ok(Some(frame));
            }
        }
    }

    fn control(
        &mut self,
        kind: u16,
        mut body: Bytes,
        fin: bool,
    ) -> Result<Option<Frame>, SpdyError> {
        let needs = match kind {
            1 => 10,
            2 | 6 | 8 => 4,
            3 | 7 | 9 => 8,
            _ => 0,
        };
        if body.len() < needs {
            return Err(SpdyError::Malformed { what: "control frame" });
        }
        Ok(Some(match kind {
            1 => {
                let id = body.get_u32() & STREAM_ID;
                body.advance(6); // associated stream, priority, slot
                Frame::SynStream { id, headers: self.inflater.inflate(&body)?, fin }
            }
            2 => {
                let id = body.get_u32() & STREAM_ID;
                Frame::SynReply { id, headers: self.inflater.inflate(&body)?, fin }
            }
            3 => Frame::RstStream { id: body.get_u32() & STREAM_ID, status: body.get_u32() },
            4 => Frame::Settings,
            6 => Frame::Ping { id: body.get_u32() },
            7 => Frame::GoAway { last: body.get_u32() & STREAM_ID },
            8 => {
                let id = body.get_u32() & STREAM_ID;
                Frame::Headers { id, headers: self.inflater.inflate(&body)?, fin }
            }
            9 => Frame::WindowUpdate { id: body.get_u32() & STREAM_ID, delta: body.get_u32() },
            // Frames of extensions may be skipped.
            _ => return Ok(None),
        }))
    }
}

/// Turns frames into bytes.
pub(crate) struct FrameEncoder {
    deflater: Deflater,
}

impl FrameEncoder {
    pub(crate) fn new() -> Self {
        Self { deflater: Deflater::new() }
    }

    /// Appends the frame's bytes.
    pub(crate) fn encode(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<(), SpdyError> {
        let fin_flag = |fin: &bool| if *fin { FLAG_FIN } else { 0 };
        match frame {
            Frame::Data { id, payload, fin } => {
                out.put_u32(id & STREAM_ID);
                put_flags_and_len(out, fin_flag(fin), payload.len())?;
                out.put_slice(payload);
            }
            Frame::SynStream { id, headers, fin } => {
                let block = self.deflater.deflate(headers)?;
                put_control(out, 1, fin_flag(fin), block.len() + 10)?;
                out.put_u32(id & STREAM_ID);
                out.put_bytes(0, 6);
                out.put_slice(&block);
            }
            Frame::SynReply { id, headers, fin } => {
                let block = self.deflater.deflate(headers)?;
                put_control(out, 2, fin_flag(fin), block.len() + 4)?;
                out.put_u32(id & STREAM_ID);
                out.put_slice(&block);
            }
            Frame::Headers { id, headers, fin } => {
                let block = self.deflater.deflate(headers)?;
                put_control(out, 8, fin_flag(fin), block.len() + 4)?;
                out.put_u32(id & STREAM_ID);
                out.put_slice(&block);
            }
            Frame::RstStream { id, status } => put_pair(out, 3, *id, *status)?,
            Frame::WindowUpdate { id, delta } => put_pair(out, 9, *id, *delta)?,
            Frame::GoAway { last } => put_pair(out, 7, *last, 0)?,
            Frame::Ping { id } => {
                put_control(out, 6, 0, 4)?;
                out.put_u32(*id);
            }
            Frame::Settings => {
                put_control(out, 4, 0, 4)?;
                out.put_u32(0);
            }
        }
        Ok(())
    }
}

fn put_pair(out: &mut BytesMut, kind: u16, first: u32, second: u32) -> Result<(), SpdyError> {
    put_control(out, kind, 0, 8)?;
    out.put_u32(first & STREAM_ID);
    out.put_u32(second);
    Ok(())
}

fn put_control(out: &mut BytesMut, kind: u16, flags: u8, len: usize) -> Result<(), SpdyError> {
    debug_assert_eq!(flags & FLAG_UNIDIRECTIONAL, 0, "we open no one-way streams");
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    put_flags_and_len(out, flags, len)
}

fn put_flags_and_len(out: &mut BytesMut, flags: u8, len: usize) -> Result<(), SpdyError> {
    let len = u32::try_from(len)
        .ok()
        .filter(|len| *len < 1 << 24)
        .ok_or(SpdyError::TooLarge { what: "frame" })?;
    out.put_u32(u32::from(flags) << 24 | len);
    Ok(())
}
