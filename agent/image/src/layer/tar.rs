//! Cuts a stream into tar entries. The `tar` crate reads the names in a header; the order of blocks,
//! the numbers, the extended headers and their bounds are ours.
//!
//! Where a PAX header gives a size, that size counts, as for GNU tar and Go: two readers that
//! disagree here can be made to see different entries. What Go cannot read is an error.

use std::io::{self, Read};

use crate::{
    Limits,
    layer::{LayerError, stream::LayerStream},
};

const BLOCK: usize = 512;

/// One entry. Its contents, if any, are read from the [`TarReader`] before the next entry is asked for.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum Kind {
    #[default]
    File,
    Dir,
    /// To this target, taken as it is.
    Symlink(Vec<u8>),
    /// To another entry.
    Hardlink(Vec<u8>),
    Char {
        major: u32,
        minor: u32,
    },
    Block {
        major: u32,
        minor: u32,
    },
    Fifo,
}

pub(crate) struct TarReader {
    stream: LayerStream,
    limits: Limits,
    n_entries: u64,
    /// Bytes of the current entry not yet read, and the padding behind them.
    body: u64,
    padding: u64,
}

/// What extended headers said about the entry that follows.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl TarReader {
    pub(crate) fn new(stream: LayerStream, limits: Limits) -> Self {
        Self { stream, limits, n_entries: 0, body: 0, padding: 0 }
    }

    pub(crate) fn into_stream(self) -> LayerStream {
        self.stream
    }

    pub(crate) fn n_entries(&self) -> u64 {
        self.n_entries
    }

    /// The next entry, or `None` at the end of the archive.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, LayerError> {
        let mut extended = Extended::default();
        loop {
            self.skip(self.body + self.padding)?;
            (self.body, self.padding) = (0, 0);
            let Some(block) = self.read_header()? else {
                return Ok(None);
            };
            self.n_entries += 1;
            if self.n_entries > self.limits.entries {
                let limit = self.limits.entries;
                return Err(LayerError::TooBig { what: "entries in a layer", limit });
            }
            let header = ::tar::Header::from_byte_slice(&block);
            let name = header.path_bytes().into_owned();
            let bad = |message: &str| LayerError::malformed(&name, message);
            let size = number(&block[124..136]).ok_or_else(|| bad("the size is not a number"))?;
            match header.entry_type().as_byte() {
                b'x' => {
                    let records = self.read_extended(size)?;
                    extended.read_pax(&records).map_err(|message| bad(&message))?;
                }
                b'L' => extended.name = Some(cut_at_nul(self.read_extended(size)?)),
                b'K' => extended.link = Some(cut_at_nul(self.read_extended(size)?)),
                // Global headers are comments to every reader of images.
                b'g' => drop(self.read_extended(size)?),
                _ => return self.entry(header, size, extended).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: &::tar::Header,
        size: u64,
        extended: Extended,
    ) -> Result<Entry, LayerError> {
        let name = extended.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let bad = |message: &str| LayerError::malformed(&name, message);
        let link = match extended.link {
            Some(link) => link,
            None => header.link_name_bytes().map(|it| it.into_owned()).unwrap_or_default(),
        };
        if name.contains(&0) || link.contains(&0) {
            return Err(bad("a name contains a NUL byte"));
        }
        let block = header.as_bytes();
        let small = |field: &[u8]| number(field).and_then(|it| u32::try_from(it).ok());
        let device = || match (small(&block[329..337]), small(&block[337..345])) {
            (Some(major), Some(minor)) => Ok((major, minor)),
            _ => Err(bad("the device number is not a number")),
        };
        let kind = match header.entry_type().as_byte() {
            b'0' | 0 | b'7' if name.ends_with(b"/") => Kind::Dir,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::Hardlink(link),
            b'2' => Kind::Symlink(link),
            b'3' => device().map(|(major, minor)| Kind::Char { major, minor })?,
            b'4' => device().map(|(major, minor)| Kind::Block { major, minor })?,
            b'5' => Kind::Dir,
            b'6' => Kind::Fifo,
            b'S' => return Err(bad("sparse files are not supported")),
            other => return Err(bad(&format!("entry type {other:#x} is not supported"))),
        };
        let is_body = kind == Kind::File;
        let size = if is_body { extended.size.unwrap_or(size) } else { 0 };
        self.body = size;
        self.padding = size.next_multiple_of(512) - size;
        let id = |from_pax: Option<u64>, field: &[u8]| {
            let id = from_pax.or_else(|| number(field)).and_then(|it| u32::try_from(it).ok());
            id.filter(|id| *id != u32::MAX).ok_or_else(|| bad("the owner is not a number"))
        };
        let mtime = number(&block[136..148]).and_then(|it| i64::try_from(it).ok()).unwrap_or(0);
        Ok(Entry {
            mode: small(&block[100..108]).ok_or_else(|| bad("the mode is not a number"))? & 0o7777,
            uid: id(extended.uid, &block[108..116])?,
            gid: id(extended.gid, &block[116..124])?,
            mtime: extended.mtime.unwrap_or((mtime, 0)),
            xattrs: extended.xattrs,
            kind,
            name,
        })
    }

    /// Reads of the current entry's contents; 0 at their end.
    pub(crate) fn read_body(&mut self, entry: &[u8], buf: &mut [u8]) -> Result<usize, LayerError> {
        let n = usize::try_from(self.body).unwrap_or(usize::MAX).min(buf.len());
        if n == 0 {
            return Ok(0);
        }
        self.fill(entry, &mut buf[..n])?;
        self.body -= u64::try_from(n).unwrap_or(0);
        Ok(n)
    }

    fn read_header(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
        let mut block = [0; BLOCK];
        if !self.fill_or_end(&mut block)? {
            return Ok(None);
        }
        if block.iter().all(|byte| *byte == 0) {
            return match self.fill_or_end(&mut block)? {
                true if block.iter().any(|byte| *byte != 0) => {
                    Err(LayerError::malformed(b"", "a lone zero block in the middle"))
                }
                _ => Ok(None),
            };
        }
        let sum: u64 = block[..148].iter().chain(&block[156..]).map(|byte| u64::from(*byte)).sum();
        if number(&block[148..156]) == Some(sum + 8 * u64::from(b' ')) {
            Ok(Some(block))
        } else {
            Err(LayerError::malformed(b"", "a header's checksum is wrong"))
        }
    }

    fn read_extended(&mut self, size: u64) -> Result<Vec<u8>, LayerError> {
        let limit = self.limits.header_bytes;
        let too_big = LayerError::TooBig { what: "bytes in an extended header", limit };
        if size > limit {
            return Err(too_big);
        }
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| too_big)?];
        self.fill(b"", &mut bytes)?;
        self.padding = size.next_multiple_of(512) - size;
        Ok(bytes)
    }

    fn skip(&mut self, mut n: u64) -> Result<(), LayerError> {
        let mut buf = [0; 8 * BLOCK];
        while n > 0 {
            let part = usize::try_from(n).unwrap_or(usize::MAX).min(buf.len());
            self.fill(b"", &mut buf[..part])?;
            n -= u64::try_from(part).unwrap_or(0);
        }
        Ok(())
    }

    fn fill(&mut self, entry: &[u8], buf: &mut [u8]) -> Result<(), LayerError> {
        self.stream.read_exact(buf).map_err(|err| self.stream.explain(entry, err))
    }

    /// False if the stream ends exactly here.
    fn fill_or_end(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, LayerError> {
        loop {
            match self.stream.read(&mut block[..1]) {
                Ok(0) => return Ok(false),
                Ok(_) => return self.fill(b"", &mut block[1..]).map(|()| true),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(self.stream.explain(b"", err)),
            }
        }
    }
}

impl Extended {
    /// Records are `LENGTH KEY=VALUE\n`, the length counting all of it; values may hold anything.
    fn read_pax(&mut self, mut records: &[u8]) -> Result<(), String> {
        while !records.is_empty() {
            let (key, value, rest) = pax_record(records).ok_or("a PAX record is malformed")?;
            records = rest;
            let key = String::from_utf8_lossy(key);
            if value.is_empty() && !key.starts_with(XATTR) {
                continue;
            }
            let number = || -> Result<u64, String> {
                let text = std::str::from_utf8(value).ok();
                text.and_then(|it| it.parse().ok())
                    .ok_or_else(|| format!("PAX {key} is not a number"))
            };
            match &*key {
                "path" => self.name = Some(value.to_vec()),
                "linkpath" => self.link = Some(value.to_vec()),
                "size" => self.size = Some(number()?),
                "uid" => self.uid = Some(number()?),
                "gid" => self.gid = Some(number()?),
                "mtime" => self.mtime = Some(pax_time(value).ok_or("PAX mtime is not a time")?),
                _ if key.starts_with("GNU.sparse.") => {
                    return Err("sparse files are not supported".to_owned());
                }
                _ => {
                    if let Some(name) = key.strip_prefix(XATTR) {
                        self.xattrs.push((name.to_owned(), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }
}

const XATTR: &str = "SCHILY.xattr.";

/// A number in a header's field: octal digits, or big-endian bytes behind a set bit. An empty field is
/// zero; a negative number is none that we have a use for.
fn number(field: &[u8]) -> Option<u64> {
    match field {
        [first, rest @ ..] if first & 0x80 != 0 => {
            let start = if first & 0x40 == 0 { u64::from(first & 0x3f) } else { return None };
            rest.iter()
                .try_fold(start, |sum, byte| sum.checked_mul(256).map(|sum| sum | u64::from(*byte)))
        }
        _ => {
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
            let digits = field[..end].trim_ascii();
            let text = std::str::from_utf8(digits).ok()?;
            if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
        }
    }
}

fn pax_record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &records[length..]))
}

/// Decimal seconds with a fraction; the nanoseconds of a negative time count upwards.
fn pax_time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    match (whole.starts_with('-'), nanos) {
        (true, 1..) => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos)),
        _ => Some((seconds, nanos)),
    }
}

fn cut_at_nul(mut name: Vec<u8>) -> Vec<u8> {
    if let Some(at) = name.iter().position(|byte| *byte == 0) {
        name.truncate(at);
    }
    name
}
