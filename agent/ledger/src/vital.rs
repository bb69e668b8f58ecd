//! The few things a node must never lose and never see rolled back.

use serde::{Deserialize, Serialize};

/// Bound of the encoded record: certificates are a few KiB.
pub(crate) const CAPACITY: usize = 60 << 10;

/// Who the node is, and how far it has come. Fields that a later version adds are ignored by this one.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Vital {
    /// Version of this record.
    pub version: u32,
    /// Name of the node; empty before it joined.
    pub node_name: String,
    /// Which history of the hub the revision belongs to.
    pub hub_epoch: String,
    /// Nothing below this revision of that history is accepted.
    pub accepted_revision: u64,
    /// Seconds since 1970 that have certainly passed.
    pub time_floor: i64,
    /// The node's private key.
    pub key_pem: String,
    /// The node's certificate.
    pub cert_pem: String,
    /// The hub's CA.
    pub ca_pem: String,
}

impl Vital {
    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers are encodable")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
