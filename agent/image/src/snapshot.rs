//! Unpacks one layer into a snapshot: apply, verify, sync, then publish by one rename.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, syncfs};

use crate::{
    ChainId, DiffId, Digest, Limits,
    layer::{
        LayerError, apply,
        stream::{Interrupt, LayerStream},
    },
    layout::Layout,
    record::{self, Census, SnapshotRecord},
};

/// One layer to be unpacked.
#[derive(Debug)]
pub(crate) struct Unpack {
    pub(crate) layout: Layout,
    pub(crate) chain_id: ChainId,
    pub(crate) diff_id: DiffId,
    pub(crate) blob: Digest,
    /// The layers beneath, lowest first.
    pub(crate) parents: Vec<ChainId>,
    pub(crate) limits: Limits,
    pub(crate) interrupt: Interrupt,
}

/// Why a layer was not unpacked. Nothing of it is left.
#[derive(Debug)]
pub(crate) enum UnpackError {
    Layer(LayerError),
    DiffId { found: Digest },
    Disk { path: PathBuf, err: io::Error },
}

impl Unpack {
    /// Blocks on the disk. The caller has this chain id to itself.
    pub(crate) fn run(&self) -> Result<SnapshotRecord, UnpackError> {
        let ingest = self.layout.ingest().join(self.chain_id.0.hex());
        let result = self.fill(&ingest).and_then(|record| {
            self.publish(&ingest)?;
            Ok(record)
        });
        if result.is_err() {
            // What stays is removed at the next open; the first error is the one that counts.
            let _ = agent_volume::remove_pod_volumes(&ingest);
        }
        result
    }

    fn fill(&self, ingest: &Path) -> Result<SnapshotRecord, UnpackError> {
        let disk = |path: &Path| {
            let path = path.to_owned();
            move |err| UnpackError::Disk { path, err }
        };
        agent_volume::remove_pod_volumes(ingest)
            .map_err(|err| disk(ingest)(io::Error::other(err)))?;
        let target = ingest.join("fs");
        fs::create_dir_all(&target).map_err(disk(&target))?;
        let root = open_dir(&target).map_err(disk(&target))?;
        rustix::fs::fchmod(&root, Mode::from_raw_mode(0o755))
            .map_err(|err| disk(&target)(err.into()))?;
        let mut lowers = Vec::new();
        for parent in self.parents.iter().rev() {
            let path = self.layout.snapshot_fs(parent);
            lowers.push(open_dir(&path).map_err(disk(&path))?);
        }
        let path = self.layout.blob(&self.blob);
        let blob = File::open(&path).map_err(disk(&path))?;
        let stream =
            LayerStream::open(blob, &self.limits, self.interrupt.clone()).map_err(disk(&path))?;
        let found = apply::apply(stream, root, &lowers, self.limits).map_err(UnpackError::Layer)?;
        if found != self.diff_id.0 {
            return Err(UnpackError::DiffId { found });
        }
        let record = SnapshotRecord {
            chain_id: self.chain_id.clone(),
            diff_id: self.diff_id.clone(),
            blob: self.blob.clone(),
            census: census(&target).map_err(disk(&target))?,
        };
        let path = ingest.join("snapshot.json");
        let write = || File::create(&path)?.write_all(&record::encode(&record));
        write().map_err(disk(&path))?;
        Ok(record)
    }

    /// From here on the snapshot is there, also after a power cut.
    fn publish(&self, ingest: &Path) -> Result<(), UnpackError> {
        let target = self.layout.snapshot(&self.chain_id);
        let publish = || -> io::Result<()> {
            syncfs(open_dir(ingest)?.as_fd())?;
            fs::rename(ingest, &target)?;
            agent_disk::sync_dir(&self.layout.snapshots())
        };
        publish().map_err(|err| UnpackError::Disk { path: target.clone(), err })
    }
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Counts what lies below a directory.
pub(crate) fn census(root: &Path) -> io::Result<Census> {
    let mut census = Census::default();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            census.names += 1;
            let ty = entry.file_type()?;
            if ty.is_dir() {
                todo.push(entry.path());
            } else if ty.is_file() {
                census.bytes += entry.metadata()?.len();
            }
        }
    }
    Ok(census)
}
