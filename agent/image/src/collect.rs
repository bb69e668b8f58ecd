//! Collection: which images go, and then what nobody needs any more.
//!
//! Under the state's lock things are only renamed out of sight; what takes time happens behind it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Digest, GcError, ImageRef, open, record,
    state::{State, Stored},
    store::Inner,
};

/// Collections that something unowned survives: the remains of a pull that will be tried again.
const ORPHAN_AGE: u32 = 12;

/// What `gc` removed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GcReport {
    /// Names removed.
    pub images: Vec<ImageRef>,
    /// Snapshots removed.
    pub snapshots: usize,
    /// Blobs and unfinished transfers removed.
    pub blobs: usize,
    /// Bytes of files that came free.
    pub freed_bytes: u64,
}

/// How long nobody's things may stay.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Orphans {
    Age,
    /// The disk is full.
    RemoveNow,
}

/// Removes images that are neither in `keep` nor asked for since the last collection.
pub(crate) fn images(inner: &Inner, keep: &BTreeSet<Digest>) -> Result<GcReport, GcError> {
    let mut report = GcReport::default();
    let mut freed = BTreeSet::new();
    {
        let mut state = inner.state.lock();
        let touched = std::mem::take(&mut state.touched);
        let is_kept = |it: &Stored| {
            let record = &it.record;
            let digests = [&record.digest, &record.repo_digest, &record.config];
            digests.into_iter().any(|digest| keep.contains(digest))
                || touched.contains(&record.digest)
                || state.is_pinned(&record.digest)
        };
        let gone: Vec<(ImageRef, Arc<Stored>)> = state
            .images
            .iter()
            .filter(|(_, stored)| !is_kept(stored))
            .map(|(name, stored)| (name.clone(), Arc::clone(stored)))
            .collect();
        for (name, stored) in gone {
            let path = inner.layout.image(&name);
            removing(&path, open::remove(&path))?;
            freed.extend(stored.record.blobs().cloned());
            freed.extend(stored.record.chain().into_iter().map(|it| it.0));
            state.images.remove(&name);
            report.images.push(name);
        }
    }
    let records = inner.layout.images();
    removing(&records, agent_disk::sync_dir(&records))?;
    sweep(inner, Orphans::Age, &freed, &mut report)?;
    Ok(report)
}

/// Forgets a name, keeping the image under its digest.
pub(crate) fn forget(inner: &Inner, image: &ImageRef) -> Result<bool, GcError> {
    let mut state = inner.state.lock();
    let Some(stored) = state.images.get(image).map(Arc::clone) else {
        return Ok(false);
    };
    let mut stored = Stored::clone(&stored);
    stored.record.reference = image.with_digest(stored.record.repo_digest.clone());
    if stored.record.reference != *image {
        let path = inner.layout.image(&stored.record.reference);
        let written = agent_disk::replace(&path, &record::encode(&stored.record));
        removing(&path, written.map_err(io::Error::other))?;
        state.images.insert(stored.record.reference.clone(), Arc::new(stored));
    }
    let path = inner.layout.image(image);
    removing(&path, open::remove(&path))?;
    state.images.remove(image);
    Ok(true)
}

/// Removes snapshots and blobs that no image and no pull needs.
pub(crate) fn sweep(
    inner: &Inner,
    orphans: Orphans,
    freed: &BTreeSet<Digest>,
    report: &mut GcReport,
) -> Result<(), GcError> {
    let layout = &inner.layout;
    let mut trash: Vec<PathBuf> = Vec::new();
    {
        let mut state = inner.state.lock();
        let needed = needed(&state);
        let mut seen = BTreeSet::new();
        for dir in [layout.snapshots(), layout.blobs(), layout.partials()] {
            for path in removing(&dir, list(&dir))? {
                let Some(digest) = digest_of(&path) else { continue };
                if needed.contains(&digest) || state.is_pinned(&digest) {
                    continue;
                }
                let age = state.orphans.entry(path.clone()).or_default();
                *age += 1;
                let goes =
                    orphans == Orphans::RemoveNow || freed.contains(&digest) || *age > ORPHAN_AGE;
                if !goes {
                    seen.insert(path);
                    continue;
                }
                let target = layout.ingest().join(format!("removed-{}", inner.next_number()));
                removing(&path, fs::rename(&path, &target))?;
                trash.push(target);
                if dir == layout.snapshots() {
                    state.snapshots.retain(|chain_id, _| chain_id.0 != digest);
                    report.snapshots += 1;
                } else {
                    report.blobs += 1;
                }
            }
        }
        state.orphans.retain(|path, _| seen.contains(path));
    }
    for path in trash {
        report.freed_bytes += size(&path).unwrap_or(0);
        removing(&path, open::remove(&path))?;
    }
    Ok(())
}

/// What the records refer to, by blob digest and by chain id.
fn needed(state: &State) -> BTreeSet<Digest> {
    let mut needed = BTreeSet::new();
    for stored in state.images.values() {
        needed.extend(stored.record.blobs().cloned());
        needed.extend(stored.record.chain().into_iter().map(|it| it.0));
    }
    needed
}

fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}

fn digest_of(path: &Path) -> Option<Digest> {
    // Behind the digest of what is on its way stands from where.
    let digest = path.file_name()?.to_str()?.split('-').next()?;
    format!("sha256:{digest}").parse().ok()
}

fn size(path: &Path) -> io::Result<u64> {
    let facts = fs::symlink_metadata(path)?;
    if facts.is_dir() { Ok(crate::snapshot::census(path)?.bytes) } else { Ok(facts.len()) }
}

fn removing<T>(path: &Path, result: io::Result<T>) -> Result<T, GcError> {
    result.map_err(|err| GcError { path: path.to_owned(), err })
}
