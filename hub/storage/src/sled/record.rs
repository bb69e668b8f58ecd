//! What lies on the disk: one record for each object, and a few of our own.
//!
//! ```text
//! "o" key     -> format u8 | revision u64 | created u64 | hole u32 | JSON     (big endian)
//!             or format u8 | all that, sealed
//! "m" "epoch" -> format u8 | u128
//! "m" "revision" -> format u8 | u64
//! ```

use agent_disk::{Batch, Disk};
use bytes::{Buf, BufMut, Bytes};

use super::{OpenError, StorageEpoch};
use crate::{Entry, Key, Revision, Sealer, UnsealError, seal};

const FORMAT: u8 = 1;
const SEALED: u8 = 2;
const HEAD: usize = 1 + 8 + 8 + 4;
const EPOCH: &[u8] = b"mepoch";
const REVISION: &[u8] = b"mrevision";

/// Everything that was stored.
pub(super) struct Loaded {
    pub(super) entries: Vec<Entry>,
    pub(super) revision: Revision,
    pub(super) epoch: Option<StorageEpoch>,
    pub(super) n_unreadable: usize,
    /// Indices of the entries that are not sealed as they should be.
    pub(super) to_reseal: Vec<usize>,
}

/// Reads the whole disk.
pub(super) fn load(disk: &Disk, sealer: Option<&Sealer>) -> Result<Loaded, OpenError> {
    let mut loaded = Loaded {
        entries: Vec::new(),
        revision: Revision::ZERO,
        epoch: None,
        n_unreadable: 0,
        to_reseal: Vec::new(),
    };
    let (mut newer, mut locked) = (None, None);
    disk.scan(&mut |key, value| {
        let format = value.first().copied().unwrap_or_default();
        if format > SEALED {
            newer = Some(format);
            return;
        }
        let (value, sealed_with) = match unseal(sealer, key, value) {
            Ok(unsealed) => unsealed,
            Err(err) => {
                let key = String::from_utf8_lossy(key.get(1..).unwrap_or_default()).into_owned();
                locked.get_or_insert(OpenError::Sealed { key, err });
                return;
            }
        };
        if loaded.absorb(key, value, sealed_with.as_deref(), sealer).is_none() {
            loaded.n_unreadable += 1;
        }
    })
    .map_err(OpenError::Read)?;
    match (newer, locked) {
        (Some(found), _) => Err(OpenError::Format { found, known: SEALED }),
        (None, Some(locked)) => Err(locked),
        (None, None) => Ok(loaded),
    }
}

/// A record as it would be without sealing, and the name of the key that it is sealed with.
pub(crate) fn unseal(
    sealer: Option<&Sealer>,
    key: &[u8],
    value: Vec<u8>,
) -> Result<(Vec<u8>, Option<String>), UnsealError> {
    let Some((&SEALED, sealed)) = value.split_first() else { return Ok((value, None)) };
    let name = seal::key_name(sealed).ok_or(UnsealError::Malformed)?.to_owned();
    let Some(sealer) = sealer else { return Err(UnsealError::UnknownKey { name }) };
    let key = object_key_of(key).ok_or(UnsealError::Malformed)?;
    let opened = sealer.open(&key, sealed)?;
    Ok(([&[FORMAT][..], &opened].concat(), Some(name)))
}

fn object_key_of(key: &[u8]) -> Option<Key> {
    Key::parse(std::str::from_utf8(key.strip_prefix(b"o")?).ok()?)
}

impl Loaded {
    fn absorb(
        &mut self,
        key: &[u8],
        value: Vec<u8>,
        sealed_with: Option<&str>,
        sealer: Option<&Sealer>,
    ) -> Option<()> {
        if key == EPOCH {
            let mut body = value.get(1..)?;
            self.epoch = Some(StorageEpoch::new(body.try_get_u128().ok()?));
        } else if key == REVISION {
            let mut body = value.get(1..)?;
            self.revision = self.revision.max(Revision::new(body.try_get_u64().ok()?));
        } else {
            let entry = entry(key, value)?;
            self.revision = self.revision.max(entry.revision);
            if sealed_with != sealer.and_then(|it| it.wanted(&entry.key)) {
                self.to_reseal.push(self.entries.len());
            }
            self.entries.push(entry);
        }
        Some(())
    }
}

pub(crate) fn entry(key: &[u8], value: Vec<u8>) -> Option<Entry> {
    let key = object_key_of(key)?;
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
pub(super) fn put(batch: &mut Batch, entry: &Entry, sealer: Option<&Sealer>) {
    let (key, value) = encode(entry, sealer);
    batch.put(key, value);
}

/// An object as it lies on the disk.
pub(crate) fn encode(entry: &Entry, sealer: Option<&Sealer>) -> (Vec<u8>, Vec<u8>) {
    let mut value = Vec::with_capacity(HEAD + entry.bytes.len());
    value.put_u8(FORMAT);
    value.put_u64(entry.revision.get());
    value.put_u64(entry.created.get());
    value.put_u32(u32::try_from(entry.hole()).expect("objects are smaller than 4 GiB"));
    value.put_slice(&entry.bytes);
    if let Some(sealer) = sealer.filter(|it| it.wanted(&entry.key).is_some()) {
        let sealed = sealer.seal(&entry.key, &value[1..]);
        let sealed = sealed.expect("the system has randomness, the object is smaller than 64 GiB");
        value = [&[SEALED][..], &sealed].concat();
    }
    (object_key(&entry.key), value)
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
pub(crate) fn founding(epoch: StorageEpoch, revision: Revision) -> Batch {
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
