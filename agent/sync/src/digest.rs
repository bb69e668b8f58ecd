//! Digests by which the two ends find out what differs, without a log of changes.
//!
//! A view is cut into [`BUCKETS`] buckets by the hash of the key. The digest of a bucket is the
//! wrapping sum of its objects' hashes, so adding and removing one object is one addition. The
//! hash is no defence against a liar: the peer is authenticated, and a node trusts its hub.

use crate::ObjectKey;

/// Number of buckets of a view.
pub const BUCKETS: usize = 256;

/// FNV-1a, 64 bit (http://www.isthe.com/chongo/tech/comp/fnv/), finished by a mixer so that sums
/// of similar objects do not cancel out.
fn hash(parts: &[&[u8]]) -> u64 {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in *part {
            state ^= u64::from(*byte);
            state = state.wrapping_mul(0x0100_0000_01b3);
        }
        state ^= 0xff;
        state = state.wrapping_mul(0x0100_0000_01b3);
    }
    state ^= state >> 30;
    state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state ^= state >> 27;
    state = state.wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// Hash of one object with its content.
pub fn object(key: &ObjectKey, body: &[u8]) -> u64 {
    hash(&[key.kind.as_bytes(), key.namespace.as_bytes(), key.name.as_bytes(), body])
}

/// The bucket that a key belongs to.
pub fn bucket(key: &ObjectKey) -> usize {
    let h = hash(&[key.kind.as_bytes(), key.namespace.as_bytes(), key.name.as_bytes()]);
    usize::from(h.to_le_bytes()[0])
}

/// The digests of all buckets of one view.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ViewDigest {
    buckets: Vec<u64>,
}

impl Default for ViewDigest {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS] }
    }
}

impl ViewDigest {
    /// Takes the digests that the peer sent. `None` if their number is wrong.
    pub fn from_buckets(buckets: Vec<u64>) -> Option<Self> {
        (buckets.len() == BUCKETS).then_some(Self { buckets })
    }

    pub fn add(&mut self, key: &ObjectKey, object_hash: u64) {
        let slot = &mut self.buckets[bucket(key)];
        *slot = slot.wrapping_add(object_hash);
    }

    pub fn remove(&mut self, key: &ObjectKey, object_hash: u64) {
        let slot = &mut self.buckets[bucket(key)];
        *slot = slot.wrapping_sub(object_hash);
    }

    /// One number for the whole view.
    pub fn root(&self) -> u64 {
        let bytes: Vec<u8> = self.buckets.iter().flat_map(|it| it.to_le_bytes()).collect();
        hash(&[&bytes])
    }

    pub fn buckets(&self) -> &[u64] {
        &self.buckets
    }

    /// The buckets in which the two views differ.
    pub fn differing(&self, other: &Self) -> Vec<u32> {
        (0u32..)
            .zip(self.buckets.iter().zip(&other.buckets))
            .filter(|(_, (a, b))| a != b)
            .map(|(i, _)| i)
            .collect()
    }
}
