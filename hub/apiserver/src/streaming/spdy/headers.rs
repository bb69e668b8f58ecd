//! Header blocks of SPDY/3.1: one zlib stream per direction, flushed after every block.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::SpdyError;
use super::dictionary::dictionary;
use crate::limits::MAX_SPDY_HEADERS;

/// Names (lower case) with their values, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Headers(pub(crate) Vec<(String, String)>);

impl Headers {
    /// The first value of the header.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Turns header blocks into headers.
pub(super) struct Inflater {
    zlib: Decompress,
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self { zlib: Decompress::new(true) }
    }

    /// Reads one block. Blocks must be given in the order in which they came.
    pub(super) fn inflate(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        let mut plain = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            if plain.len() == plain.capacity() {
                if plain.len() >= MAX_SPDY_HEADERS {
                    return Err(SpdyError::TooLarge { what: "header block" });
                }
                plain.reserve(plain.len());
            }
            let (before_in, before_out) = (self.zlib.total_in(), plain.len());
            let result = self.zlib.decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            let used = usize::try_from(self.zlib.total_in() - before_in).unwrap_or(rest.len());
            rest = rest.get(used..).unwrap_or_default();
            match result {
                Ok(Status::StreamEnd) => return Err(SpdyError::Malformed { what: "zlib stream" }),
                Ok(Status::Ok | Status::BufError) => {}
                Err(err) if err.needs_dictionary().is_some() => {
                    self.zlib
                        .set_dictionary(&dictionary())
                        .map_err(|_| SpdyError::Malformed { what: "zlib dictionary" })?;
                    continue;
                }
                Err(_) => return Err(SpdyError::Malformed { what: "zlib stream" }),
            }
            let full = plain.len() == plain.capacity();
            if !full && (rest.is_empty() || (used == 0 && plain.len() == before_out)) {
                break;
            }
        }
        parse(&plain)
    }
}

/// Turns headers into header blocks.
pub(super) struct Deflater {
    zlib: Compress,
}

impl Deflater {
    pub(super) fn new() -> Self {
        let mut zlib = Compress::new(Compression::fast(), true);
        // Fails only on a stream that was used already.
        let _ = zlib.set_dictionary(&dictionary());
        Self { zlib }
    }

    pub(super) fn deflate(&mut self, headers: &Headers) -> Result<Vec<u8>, SpdyError> {
        let mut plain = Vec::new();
        put_len(&mut plain, headers.0.len());
        for (name, value) in &headers.0 {
            for text in [name, value] {
                put_len(&mut plain, text.len());
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        let mut rest = plain.as_slice();
        loop {
            let before = self.zlib.total_in();
            self.zlib
                .compress_vec(rest, &mut out, FlushCompress::Sync)
                .map_err(|_| SpdyError::Malformed { what: "headers" })?;
            let used = usize::try_from(self.zlib.total_in() - before).unwrap_or(rest.len());
            rest = rest.get(used..).unwrap_or_default();
            if rest.is_empty() && out.len() < out.capacity() {
                return Ok(out);
            }
            out.reserve(256);
        }
    }
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
}

fn parse(mut plain: &[u8]) -> Result<Headers, SpdyError> {
    let count = take_u32(&mut plain)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = take_text(&mut plain)?.to_ascii_lowercase();
        let value = take_text(&mut plain)?;
        headers.push((name, value));
    }
    Ok(Headers(headers))
}

fn take_u32(plain: &mut &[u8]) -> Result<u32, SpdyError> {
    let Some((head, rest)) = plain.split_first_chunk::<4>() else {
        return Err(SpdyError::Malformed { what: "header block" });
    };
    *plain = rest;
    Ok(u32::from_be_bytes(*head))
}

fn take_text(plain: &mut &[u8]) -> Result<String, SpdyError> {
    let len = usize::try_from(take_u32(plain)?).unwrap_or(usize::MAX);
    if len > plain.len() {
        return Err(SpdyError::Malformed { what: "header block" });
    }
    let (text, rest) = plain.split_at(len);
    *plain = rest;
    String::from_utf8(text.to_vec()).map_err(|_| SpdyError::Malformed { what: "header text" })
}
