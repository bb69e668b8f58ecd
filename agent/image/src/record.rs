//! What is written down about images and snapshots. Versioned; an unknown version is not read.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{ChainId, DiffId, Digest, ImageRef};

const VERSION: u32 = 1;

/// What a name stands for on this node.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageRecord {
    pub(crate) reference: ImageRef,
    /// The manifest for this platform.
    pub(crate) digest: Digest,
    /// What the registry answered for the name: an index, or the manifest.
    pub(crate) repo_digest: Digest,
    pub(crate) config: Digest,
    /// Lowest first.
    pub(crate) layers: Vec<LayerRecord>,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LayerRecord {
    pub(crate) blob: Digest,
    pub(crate) size: u64,
    pub(crate) diff_id: DiffId,
}

impl ImageRecord {
    /// The snapshots of the layers, lowest first.
    pub(crate) fn chain(&self) -> Vec<ChainId> {
        let diff_ids: Vec<DiffId> = self.layers.iter().map(|it| it.diff_id.clone()).collect();
        ChainId::stack(&diff_ids)
    }

    /// Every blob that belongs to the image.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Digest> {
        [&self.digest, &self.config].into_iter().chain(self.layers.iter().map(|it| &it.blob))
    }
}

/// What an unpacked layer was when it was complete.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SnapshotRecord {
    pub(crate) chain_id: ChainId,
    pub(crate) diff_id: DiffId,
    pub(crate) blob: Digest,
    pub(crate) census: Census,
}

/// How much lies in a directory tree.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Census {
    /// Names, whatever they name.
    pub(crate) names: u64,
    /// Bytes of regular files; a file with several names counts for each.
    pub(crate) bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    record: T,
}

pub(crate) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(&Versioned { version: VERSION, record })
        .expect("records have text keys and plain values");
    bytes.push(b'\n');
    bytes
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let found: Versioned<T> = serde_json::from_slice(bytes).ok()?;
    (found.version == VERSION).then_some(found.record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_version_is_not_read() {
        let record = Census { names: 3, bytes: 4 };
        let bytes = encode(&record);
        assert_eq!(decode(&bytes), Some(record));
        let newer = String::from_utf8(bytes).unwrap().replace("\"version\":1", "\"version\":2");
        assert_eq!(decode::<Census>(newer.as_bytes()), None);
        assert_eq!(decode::<Census>(b"{"), None);
    }
}
