//! How values lie in the database: large ones in pieces, and a fingerprint over all of them.
//!
//! The database moves nodes above a quarter of a segment, and a node holds up to 16 values, into files that it never
//! frees: no single record may come near that. And it can open a damaged file without a word, with some writes gone:
//! the fingerprint, renewed in every batch, tells.
//!
//! ```text
//! "v" key                    -> 0 | value                    small
//! "v" key                    -> 1 | number of pieces u32     large
//! "w" key | 0xff | index u32 -> piece
//! "i"                        -> sum of the hashes u64 | number of values u64 | number of batches u64
//! ```

use std::collections::BTreeMap;

use super::Batch;

const INLINE: u8 = 0;
const CHUNKED: u8 = 1;
const FINGERPRINT: &[u8] = b"i";

/// Knows of every value its hash, and in how many pieces it lies.
#[derive(Debug)]
pub(super) struct Records {
    chunk_bytes: usize,
    known: BTreeMap<Vec<u8>, Record>,
    sum: u64,
    n_batches: u64,
    n_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    hash: u64,
    bytes: u32,
    n_chunks: u32,
}

impl Records {
    pub(super) fn new(segment_bytes: usize) -> Self {
        Self {
            chunk_bytes: segment_bytes / 128,
            known: BTreeMap::new(),
            sum: 0,
            n_batches: 0,
            n_bytes: 0,
        }
    }

    /// Learns what is there. Whether it is what the last batch left.
    pub(super) fn load(&mut self, db: &sled::Db) -> Result<bool, sled::Error> {
        visit(db, &mut |it| self.learn(it.key.to_vec(), &it.value, it.n_chunks))?;
        let found = db.get(FINGERPRINT)?;
        let Some(found) = found else { return Ok(db.is_empty()) };
        let mut n_batches = [0; 8];
        n_batches.copy_from_slice(found.get(16..24).unwrap_or(&[0; 8]));
        self.n_batches = u64::from_be_bytes(n_batches);
        Ok(*found == self.fingerprint())
    }

    pub(super) fn n_values(&self) -> usize {
        self.known.len()
    }

    /// Number of the newest batch: how many were written in all.
    pub(super) fn n_batches(&self) -> u64 {
        self.n_batches
    }

    /// Counts on from another store.
    pub(super) fn continue_from(&mut self, other: &Self) {
        self.n_batches = other.n_batches;
    }

    /// Size of all keys and values.
    pub(super) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// What a batch is in the database. Its number is the next one unless one is given.
    pub(super) fn encode(&mut self, batch: &Batch, number: Option<u64>) -> sled::Batch {
        let mut out = sled::Batch::default();
        for (key, value) in &batch.changes {
            self.forget(key, &mut out);
            let Some(value) = value else {
                out.remove(head_key(key));
                continue;
            };
            let (record, n_chunks) = if value.len() <= self.chunk_bytes {
                ([&[INLINE][..], value].concat(), 0)
            } else {
                let n_chunks = self.split(key, value, &mut out);
                ([&[CHUNKED][..], &n_chunks.to_be_bytes()].concat(), n_chunks)
            };
            out.insert(head_key(key), record);
            self.learn(key.clone(), value, n_chunks);
        }
        self.n_batches = number.unwrap_or(self.n_batches + 1);
        out.insert(FINGERPRINT, self.fingerprint());
        out
    }

    fn split(&self, key: &[u8], value: &[u8], out: &mut sled::Batch) -> u32 {
        let mut n_chunks = 0_u32;
        for chunk in value.chunks(self.chunk_bytes) {
            out.insert(chunk_key(key, n_chunks), chunk);
            n_chunks += 1;
        }
        n_chunks
    }

    fn learn(&mut self, key: Vec<u8>, value: &[u8], n_chunks: u32) {
        let hash = hash(&key, value);
        let bytes = u32::try_from(key.len() + value.len()).unwrap_or(u32::MAX);
        self.sum = self.sum.wrapping_add(hash);
        self.n_bytes += u64::from(bytes);
        self.known.insert(key, Record { hash, bytes, n_chunks });
    }

    fn forget(&mut self, key: &[u8], out: &mut sled::Batch) {
        if let Some(record) = self.known.remove(key) {
            self.sum = self.sum.wrapping_sub(record.hash);
            self.n_bytes -= u64::from(record.bytes);
            for index in 0..record.n_chunks {
                out.remove(chunk_key(key, index));
            }
        }
    }

    fn fingerprint(&self) -> Vec<u8> {
        let n_values = u64::try_from(self.known.len()).unwrap_or(u64::MAX);
        [self.sum, n_values, self.n_batches].map(u64::to_be_bytes).concat()
    }
}

fn hash(key: &[u8], value: &[u8]) -> u64 {
    let crc = |first: &[u8], second: &[u8]| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(first);
        hasher.update(&[0]);
        hasher.update(second);
        u64::from(hasher.finalize())
    };
    (crc(key, value) << 32) | crc(value, key)
}

/// Visits whole values; incomplete ones are left out.
pub(super) fn scan(db: &sled::Db, seen: &mut dyn FnMut(&[u8], Vec<u8>)) -> Result<(), sled::Error> {
    visit(db, &mut |it| seen(it.key, it.value))
}

struct Found<'a> {
    key: &'a [u8],
    value: Vec<u8>,
    n_chunks: u32,
}

fn visit(db: &sled::Db, seen: &mut dyn FnMut(Found<'_>)) -> Result<(), sled::Error> {
    for pair in db.scan_prefix(b"v") {
        let (key, record) = pair?;
        let key = &key[1..];
        match head(&record) {
            Head::Inline(value) => seen(Found { key, value: value.to_vec(), n_chunks: 0 }),
            Head::Chunked(n_chunks) => {
                if let Some(value) = join(db, key, n_chunks)? {
                    seen(Found { key, value, n_chunks });
                }
            }
            Head::Unknown => {}
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
