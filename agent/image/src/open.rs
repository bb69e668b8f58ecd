//! Opening the store: what an earlier run left half done goes, and after a power cut everything is
//! looked at before it is trusted.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    ChainId, Digest, ImageRef, OpenError,
    layout::Layout,
    record::{self, ImageRecord, SnapshotRecord},
    snapshot::census,
    state::{State, Stored},
};

/// What `open` found and did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OpenReport {
    /// The machine went down while the store was open, so that every snapshot was counted.
    pub unclean: bool,
    /// Leftovers of interrupted work that were removed.
    pub leftovers: usize,
    /// Snapshots that could not be trusted and were dropped.
    pub dropped_snapshots: usize,
    /// Image records that could not be read and were dropped.
    pub dropped_records: usize,
    /// Images that need layers again; `ensure` unpacks or fetches them.
    pub incomplete_images: Vec<ImageRef>,
}

pub(crate) struct Opened {
    pub(crate) state: State,
    pub(crate) report: OpenReport,
    pub(crate) lock: File,
}

pub(crate) fn open(layout: &Layout) -> Result<Opened, OpenError> {
    let prepare = |path: PathBuf| move |err| OpenError::Prepare { path, err };
    // Layers hold setuid programs: nobody but us may reach them by path.
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    for dir in layout.dirs() {
        builder.create(&dir).map_err(prepare(dir))?;
    }
    let lock = lock(layout)?;
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let former = fs::read_to_string(layout.in_use()).ok();
    let mut report = OpenReport {
        // A killed process takes nothing from the page cache with it; only the machine does.
        unclean: former.is_some_and(|it| it != boot_id || boot_id.is_empty()),
        ..OpenReport::default()
    };
    let mut state = State::default();
    empty_ingest(layout, &mut report).map_err(prepare(layout.ingest()))?;
    load_snapshots(layout, &mut state, &mut report).map_err(prepare(layout.snapshots()))?;
    load_images(layout, &mut state, &mut report).map_err(prepare(layout.images()))?;
    for (name, stored) in &state.images {
        if state.image(name, stored, layout).is_none() {
            report.incomplete_images.push(name.clone());
        }
    }
    let marked = agent_disk::replace(&layout.in_use(), boot_id.as_bytes());
    marked.map_err(|err| prepare(layout.in_use())(io::Error::other(err)))?;
    Ok(Opened { state, report, lock })
}

fn lock(layout: &Layout) -> Result<File, OpenError> {
    let path = layout.lock();
    let attempt = || -> io::Result<File> {
        let file = File::options().create(true).truncate(false).write(true).open(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    };
    attempt().map_err(|err| {
        if err.kind() == io::ErrorKind::WouldBlock {
            OpenError::InUse { path: layout.root().to_owned() }
        } else {
            OpenError::Prepare { path: path.clone(), err }
        }
    })
}

fn empty_ingest(layout: &Layout, report: &mut OpenReport) -> io::Result<()> {
    for entry in fs::read_dir(layout.ingest())? {
        report.leftovers += 1;
        remove(&entry?.path())?;
    }
    Ok(())
}

fn load_snapshots(layout: &Layout, state: &mut State, report: &mut OpenReport) -> io::Result<()> {
    for entry in fs::read_dir(layout.snapshots())? {
        let path = entry?.path();
        match trusted_snapshot(layout, &path, report.unclean) {
            Some(record) => drop(state.snapshots.insert(record.chain_id.clone(), record)),
            None => {
                tracing::warn!(path = %path.display(), "Dropped snapshot that cannot be trusted");
                report.dropped_snapshots += 1;
                remove(&path)?;
            }
        }
    }
    Ok(())
}

fn trusted_snapshot(layout: &Layout, path: &Path, is_counted: bool) -> Option<SnapshotRecord> {
    let name = path.file_name()?.to_str()?;
    let chain_id = ChainId(format!("sha256:{name}").parse().ok()?);
    let bytes = fs::read(layout.snapshot_record(&chain_id)).ok()?;
    let record: SnapshotRecord = record::decode(&bytes)?;
    let fs = layout.snapshot_fs(&chain_id);
    let is_there = record.chain_id == chain_id && fs.is_dir();
    let is_whole = || !is_counted || census(&fs).is_ok_and(|it| it == record.census);
    (is_there && is_whole()).then_some(record)
}

fn load_images(layout: &Layout, state: &mut State, report: &mut OpenReport) -> io::Result<()> {
    for entry in fs::read_dir(layout.images())? {
        let path = entry?.path();
        match stored(layout, &path) {
            Some(stored) => {
                state.images.insert(stored.record.reference.clone(), Arc::new(stored));
            }
            None => {
                tracing::warn!(path = %path.display(), "Dropped unreadable image record");
                report.dropped_records += 1;
                fs::remove_file(&path)?;
            }
        }
    }
    Ok(())
}

fn stored(layout: &Layout, path: &Path) -> Option<Stored> {
    let record: ImageRecord = record::decode(&fs::read(path).ok()?)?;
    let bytes = fs::read(layout.blob(&record.config)).ok()?;
    let is_right = layout.image(&record.reference) == path && Digest::of(&bytes) == record.config;
    let config = is_right.then(|| serde_json::from_slice(&bytes).ok())??;
    Some(Stored { record, config })
}

/// Removes a file or a whole tree.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) if err.kind() == io::ErrorKind::IsADirectory => {
            agent_volume::remove_pod_volumes(path).map_err(io::Error::other)
        }
        Err(err) => Err(err),
    }
}
