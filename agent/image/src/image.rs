//! An image that is complete on this node.

use std::path::PathBuf;

use oci_spec::image::ImageConfiguration;

use crate::{Digest, ImageRef};

/// An image whose layers are all unpacked.
#[derive(Clone, Debug)]
pub struct Image {
    /// The name it was asked for by.
    pub reference: ImageRef,
    /// Digest of the manifest for this platform: the image's identity on this node.
    pub digest: Digest,
    /// What the name stood for in the registry: the index, or the manifest itself.
    pub repo_digest: Digest,
    /// Digest of the image configuration; the "image ID" of other tools.
    pub config_digest: Digest,
    /// Entrypoint, environment, user and the like.
    pub config: ImageConfiguration,
    /// Unpacked layers, lowest first, each usable as an overlay `lowerdir`.
    pub layers: Vec<PathBuf>,
    /// Bytes on disk of the unpacked layers (shared layers count for each image).
    pub size_bytes: u64,
}
