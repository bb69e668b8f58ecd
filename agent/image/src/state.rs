//! What is complete on this node, and what is being worked on. In memory; the disk is the truth.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use oci_spec::image::ImageConfiguration;

use crate::{
    ChainId, Digest, Image, ImageRef,
    layout::Layout,
    record::{ImageRecord, SnapshotRecord},
};

/// A name's record with the configuration it refers to.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) record: ImageRecord,
    pub(crate) config: ImageConfiguration,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) images: BTreeMap<ImageRef, Arc<Stored>>,
    pub(crate) snapshots: BTreeMap<ChainId, SnapshotRecord>,
    /// Digests and chain ids that running pulls need, with the number of pulls.
    pins: BTreeMap<Digest, usize>,
    /// Images asked for since the last collection, which its caller may not know of yet.
    pub(crate) touched: BTreeSet<Digest>,
    /// Collections that found these files and directories to be nobody's.
    pub(crate) orphans: BTreeMap<PathBuf, u32>,
}

impl State {
    /// The record for a name; for a digest, that of any name that stands for it.
    pub(crate) fn find(&self, image: &ImageRef) -> Option<Arc<Stored>> {
        if let Some(stored) = self.images.get(image) {
            return Some(Arc::clone(stored));
        }
        let digest = image.digest()?;
        let is_it =
            |it: &&Arc<Stored>| it.record.digest == *digest || it.record.repo_digest == *digest;
        self.images.values().find(is_it).map(Arc::clone)
    }

    /// The image, if all of its layers are there.
    pub(crate) fn image(&self, name: &ImageRef, stored: &Stored, layout: &Layout) -> Option<Image> {
        let chain = stored.record.chain();
        let mut size_bytes = 0;
        for chain_id in &chain {
            size_bytes += self.snapshots.get(chain_id)?.census.bytes;
        }
        Some(Image {
            reference: name.clone(),
            digest: stored.record.digest.clone(),
            repo_digest: stored.record.repo_digest.clone(),
            config_digest: stored.record.config.clone(),
            config: stored.config.clone(),
            layers: chain.iter().map(|chain_id| layout.snapshot_fs(chain_id)).collect(),
            size_bytes,
        })
    }

    pub(crate) fn is_pinned(&self, digest: &Digest) -> bool {
        self.pins.contains_key(digest)
    }
}

/// The state behind its lock, which is never held across an await.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<State>>);

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one insertion or removal, whole even if a holder panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps collections away from an image that is being pulled.
    pub(crate) fn pin(&self, record: &ImageRecord) -> Pins {
        let mut digests: Vec<Digest> = record.blobs().cloned().collect();
        digests.extend(record.chain().into_iter().map(|it| it.0));
        let mut state = self.lock();
        for digest in &digests {
            *state.pins.entry(digest.clone()).or_default() += 1;
        }
        Pins { state: self.clone(), digests }
    }
}

/// Keeps what a pull needs until it is dropped.
#[derive(Debug)]
pub(crate) struct Pins {
    state: Shared,
    digests: Vec<Digest>,
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        for digest in &self.digests {
            if let Some(count) = state.pins.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    state.pins.remove(digest);
                }
            }
        }
    }
}
