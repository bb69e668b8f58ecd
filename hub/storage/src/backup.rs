//! A backup: every object of one revision in one file, with a few files that belong to it.
//!
//! ```text
//! magic "OBKP" | format u32 | frames | end
//! frame: kind u8 | length of the name u32 | length of the content u32 | name | content
//! end:   0u8 | SHA-256 of all before
//! ```
//! Numbers are big endian. Kinds: 1 revision (no name, u64), 2 object (as it lies on the disk, sealed where it is sealed
//! there), 3 file. A file whose end is missing or wrong is no backup.

use std::{
    collections::VecDeque,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use agent_disk::{Batch, CommitError, Disk};
use bytes::{Buf, BufMut};
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

#[cfg(feature = "etcd")]
use crate::{Body, Key};
use crate::{
    Entry, Revision, Sealer, StorageEpoch, UnsealError,
    sled::{OpenError, disk_options, record},
};

const MAGIC: &[u8; 4] = b"OBKP";
const FORMAT: u32 = 1;
const END: u8 = 0;
const REVISION: u8 = 1;
const OBJECT: u8 = 2;
const FILE: u8 = 3;
/// About the size of a piece of a backup in the making.
const PIECE_BYTES: usize = 64 << 10;
/// No frame is larger: an object with its head, or a small file.
const MAX_FRAME: u32 = 8 << 20;
/// Objects of one batch while they are restored.
const BATCH: usize = 256;
/// Clients that saw more of the old history than was saved must not take the new one for it.
const REVISION_BUMP: u64 = 1_000_000_000;

/// A backup that is being made, piece by piece.
pub struct Backup {
    entries: VecDeque<Arc<Entry>>,
    sealer: Option<Arc<Sealer>>,
    digest: Context,
    begun: Vec<u8>,
    ended: bool,
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup").field("left", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Backup {
    pub(crate) fn new(
        entries: Vec<Arc<Entry>>,
        revision: Revision,
        sealer: Option<Arc<Sealer>>,
        files: &[(String, Vec<u8>)],
    ) -> Self {
        let mut begun = MAGIC.to_vec();
        begun.put_u32(FORMAT);
        frame(REVISION, b"", &revision.get().to_be_bytes(), &mut begun);
        for (name, content) in files {
            frame(FILE, name.as_bytes(), content, &mut begun);
        }
        Self { entries: entries.into(), sealer, digest: Context::new(&SHA256), begun, ended: false }
    }

    /// The next piece; `None` at the end.
    pub fn next_piece(&mut self) -> Option<Vec<u8>> {
        if self.ended {
            return None;
        }
        let mut piece = std::mem::take(&mut self.begun);
        while piece.len() < PIECE_BYTES
            && let Some(entry) = self.entries.pop_front()
        {
            let (key, value) = record::encode(&entry, self.sealer.as_deref());
            frame(OBJECT, &key, &value, &mut piece);
        }
        if self.entries.is_empty() {
            piece.push(END);
            self.ended = true;
        }
        self.digest.update(&piece);
        if self.ended {
            piece.extend_from_slice(self.digest.clone().finish().as_ref());
        }
        Some(piece)
    }
}

fn frame(kind: u8, name: &[u8], content: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    for part in [name, content] {
        out.put_u32(u32::try_from(part.len()).expect("objects and files are smaller than 4 GiB"));
    }
    out.extend_from_slice(name);
    out.extend_from_slice(content);
}

/// Why a backup cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file cannot be read.
    #[error("could not read the backup")]
    Read(#[source] io::Error),
    /// It is something else, or of a later version of this program.
    #[error("this is no backup that this version of the hub knows")]
    Unknown,
    /// It is incomplete or was changed.
    #[error("the backup is damaged: {what}")]
    Damaged {
        /// What is wrong with it.
        what: &'static str,
    },
    /// An object cannot be read without the right key.
    #[error("could not open {key}")]
    Sealed {
        /// The object.
        key: String,
        /// Why.
        #[source]
        err: UnsealError,
    },
    /// The new store could not be opened.
    #[error("could not open the new store")]
    Open(#[source] OpenError),
    /// It could not be written.
    #[error("could not write the new store")]
    Commit(#[source] CommitError),
    /// There is something in the new store.
    #[error("the store is not empty")]
    NotEmpty,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// How many objects.
    pub n_objects: usize,
    /// Where the new history begins.
    pub revision: Revision,
    /// Its identity.
    pub epoch: StorageEpoch,
}

/// What a backup holds beside objects, after it was read from end to end and is whole.
pub fn verify(backup: &mut dyn Read) -> Result<Vec<(String, Vec<u8>)>, RestoreError> {
    let mut files = Vec::new();
    read(backup, &mut |kind, name, content| {
        if kind == FILE {
            files.push((String::from_utf8_lossy(&name).into_owned(), content));
        }
        Ok(())
    })?;
    Ok(files)
}

/// What a backup holds.
#[cfg(feature = "etcd")]
#[derive(Debug, Default)]
pub struct Content {
    /// Name and content of the files that belong to it.
    pub files: Vec<(String, Vec<u8>)>,
    /// The objects, to be written anew.
    pub objects: Vec<(Key, Body)>,
}

/// Reads a backup from end to end; what is answered is whole.
///
/// # Errors
/// It cannot be read, is damaged, or an object cannot be opened without another key.
#[cfg(feature = "etcd")]
pub fn load(backup: &mut dyn Read, sealer: Option<&Sealer>) -> Result<Content, RestoreError> {
    let mut loaded = Content::default();
    read(backup, &mut |kind, name, content| {
        match kind {
            FILE => loaded.files.push((String::from_utf8_lossy(&name).into_owned(), content)),
            OBJECT => {
                let unsealed = record::unseal(sealer, &name, content);
                let (value, _) = unsealed.map_err(|err| RestoreError::Sealed {
                    key: String::from_utf8_lossy(name.get(1..).unwrap_or_default()).into_owned(),
                    err,
                })?;
                let strange = RestoreError::Damaged { what: "an object in it cannot be read" };
                let entry = record::entry(&name, value).ok_or(strange)?;
                loaded.objects.push((entry.key.clone(), entry.body()));
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(loaded)
}

/// Makes a store in `dir`, which must be new, of a backup that was [verified](verify). It is another history than
/// that of the backup: it has an epoch of its own, and its revisions begin far above.
pub fn restore(backup: &mut dyn Read, dir: &Path) -> Result<Restored, RestoreError> {
    let (mut disk, _) = Disk::open(dir, disk_options(8 << 20))
        .map_err(|err| RestoreError::Open(OpenError::Disk(err)))?;
    let mut is_empty = true;
    disk.scan(&mut |_, _| is_empty = false)
        .map_err(|err| RestoreError::Open(OpenError::Read(err)))?;
    if !is_empty {
        return Err(RestoreError::NotEmpty);
    }
    let (mut batch, mut n_in_batch, mut n_objects, mut revision) = (Batch::default(), 0, 0, 0_u64);
    read(backup, &mut |kind, name, content| {
        match kind {
            REVISION => revision = content.as_slice().try_get_u64().unwrap_or_default(),
            OBJECT => {
                batch.put(name, content);
                n_objects += 1;
                n_in_batch += 1;
            }
            _ => {}
        }
        if n_in_batch < BATCH {
            return Ok(());
        }
        n_in_batch = 0;
        disk.commit(std::mem::take(&mut batch)).map_err(RestoreError::Commit)
    })?;
    disk.commit(batch).map_err(RestoreError::Commit)?;
    let (epoch, revision) = (StorageEpoch::draw(), Revision::new(revision + REVISION_BUMP));
    // The epoch comes last: a store without one is begun anew.
    disk.commit(record::founding(epoch, revision)).map_err(RestoreError::Commit)?;
    Ok(Restored { n_objects, revision, epoch })
}

type Visit<'a> = dyn FnMut(u8, Vec<u8>, Vec<u8>) -> Result<(), RestoreError> + 'a;

/// Reads a backup to its end, and checks that it is one.
fn read(backup: &mut dyn Read, visit: &mut Visit<'_>) -> Result<(), RestoreError> {
    let mut input = Digesting { input: backup, digest: Context::new(&SHA256) };
    let head: [u8; 8] = input.array()?;
    if !head.starts_with(MAGIC) || head[4..] != FORMAT.to_be_bytes() {
        return Err(RestoreError::Unknown);
    }
    loop {
        let [kind] = input.array()?;
        if kind == END {
            break;
        }
        let sizes: [u8; 8] = input.array()?;
        let mut sizes = sizes.as_slice();
        let (name, content) = (sizes.get_u32(), sizes.get_u32());
        if name > MAX_FRAME || content > MAX_FRAME || kind > FILE {
            return Err(RestoreError::Damaged { what: "a part of it makes no sense" });
        }
        let (name, content) = (input.bytes(name)?, input.bytes(content)?);
        visit(kind, name, content)?;
    }
    let expected = input.digest.clone().finish();
    let found: [u8; SHA256_OUTPUT_LEN] = input.array()?;
    if found == expected.as_ref() {
        Ok(())
    } else {
        Err(RestoreError::Damaged { what: "its checksum is wrong" })
    }
}

struct Digesting<'a> {
    input: &'a mut dyn Read,
    digest: Context,
}

impl Digesting<'_> {
    fn fill(&mut self, into: &mut [u8]) -> Result<(), RestoreError> {
        self.input.read_exact(into).map_err(|err| {
            if err.kind() == io::ErrorKind::UnexpectedEof {
                RestoreError::Damaged { what: "its end is missing" }
            } else {
                RestoreError::Read(err)
            }
        })?;
        self.digest.update(into);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        let mut out = [0; N];
        self.fill(&mut out)?;
        Ok(out)
    }

    fn bytes(&mut self, size: u32) -> Result<Vec<u8>, RestoreError> {
        let mut out = vec![0; usize::try_from(size).unwrap_or_default()];
        self.fill(&mut out)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Body, Key, Options, SledStorage, Storage, Txn};

    fn open(dir: &Path, sealed: bool) -> Arc<SledStorage> {
        let keys = format!("k {}", "1".repeat(64));
        let sealer = sealed.then(|| Arc::new(keys.parse().unwrap()));
        SledStorage::open(dir, Options { sealer, ..Options::DEFAULT }).unwrap().0
    }

    fn bytes(mut backup: Backup) -> Vec<u8> {
        std::iter::from_fn(|| backup.next_piece()).flatten().collect()
    }

    #[tokio::test]
    async fn a_backup_restores_one_state_as_another_history() {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(&dir.path().join("old"), true);
        let key = |name: &str| Key::new("core", "secrets", Some("default"), name);
        let body = |text: &str| Body::from_value(&json!({"data": text.repeat(999)}));
        for n in 0..300 {
            storage.txn(Txn::create(key(&n.to_string()), body("hush"))).await.unwrap();
        }
        let files = [("pki/ca.key".to_owned(), b"key".to_vec())];
        let mut backup = storage.backup(&files);
        let mut text = backup.next_piece().unwrap();
        // What comes later is not in it.
        storage.txn(Txn::create(key("late"), body("x"))).await.unwrap();
        text.extend(bytes(backup));
        assert!(!text.windows(8).any(|it| it == b"hushhush"));
        assert_eq!(verify(&mut &*text).unwrap(), files);

        let fresh = dir.path().join("new");
        let restored = restore(&mut &*text, &fresh).unwrap();
        assert_eq!(restored.n_objects, 300);
        assert!(matches!(restore(&mut &*text, &fresh), Err(RestoreError::NotEmpty)));
        let again = open(&fresh, true);
        assert_eq!((again.epoch(), again.revision()), (restored.epoch, restored.revision));
        assert!(again.epoch() != storage.epoch() && again.revision() > storage.revision());
        assert_eq!(again.get(&key("7")).unwrap().bytes, storage.get(&key("7")).unwrap().bytes);
        assert!(again.get(&key("late")).is_none());
    }

    #[tokio::test]
    async fn what_is_damaged_is_no_backup() {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(dir.path(), false);
        let body = Body::from_value(&json!({}));
        storage.txn(Txn::create(Key::new("core", "pods", Some("d"), "a"), body)).await.unwrap();
        let text = bytes(storage.backup(&[]));
        assert!(verify(&mut &*text).is_ok());
        for at in 0..text.len() {
            let mut bad = text.clone();
            bad[at] ^= 0x11;
            assert!(verify(&mut &*bad).is_err(), "flipped at {at}");
            assert!(verify(&mut &text[..at]).is_err(), "cut at {at}");
        }
    }
}
