//! What can go wrong, per operation.

use std::{io, path::PathBuf, sync::Arc};

use crate::{Digest, ImageRef, Platform};

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory of the store could not be made or read.
    #[error("could not prepare {path}")]
    Prepare {
        /// The directory or file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        err: io::Error,
    },
    /// Another process has this store open.
    #[error("image store {path} is in use by another process")]
    InUse {
        /// The store's directory.
        path: PathBuf,
    },
}

/// Why an image is not there. Cheap to clone, since one pull may have several waiters.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PullError {
    /// The registry knows no such repository, tag or digest.
    #[error("image {image} was not found in the registry")]
    NotFound {
        /// What was asked for.
        image: ImageRef,
    },
    /// The registry wants other credentials.
    #[error("registry refused access to {image}: {message}")]
    Unauthorized {
        /// What was asked for.
        image: ImageRef,
        /// What the registry said.
        message: String,
    },
    /// This machine knows no certificate authority, so that TLS cannot be trusted.
    #[error(
        "could not trust the registry of {image}: this machine has no certificate authorities; \
         install the package ca-certificates, or allow plain HTTP for the registry"
    )]
    NoAuthorities {
        /// What was asked for.
        image: ImageRef,
    },
    /// The registry could not be reached, or broke off, or was unwell.
    #[error("could not reach the registry of {image}: {message}")]
    Network {
        /// What was asked for.
        image: ImageRef,
        /// What the last attempt met.
        message: String,
    },
    /// The registry answered something that no retry will better.
    #[error("registry rejected the request for {image}: {message}")]
    Rejected {
        /// What was asked for.
        image: ImageRef,
        /// What the registry said.
        message: String,
    },
    /// The image exists, but not for this node.
    #[error("image {image} is not made for {wanted}, only for {}", .available.join(", "))]
    WrongPlatform {
        /// What was asked for.
        image: ImageRef,
        /// What this node runs.
        wanted: Platform,
        /// What the image offers.
        available: Vec<String>,
    },
    /// Content is not what its digest says.
    #[error("content of {image} does not match its digest: expected {expected}, got {found}")]
    DigestMismatch {
        /// What was asked for.
        image: ImageRef,
        /// The digest that was promised.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// The image is not well formed, or exceeds a limit.
    #[error("image {image} is malformed: {why}")]
    Malformed {
        /// What was asked for.
        image: ImageRef,
        /// What is wrong with it.
        why: MalformedImage,
    },
    /// The disk is full. What was fetched so far is removed.
    #[error("no space left for image {image}")]
    NoSpace {
        /// What was asked for.
        image: ImageRef,
    },
    /// The disk failed otherwise.
    #[error("could not store image {image} at {path}")]
    Disk {
        /// What was asked for.
        image: ImageRef,
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        err: Arc<io::Error>,
    },
    /// The work was given up because the program ends.
    #[error("pull of {image} was interrupted")]
    Interrupted {
        /// What was asked for.
        image: ImageRef,
    },
}

impl PullError {
    /// Whether trying again, with nothing changed, can succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            // Links come back; tags and credentials are mended on the registry's side; packages
            // are installed; space is freed; a mangled transfer may pass the next time.
            Self::NotFound { .. }
            | Self::NoAuthorities { .. }
            | Self::Unauthorized { .. }
            | Self::Network { .. }
            | Self::DigestMismatch { .. }
            | Self::NoSpace { .. }
            | Self::Disk { .. }
            | Self::Interrupted { .. } => true,
            // Only another image resolves these.
            Self::Rejected { .. } | Self::WrongPlatform { .. } | Self::Malformed { .. } => false,
        }
    }
}

/// What is wrong with an image.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MalformedImage {
    /// A JSON document does not parse.
    #[error("{document} does not parse: {message}")]
    Json {
        /// Manifest, index or configuration.
        document: &'static str,
        /// The parser's words.
        message: String,
    },
    /// A media type that we cannot use.
    #[error("media type {0:?} is not supported")]
    MediaType(String),
    /// A digest that we cannot verify.
    #[error("{0}")]
    Digest(#[from] crate::DigestParseError),
    /// Manifest and configuration disagree about the layers.
    #[error("manifest has {layers} layers, configuration has {diff_ids}")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// A limit is exceeded.
    #[error("more than {limit} {what}")]
    TooBig {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A layer unpacks to something else than its `diff_id`.
    #[error("layer {layer} unpacks to {found}, not to {expected}")]
    DiffId {
        /// The layer's blob.
        layer: Digest,
        /// What the configuration says.
        expected: Digest,
        /// What came out.
        found: Digest,
    },
    /// A layer's tar stream cannot be applied.
    #[error("layer {layer}, entry {entry:?}: {message}")]
    Layer {
        /// The layer's blob.
        layer: Digest,
        /// The entry's name, shortened.
        entry: String,
        /// What is wrong.
        message: String,
    },
}

/// Why a collection could not be finished. What was collected before stays collected.
#[derive(Debug, thiserror::Error)]
#[error("could not remove {path}")]
pub struct GcError {
    /// What could not be removed.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub err: io::Error,
}
