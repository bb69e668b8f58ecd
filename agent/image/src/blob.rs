//! Fetches a blob into the content store: resumes where a transfer broke off, also across restarts,
//! and gives the blob its name only when the whole of it has the right digest.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use futures_util::StreamExt;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt;

use crate::{
    Digest, ImageRef, PullError,
    layout::Layout,
    registry::{Registry, chain, pause},
};

/// Content as a manifest announces it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// A transfer on its way: the file, what of it is there, and the digest of that.
struct Partial {
    file: tokio::fs::File,
    offset: u64,
    hasher: Sha256,
    /// Some bytes came from an earlier run, which may have been cut by a power loss.
    is_old: bool,
}

/// Whether the content is in the store, and whole. What is damaged is removed.
pub(crate) async fn is_present(
    image: &ImageRef,
    layout: &Layout,
    wanted: &Wanted,
) -> Result<bool, PullError> {
    is_intact(image, &layout.blob(&wanted.digest), wanted).await
}

/// Fetches content that is not in the store. The caller has this digest from this host to itself.
pub(crate) async fn fetch(
    registry: &Registry,
    layout: &Layout,
    wanted: &Wanted,
) -> Result<(), PullError> {
    let image = registry.image();
    let path = layout.partial(&wanted.digest, registry.host());
    let mut partial = Partial::open(image, &path, wanted).await?;
    loop {
        let result = transfer(registry, &mut partial, wanted, &path).await;
        if let Err(err @ PullError::NoSpace { .. }) = result {
            // A full disk needs every byte more than a later pull needs a head start.
            partial.restart(image, &path).await?;
            let _ = tokio::fs::remove_file(&path).await;
            return Err(err);
        }
        result?;
        let found = Digest::from_hasher(partial.hasher.clone());
        if found == wanted.digest {
            break;
        }
        let is_old = partial.is_old;
        partial.restart(image, &path).await?;
        if !is_old {
            let expected = wanted.digest.clone();
            return Err(PullError::DigestMismatch { image: image.clone(), expected, found });
        }
        tracing::debug!(blob = %wanted.digest, "Discarded remains of an earlier transfer");
    }
    publish(&partial, &path, layout, wanted).await.map_err(|err| disk(image, &path, err))
}

async fn publish(
    partial: &Partial,
    path: &Path,
    layout: &Layout,
    wanted: &Wanted,
) -> io::Result<()> {
    partial.file.sync_all().await?;
    tokio::fs::rename(path, layout.blob(&wanted.digest)).await?;
    let blobs = layout.blobs();
    blocking(move || agent_disk::sync_dir(&blobs)).await
}

/// Moves bytes until all are there. Any progress earns a fresh set of attempts.
async fn transfer(
    registry: &Registry,
    partial: &mut Partial,
    wanted: &Wanted,
    path: &Path,
) -> Result<(), PullError> {
    let config = registry.config();
    let mut n_failed = 0;
    while partial.offset < wanted.size {
        let before = partial.offset;
        let result = stream(registry, partial, wanted, path).await;
        partial.file.flush().await.map_err(|err| disk(registry.image(), path, err))?;
        match result {
            Err(PullError::Network { message, .. }) => {
                n_failed = if partial.offset > before { 1 } else { n_failed + 1 };
                if n_failed >= config.attempts {
                    return Err(PullError::Network { image: registry.image().clone(), message });
                }
                let offset = partial.offset;
                tracing::debug!(blob = %wanted.digest, offset, message, "Resuming transfer");
                pause(config, n_failed).await;
            }
            result => result?,
        }
    }
    Ok(())
}

/// One request.
async fn stream(
    registry: &Registry,
    partial: &mut Partial,
    wanted: &Wanted,
    path: &Path,
) -> Result<(), PullError> {
    let image = registry.image();
    let mut stream = registry.blob(&wanted.digest, partial.offset).await?;
    if !stream.at_offset {
        partial.restart(image, path).await?;
    }
    while partial.offset < wanted.size {
        let chunk = match stream.bytes.next().await {
            Some(Ok(chunk)) => chunk,
            Some(Err(err)) => {
                return Err(PullError::Network { image: image.clone(), message: chain(&err) });
            }
            None => {
                let message = "the transfer ended early".to_owned();
                return Err(PullError::Network { image: image.clone(), message });
            }
        };
        // What exceeds the announced size is not even written; the digest will tell.
        let room = usize::try_from(wanted.size - partial.offset).unwrap_or(usize::MAX);
        let chunk = &chunk[..chunk.len().min(room)];
        partial.file.write_all(chunk).await.map_err(|err| disk(image, path, err))?;
        partial.hasher.update(chunk);
        partial.offset += u64::try_from(chunk.len()).unwrap_or(0);
    }
    Ok(())
}

impl Partial {
    async fn open(image: &ImageRef, path: &Path, wanted: &Wanted) -> Result<Self, PullError> {
        let failed = |err| disk(image, path, err);
        let (target, size) = (path.to_owned(), wanted.size);
        let open = move || -> io::Result<(File, u64, Sha256)> {
            let mut options = File::options();
            let file = options.read(true).append(true).create(true).open(target)?;
            if file.metadata()?.len() > size {
                file.set_len(0)?;
            }
            let (offset, hasher) = hash(&file)?;
            Ok((file, offset, hasher))
        };
        let (file, offset, hasher) = blocking(open).await.map_err(failed)?;
        let file = tokio::fs::File::from_std(file);
        Ok(Self { file, offset, hasher, is_old: offset > 0 })
    }

    /// Forgets all of it. The file is open for appending, so that the next byte is its first.
    async fn restart(&mut self, image: &ImageRef, path: &Path) -> Result<(), PullError> {
        // Bytes still on their way to a full disk may fail here once more.
        let _ = self.file.flush().await;
        self.file.set_len(0).await.map_err(|err| disk(image, path, err))?;
        (self.offset, self.hasher, self.is_old) = (0, Sha256::new(), false);
        Ok(())
    }
}

/// Whether a blob is there with the right contents. One that is not is removed.
async fn is_intact(image: &ImageRef, path: &Path, wanted: &Wanted) -> Result<bool, PullError> {
    let (target, digest) = (path.to_owned(), wanted.digest.clone());
    let check = move || -> io::Result<bool> {
        let file = match File::open(&target) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(false),
            result => result?,
        };
        if Digest::from_hasher(hash(&file)?.1) == digest {
            return Ok(true);
        }
        tracing::warn!(blob = %digest, "Removed damaged blob");
        std::fs::remove_file(&target)?;
        Ok(false)
    };
    blocking(check).await.map_err(|err| disk(image, path, err))
}

fn hash(file: &File) -> io::Result<(u64, Sha256)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    let mut offset = 0;
    let mut reader = file;
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok((offset, hasher)),
            n => {
                hasher.update(&buffer[..n]);
                offset += u64::try_from(n).unwrap_or(0);
            }
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// A failure of the disk, with a full one told apart.
pub(crate) fn disk(image: &ImageRef, path: &Path, err: io::Error) -> PullError {
    let image = image.clone();
    if matches!(err.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        PullError::NoSpace { image }
    } else {
        PullError::Disk { image, path: path.to_owned(), err: Arc::new(err) }
    }
}
