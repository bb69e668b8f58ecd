//! Where things lie below the store's directory.
//!
//! ```text
//! lock                          held by the process that has the store open
//! in-use                        boot id of the run that opened it; removed by a proper close
//! blobs/sha256/<hex>            content, verified before it got this name
//! partial/<hex>-<sender>        content on its way from one host; resumed by a later pull
//! images/<sha256 of name>.json  one record for each name
//! snapshots/<chain id>/fs       an unpacked layer, synced before it got this name
//! snapshots/<chain id>/snapshot.json
//! ingest/                       snapshots on their way in or out; emptied at open
//! ```

use std::path::{Path, PathBuf};

use crate::{ChainId, Digest, ImageRef};

/// What of a host's hash stands in a name.
const SENDER_DIGITS: usize = 16;

#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn dirs(&self) -> [PathBuf; 5] {
        [self.blobs(), self.partials(), self.images(), self.snapshots(), self.ingest()]
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn in_use(&self) -> PathBuf {
        self.root.join("in-use")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(crate) fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    /// Hosts do not share it: one that sends ever so slowly holds up nobody who asks another.
    pub(crate) fn partial(&self, digest: &Digest, host: &str) -> PathBuf {
        let sender = Digest::of(host.as_bytes());
        let sender = sender.hex().get(..SENDER_DIGITS).unwrap_or_default();
        self.partials().join(format!("{}-{sender}", digest.hex()))
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub(crate) fn image(&self, image: &ImageRef) -> PathBuf {
        let name = Digest::of(image.to_string().as_bytes());
        self.images().join(format!("{}.json", name.hex()))
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(crate) fn snapshot(&self, chain_id: &ChainId) -> PathBuf {
        self.snapshots().join(chain_id.0.hex())
    }

    pub(crate) fn snapshot_record(&self, chain_id: &ChainId) -> PathBuf {
        self.snapshot(chain_id).join("snapshot.json")
    }

    pub(crate) fn snapshot_fs(&self, chain_id: &ChainId) -> PathBuf {
        self.snapshot(chain_id).join("fs")
    }

    pub(crate) fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }
}
