//! What lies in etcd: one key for each object, and a few of our own, all below one prefix.
//!
//! ```text
//! PREFIX/o/KEY      -> format u8 | hole u32 | JSON without its revision     (big endian)
//!                   or format u8 | all that, sealed
//! PREFIX/m/epoch    -> the history's identity, decimal
//! PREFIX/m/last     -> nothing; written in every transaction: its revision is that of the last one
//! PREFIX/m/compact  -> the revision up to which history was forgotten, decimal
//! ```
//! An object's revision is that of its key: etcd knows it, the value need not say it.

use bytes::{Buf, BufMut, Bytes};

use super::wire::KeyValue;
use crate::{Body, Entry, Key, Revision, Sealer, UnsealError, seal};

const FORMAT: u8 = 1;
const SEALED: u8 = 2;

/// Where everything lies.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    prefix: String,
}

impl Layout {
    /// `prefix` has no slash at its end.
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The keys that are watched: the objects, and ours.
    pub(super) fn everything(&self) -> (Bytes, Bytes) {
        // The character after the slash ends the range.
        (format!("{}/", self.prefix).into(), format!("{}0", self.prefix).into())
    }

    pub(super) fn objects(&self) -> (Bytes, Bytes) {
        (format!("{}/o/", self.prefix).into(), format!("{}/o0", self.prefix).into())
    }

    pub(super) fn object(&self, key: &Key) -> Bytes {
        format!("{}/o/{key}", self.prefix).into()
    }

    pub(super) fn epoch(&self) -> Bytes {
        format!("{}/m/epoch", self.prefix).into()
    }

    pub(super) fn last(&self) -> Bytes {
        format!("{}/m/last", self.prefix).into()
    }

    pub(super) fn compact(&self) -> Bytes {
        format!("{}/m/compact", self.prefix).into()
    }

    /// The object that lies here; nothing if it is one of our own keys.
    pub(super) fn object_key(&self, key: &[u8]) -> Option<Key> {
        let key = key.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b"/o/")?;
        Key::parse(std::str::from_utf8(key).ok()?)
    }
}

/// Why what lies in etcd is not an object.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum RecordError {
    #[error("it has format {found}, this program knows {known}", known = SEALED)]
    Format { found: u8 },
    #[error("it is not an object of a hub")]
    Malformed,
    #[error(transparent)]
    Sealed(#[from] UnsealError),
}

/// What is stored of an object.
pub(super) fn encode(key: &Key, body: &Body, sealer: Option<&Sealer>) -> Bytes {
    let mut value = Vec::with_capacity(1 + 4 + body.size());
    value.put_u8(FORMAT);
    value.put_u32(u32::try_from(body.before.len()).expect("objects are smaller than 4 GiB"));
    value.put_slice(&body.before);
    value.put_slice(&body.after);
    if let Some(sealer) = sealer.filter(|it| it.wanted(key).is_some()) {
        let sealed = sealer.seal(key, value.get(1..).unwrap_or_default());
        let sealed = sealed.expect("the system has randomness, the object is smaller than 64 GiB");
        value = [&[SEALED][..], &sealed].concat();
    }
    value.into()
}

/// Reads an object back, and the name of the key that it is sealed with.
pub(super) fn decode(
    key: &Key,
    kv: &KeyValue,
    sealer: Option<&Sealer>,
) -> Result<(Entry, Option<String>), RecordError> {
    let mut value = kv.value.clone();
    let format = value.try_get_u8().map_err(|_| RecordError::Malformed)?;
    let mut sealed_with = None;
    match format {
        FORMAT => {}
        SEALED => {
            let name = seal::key_name(&value).ok_or(UnsealError::Malformed)?.to_owned();
            let unknown = || UnsealError::UnknownKey { name: name.clone() };
            value = sealer.ok_or_else(unknown)?.open(key, &value)?.into();
            sealed_with = Some(name);
        }
        found => return Err(RecordError::Format { found }),
    }
    let hole = value.try_get_u32().map_err(|_| RecordError::Malformed)?;
    let hole = usize::try_from(hole).map_err(|_| RecordError::Malformed)?;
    if hole > value.len() {
        return Err(RecordError::Malformed);
    }
    let before = value.split_to(hole);
    let revision = revision(kv.mod_revision);
    let created = self::revision(kv.create_revision);
    let bytes = Body { before, after: value }.at(revision);
    Ok((Entry::stored(key.clone(), revision, created, bytes, hole), sealed_with))
}

/// etcd counts from one, with a sign.
pub(super) fn revision(number: i64) -> Revision {
    Revision::new(u64::try_from(number).unwrap_or_default())
}

/// As [`revision`], the other way.
pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.get()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_come_back_with_the_revision_of_their_key() {
        let keys: Sealer = format!("k {}", "1".repeat(64)).parse().unwrap();
        let layout = Layout::new("/outbye");
        let body = Body::from_value(&json!({"metadata": {"name": "a"}, "data": "hush"}));
        for (plural, sealed) in [("secrets", true), ("pods", false)] {
            let key = Key::new("core", plural, Some("d"), "a");
            let value = encode(&key, &body, Some(&keys));
            assert_eq!(value.windows(4).any(|it| it == b"hush"), !sealed);
            let kv = KeyValue {
                key: layout.object(&key),
                create_revision: 7,
                mod_revision: 12,
                value: value.clone(),
            };
            let (entry, with) = decode(&key, &kv, Some(&keys)).unwrap();
            assert_eq!((entry.revision, entry.created), (Revision::new(12), Revision::new(7)));
            assert_eq!(entry.value()["metadata"]["resourceVersion"], "12");
            assert_eq!(entry.stamped(Revision::new(345)), body.at(Revision::new(345)));
            assert_eq!(with.is_some(), sealed);
            assert_eq!(decode(&key, &kv, None).is_err(), sealed);
            assert_eq!(layout.object_key(&kv.key), Some(key.clone()));
            for at in 0..value.len().min(9) {
                let cut = KeyValue { value: value.slice(..at), ..kv.clone() };
                // What is cut within the text is not ours to see.
                assert!(decode(&key, &cut, Some(&keys)).is_err() || (at >= 5 && !sealed), "{at}");
            }
        }
        assert_eq!(layout.object_key(&layout.last()), None);
        assert_eq!(layout.object_key(b"/other/o/core/pods/d/a"), None);
    }
}
