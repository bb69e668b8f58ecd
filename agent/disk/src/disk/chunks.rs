//! Large values in pieces. The database moves nodes above a quarter of a segment, and a node holds up to 16 values,
//! into files that it never frees: no single record may come near that.
//!
//! ```text
//! "v" key                    -> 0 | value                    small
//! "v" key                    -> 1 | number of pieces u32     large
//! "w" key | 0xff | index u32 -> piece
//! ```

use std::collections::BTreeMap;

use super::Batch;

const INLINE: u8 = 0;
const CHUNKED: u8 = 1;

/// Knows which keys hold large values, and in how many pieces.
#[derive(Debug)]
pub(super) struct Chunks {
    chunk_bytes: usize,
    n_chunks: BTreeMap<Vec<u8>, u32>,
}

impl Chunks {
    pub(super) fn new(segment_bytes: usize) -> Self {
        Self { chunk_bytes: segment_bytes / 128, n_chunks: BTreeMap::new() }
    }

    /// Learns the large values. Gives back the keys whose pieces are not all there.
    pub(super) fn load(&mut self, db: &sled::Db) -> Result<Vec<Vec<u8>>, sled::Error> {
        let mut damaged = Vec::new();
        for pair in db.scan_prefix(b"v") {
            let (key, record) = pair?;
            let key = &key[1..];
            match head(&record) {
                Head::Inline(_) => {}
                Head::Chunked(n_chunks) => {
                    self.n_chunks.insert(key.to_vec(), n_chunks);
                    if join(db, key, n_chunks)?.is_none() {
                        damaged.push(key.to_vec());
                    }
                }
                Head::Unknown => damaged.push(key.to_vec()),
            }
        }
        Ok(damaged)
    }

    pub(super) fn encode(&mut self, batch: Batch) -> sled::Batch {
        let mut out = sled::Batch::default();
        for (key, value) in batch.changes {
            self.remove_chunks(&key, &mut out);
            match value {
                None => out.remove(head_key(&key)),
                Some(value) if value.len() <= self.chunk_bytes => {
                    let mut record = Vec::with_capacity(1 + value.len());
                    record.push(INLINE);
                    record.extend_from_slice(&value);
                    out.insert(head_key(&key), record);
                }
                Some(value) => self.split(key, &value, &mut out),
            }
        }
        out
    }

    fn split(&mut self, key: Vec<u8>, value: &[u8], out: &mut sled::Batch) {
        let mut n_chunks = 0_u32;
        for chunk in value.chunks(self.chunk_bytes) {
            out.insert(chunk_key(&key, n_chunks), chunk);
            n_chunks += 1;
        }
        let mut record = vec![CHUNKED];
        record.extend_from_slice(&n_chunks.to_be_bytes());
        out.insert(head_key(&key), record);
        self.n_chunks.insert(key, n_chunks);
    }

    fn remove_chunks(&mut self, key: &[u8], out: &mut sled::Batch) {
        for index in 0..self.n_chunks.remove(key).unwrap_or(0) {
            out.remove(chunk_key(key, index));
        }
    }
}

/// Visits whole values; incomplete ones are left out.
pub(super) fn scan(
    db: &sled::Db,
    visit: &mut dyn FnMut(&[u8], Vec<u8>),
) -> Result<(), sled::Error> {
    for pair in db.scan_prefix(b"v") {
        let (key, record) = pair?;
        let key = &key[1..];
        let value = match head(&record) {
            Head::Inline(value) => Some(value.to_vec()),
            Head::Chunked(n_chunks) => join(db, key, n_chunks)?,
            Head::Unknown => None,
        };
        if let Some(value) = value {
            visit(key, value);
        }
    }
    Ok(())
}

enum Head<'a> {
    Inline(&'a [u8]),
    Chunked(u32),
    Unknown,
}

fn head(record: &[u8]) -> Head<'_> {
    match record.split_first() {
        Some((&INLINE, value)) => Head::Inline(value),
        Some((&CHUNKED, count)) => {
            count.try_into().map_or(Head::Unknown, |it| Head::Chunked(u32::from_be_bytes(it)))
        }
        Some(_) | None => Head::Unknown,
    }
}

fn join(db: &sled::Db, key: &[u8], n_chunks: u32) -> Result<Option<Vec<u8>>, sled::Error> {
    let mut value = Vec::new();
    for index in 0..n_chunks {
        let Some(chunk) = db.get(chunk_key(key, index))? else { return Ok(None) };
        value.extend_from_slice(&chunk);
    }
    Ok(Some(value))
}

fn head_key(key: &[u8]) -> Vec<u8> {
    [b"v", key].concat()
}

fn chunk_key(key: &[u8], index: u32) -> Vec<u8> {
    [b"w", key, &[0xff], &index.to_be_bytes()].concat()
}
