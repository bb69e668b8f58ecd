//! What lies on the disk: one record for each object, and a few of our own.
//!
//! ```text
//! "o" key     -> format u8 | revision u64 | created u64 | hole u32 | JSON     (big endian)
//! "m" "epoch" -> format u8 | u128
//! "m" "revision" -> format u8 | u64
//! ```

use agent_disk::{Batch, Disk};
use bytes::{Buf, BufMut, Bytes};

use super::{OpenError, StorageEpoch};
use crate::{Entry, Key, Revision};

const FORMAT: u8 = 1;
const HEAD: usize = 1 + 8 + 8 + 4;
const EPOCH: &[u8] = b"mepoch";
const REVISION: &[u8] = b"mrevision";

/// Everything that was stored.
pub(super) struct Loaded {
    pub(super) entries: Vec<Entry>,
    pub(super) revision: Revision,
    pub(super) epoch: Option<StorageEpoch>,
    pub(super) n_unreadable: usize,
}

/// Reads the whole disk.
pub(super) fn load(disk: &Disk) -> Result<Loaded, OpenError> {
    let mut loaded =
        Loaded { entries: Vec::new(), revision: Revision::ZERO, epoch: None, n_unreadable: 0 };
    let mut newer = None;
    disk.scan(&mut |key, value| {
        if value.first().is_some_and(|&format| format > FORMAT) {
            newer = value.first().copied();
        }
        if loaded.absorb(key, value).is_none() {
            loaded.n_unreadable += 1;
        }
    })
    .map_err(OpenError::Read)?;
    match newer {
        Some(found) => Err(OpenError::Format { found, known: FORMAT }),
        None => Ok(loaded),
    }
}

impl Loaded {
    fn absorb(&mut self, key: &[u8], value: Vec<u8>) -> Option<()> {
        if key == EPOCH {
            let mut body = value.get(1..)?;
            self.epoch = Some(StorageEpoch::new(body.try_get_u128().ok()?));
        } else if key == REVISION {
            let mut body = value.get(1..)?;
            self.revision = self.revision.max(Revision::new(body.try_get_u64().ok()?));
        } else {
            let entry = entry(key, value)?;
            self.revision = self.revision.max(entry.revision);
            self.entries.push(entry);
        }
        Some(())
    }
}

fn entry(key: &[u8], value: Vec<u8>) -> Option<Entry> {
    let text = std::str::from_utf8(key.strip_prefix(b"o")?).ok()?;
    let key = Key::parse(text)?;
    let mut value = Bytes::from(value);
    if value.try_get_u8().ok()? != FORMAT {
        return None;
    }
    let revision = Revision::new(value.try_get_u64().ok()?);
    let created = Revision::new(value.try_get_u64().ok()?);
    let hole = usize::try_from(value.try_get_u32().ok()?).ok()?;
    let digits = revision.to_string();
    let stamped = value.get(hole..hole.checked_add(digits.len())?)?;
    (stamped == digits.as_bytes()).then(|| Entry::stored(key, revision, created, value, hole))
}

/// The record of a put.
pub(super) fn put(batch: &mut Batch, entry: &Entry) {
    let mut value = Vec::with_capacity(HEAD + entry.bytes.len());
    value.put_u8(FORMAT);
    value.put_u64(entry.revision.get());
    value.put_u64(entry.created.get());
    value.put_u32(u32::try_from(entry.hole()).expect("objects are smaller than 4 GiB"));
    value.put_slice(&entry.bytes);
    batch.put(object_key(&entry.key), value);
}

/// The end of a record.
pub(super) fn delete(batch: &mut Batch, key: &Key) {
    batch.delete(object_key(key));
}

/// The revision reached by a batch: a deletion leaves no record that would tell.
pub(super) fn reached(batch: &mut Batch, revision: Revision) {
    let mut value = vec![FORMAT];
    value.put_u64(revision.get());
    batch.put(REVISION.to_vec(), value);
}

/// The first records of a history.
pub(super) fn founding(epoch: StorageEpoch, revision: Revision) -> Batch {
    let mut batch = Batch::default();
    let mut value = vec![FORMAT];
    value.put_u128(epoch.get());
    batch.put(EPOCH.to_vec(), value);
    reached(&mut batch, revision);
    batch
}

fn object_key(key: &Key) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.as_str().len());
    out.push(b'o');
    out.extend_from_slice(key.as_str().as_bytes());
    out
}
