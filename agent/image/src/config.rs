//! What the program decides about images: registries, bounds, platform.

use std::{collections::BTreeMap, time::Duration};

use crate::Platform;

/// How images are pulled and kept.
#[derive(Clone, Debug)]
pub struct ImageConfig {
    /// Registries (`host:port`) that are spoken to without TLS.
    pub plain_http: Vec<String>,
    /// For a registry, other hosts to ask first. Credentials are never sent to a mirror.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Further certificate authorities, each in PEM.
    pub registry_ca_pem: Vec<Vec<u8>>,
    /// What this node can run.
    pub platform: Platform,
    /// Bounds on what an image may cost.
    pub limits: Limits,
    /// Layers fetched at the same time.
    pub concurrent_layers: usize,
    /// Layers, of all images, unpacked at the same time. Other work of the node goes beside it.
    pub concurrent_unpacks: usize,
    /// Attempts for one manifest, and for one blob without any progress in between.
    pub attempts: u32,
    /// Pause before the second attempt; doubles with each further one, up to 32 times this.
    pub retry_pause: Duration,
    /// How long a connection may be silent before it counts as broken.
    pub read_timeout: Duration,
}

impl ImageConfig {
    /// The usual configuration, with these registries spoken to in plain HTTP.
    pub fn new(plain_http: Vec<String>) -> Self {
        Self {
            plain_http,
            mirrors: BTreeMap::new(),
            registry_ca_pem: Vec::new(),
            platform: Platform::host(),
            limits: Limits::standard(),
            concurrent_layers: 3,
            concurrent_unpacks: 2,
            attempts: 5,
            retry_pause: Duration::from_millis(500),
            read_timeout: Duration::from_secs(60),
        }
    }
}

/// Bounds that keep a hostile or broken image from filling the node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of a manifest, an index or an image configuration.
    pub manifest_bytes: u64,
    /// Layers of one image.
    pub layers: usize,
    /// Bytes of one compressed layer.
    pub layer_bytes: u64,
    /// Bytes of one layer after decompression.
    pub unpacked_bytes: u64,
    /// Decompressed bytes per compressed byte, once `ratio_floor` is passed.
    pub ratio: u64,
    /// Decompressed bytes below which the ratio is not looked at.
    pub ratio_floor: u64,
    /// Entries of one layer.
    pub entries: u64,
    /// Bytes of one extended tar header (long names, xattrs).
    pub header_bytes: u64,
}

impl Limits {
    /// Bounds that no image met in practice exceeds.
    pub const fn standard() -> Self {
        const MIB: u64 = 1 << 20;
        const GIB: u64 = 1 << 30;
        Self {
            manifest_bytes: 4 * MIB,
            layers: 250,
            layer_bytes: 16 * GIB,
            unpacked_bytes: 64 * GIB,
            ratio: 200,
            ratio_floor: 256 * MIB,
            entries: 1_000_000,
            header_bytes: MIB,
        }
    }
}
