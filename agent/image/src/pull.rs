//! One pull: what does the name stand for, which layers are missing, fetch and unpack them.
//!
//! Layers are fetched side by side and unpacked in order, each as soon as it and those below it are
//! there. Work on one blob or one snapshot is done once, however many pulls want it.

use std::{path::PathBuf, sync::Arc};

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::sync::{OnceCell, mpsc};

use crate::{
    Auth, ChainId, Digest, Image, ImageRef, MalformedImage, PullError,
    blob::{self, Wanted, disk},
    layer::{LayerError, stream::Interrupt},
    manifest::{self, Document, Manifest},
    record::{self, ImageRecord, LayerRecord},
    registry::{self, Registry},
    snapshot::{Unpack, UnpackError},
    state::{Pins, Stored},
    store::Inner,
};

/// What to pull, and by which road.
pub(crate) struct Pull {
    pub(crate) inner: Arc<Inner>,
    pub(crate) image: ImageRef,
    pub(crate) auth: Auth,
    /// Ask the registry even if the name is known.
    pub(crate) is_refresh: bool,
}

/// A registry or mirror, greeted at the first need: what is all on disk needs no network.
struct Source {
    pull: Arc<Pull>,
    mirror: Option<String>,
    registry: OnceCell<Registry>,
}

impl Pull {
    pub(crate) async fn run(self: Arc<Self>) -> Result<Image, PullError> {
        let mirrors = self.inner.config.mirrors.get(self.image.registry()).cloned();
        for mirror in mirrors.into_iter().flatten() {
            match self.run_from(Some(mirror.clone())).await {
                Err(err @ (PullError::NoSpace { .. } | PullError::Disk { .. })) => return Err(err),
                Err(err) => {
                    tracing::debug!(image = %self.image, mirror, %err, "Gave up on mirror");
                }
                Ok(image) => return Ok(image),
            }
        }
        self.run_from(None).await
    }

    async fn run_from(self: &Arc<Self>, mirror: Option<String>) -> Result<Image, PullError> {
        let source = Source { pull: Arc::clone(self), mirror, registry: OnceCell::new() };
        let source = Arc::new(source);
        let known = if self.is_refresh { None } else { self.inner.state.lock().find(&self.image) };
        let (stored, pins) = match known {
            Some(stored) => {
                let pins = self.inner.state.pin(&stored.record);
                (Stored::clone(&stored), pins)
            }
            None => source.resolve().await?,
        };
        let pins = Arc::new(pins);
        source.ensure_layers(&stored.record, &pins).await?;
        self.commit(stored)
    }

    /// Writes down that the name stands for this image, and keeps the one it stood for before.
    fn commit(&self, mut stored: Stored) -> Result<Image, PullError> {
        let inner = &self.inner;
        stored.record.reference = self.image.clone();
        let mut state = inner.state.lock();
        let former = state.images.get(&self.image).map(Arc::clone);
        if former.as_ref().is_none_or(|it| it.record != stored.record) {
            let is_other = |it: &ImageRecord| {
                it.digest != stored.record.digest || it.repo_digest != stored.record.repo_digest
            };
            if let Some(former) = former.filter(|it| is_other(&it.record)) {
                // A container may run from it, and is known by the registry's digest: only a
                // collection may decide that it goes.
                let name = self.image.with_digest(former.record.repo_digest.clone());
                let mut former = Stored::clone(&former);
                former.record.reference = name.clone();
                self.write(&former.record)?;
                state.images.insert(name, Arc::new(former));
            }
            self.write(&stored.record)?;
        }
        state.touched.insert(stored.record.digest.clone());
        let stored = Arc::new(stored);
        state.images.insert(self.image.clone(), Arc::clone(&stored));
        let image = state.image(&self.image, &stored, &inner.layout);
        // Unpacked a moment ago, and pinned since before that.
        image.ok_or_else(|| PullError::Interrupted { image: self.image.clone() })
    }

    fn write(&self, record: &ImageRecord) -> Result<(), PullError> {
        let path = self.inner.layout.image(&record.reference);
        replace(&self.image, path, &record::encode(record))
    }

    fn malformed(&self) -> impl Fn(MalformedImage) -> PullError {
        let image = self.image.clone();
        move |why| PullError::Malformed { image: image.clone(), why }
    }
}

impl Source {
    async fn registry(&self) -> Result<&Registry, PullError> {
        let Pull { inner, image, auth, .. } = &*self.pull;
        let mirror = self.mirror.as_deref();
        let connect = || Registry::connect(&inner.config, image, auth, mirror);
        self.registry.get_or_try_init(connect).await
    }

    /// Asks the registry what the name stands for.
    async fn resolve(&self) -> Result<(Stored, Pins), PullError> {
        let Pull { inner, image, .. } = &*self.pull;
        let (limits, platform) = (&inner.config.limits, &inner.config.platform);
        let registry = self.registry().await?;
        let (bytes, repo_digest) = registry.manifest(image.digest()).await?;
        let parse = |bytes: &[u8]| Document::parse(bytes, limits).map_err(self.pull.malformed());
        let (bytes, digest, manifest) = match parse(&bytes)? {
            Document::Manifest(manifest) => (bytes, repo_digest.clone(), manifest),
            Document::Index(entries) => {
                let digest = manifest::select(image, &entries, platform)?;
                let (bytes, digest) = registry.manifest(Some(&digest)).await?;
                let Document::Manifest(manifest) = parse(&bytes)? else {
                    let why = MalformedImage::MediaType("an index inside an index".to_owned());
                    return Err(self.pull.malformed()(why));
                };
                (bytes, digest, manifest)
            }
        };
        let mut record = ImageRecord {
            reference: image.clone(),
            digest,
            repo_digest,
            config: manifest.config.digest.clone(),
            layers: Vec::new(),
        };
        let pins = inner.state.pin(&record);
        replace(image, inner.layout.blob(&record.digest), &bytes)?;
        let config = self.config(&manifest).await?;
        record.layers = manifest.layers(&config).map_err(self.pull.malformed())?;
        let all_pins = inner.state.pin(&record);
        drop(pins);
        Ok((Stored { record, config }, all_pins))
    }

    async fn config(
        &self,
        manifest: &Manifest,
    ) -> Result<oci_spec::image::ImageConfiguration, PullError> {
        let Pull { inner, image, .. } = &*self.pull;
        self.fetch(&manifest.config).await?;
        let path = inner.layout.blob(&manifest.config.digest);
        let bytes = tokio::fs::read(&path).await.map_err(|err| disk(image, &path, err))?;
        manifest::config(image, &bytes, &inner.config.platform)
    }

    async fn ensure_layers(
        self: &Arc<Self>,
        record: &ImageRecord,
        pins: &Arc<Pins>,
    ) -> Result<(), PullError> {
        let chain = record.chain();
        let missing: Vec<(usize, Wanted)> = {
            let state = self.pull.inner.state.lock();
            let numbered = record.layers.iter().map(wanted).enumerate();
            numbered.filter(|(n, _)| !state.snapshots.contains_key(&chain[*n])).collect()
        };
        let n_parallel = self.pull.inner.config.concurrent_layers.max(1);
        let (fetched_tx, mut fetched_rx) = mpsc::channel(n_parallel);
        let fetch = async {
            let fetched_tx = fetched_tx; // closed when the last layer is here
            let fetching = missing.into_iter().map(|(n, wanted)| {
                let source = Arc::clone(self);
                async move { source.fetch(&wanted).await.map(|()| n) }.boxed()
            });
            let mut fetched = stream::iter(fetching).buffered(n_parallel);
            while let Some(n) = fetched.try_next().await? {
                if fetched_tx.send(n).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        let unpack = async {
            while let Some(n) = fetched_rx.recv().await {
                self.unpack(&record.layers[n], &chain[..=n], pins).await?;
            }
            Ok(())
        };
        // Both run in this task: when one fails, the other is dropped where it stands.
        tokio::try_join!(fetch, unpack).map(drop)
    }

    async fn fetch(&self, wanted: &Wanted) -> Result<(), PullError> {
        let Pull { inner, image, .. } = &*self.pull;
        let transfer =
            format!("{}/{}", registry::host(image, self.mirror.as_deref()), wanted.digest);
        let _guard = inner.blob_locks.lock(&Digest::of(transfer.as_bytes())).await;
        if blob::is_present(image, &inner.layout, wanted).await? {
            return Ok(());
        }
        blob::fetch(self.registry().await?, &inner.layout, wanted).await
    }

    /// Unpacks the topmost layer of `chain`; those below are unpacked.
    async fn unpack(
        &self,
        layer: &LayerRecord,
        chain: &[ChainId],
        pins: &Arc<Pins>,
    ) -> Result<(), PullError> {
        let Some((chain_id, parents)) = chain.split_last() else {
            return Ok(());
        };
        let Pull { inner, image, .. } = &*self.pull;
        let guard = inner.snapshot_locks.lock(&chain_id.0).await;
        if inner.state.lock().snapshots.contains_key(chain_id) {
            return Ok(());
        }
        let interrupt = Interrupt::default();
        let work = Unpack {
            layout: inner.layout.clone(),
            chain_id: chain_id.clone(),
            diff_id: layer.diff_id.clone(),
            blob: layer.blob.clone(),
            parents: parents.to_vec(),
            limits: inner.config.limits,
            interrupt: interrupt.clone(),
        };
        let _raised_on_drop = RaiseOnDrop(interrupt);
        let (state, pins) = (inner.state.clone(), Arc::clone(pins));
        let result = inner.unpackers.run(move || {
            // These outlive a pull that is given up, for this thread may still be writing.
            let _held = (guard, pins);
            let record = work.run()?;
            state.lock().snapshots.insert(record.chain_id.clone(), record);
            Ok(())
        });
        match result.await {
            Ok(result) => result.map_err(|err| explain(image, layer, err)),
            Err(_) => Err(PullError::Interrupted { image: image.clone() }),
        }
    }
}

struct RaiseOnDrop(Interrupt);

impl Drop for RaiseOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

fn wanted(layer: &LayerRecord) -> Wanted {
    Wanted { digest: layer.blob.clone(), size: layer.size }
}

fn replace(image: &ImageRef, path: PathBuf, bytes: &[u8]) -> Result<(), PullError> {
    use agent_disk::ReplaceError as E;

    agent_disk::replace(&path, bytes).map_err(|err| match err {
        E::Write { path, err } | E::Rename { path, err } | E::Sync { path, err } => {
            disk(image, &path, err)
        }
    })
}

fn explain(image: &ImageRef, layer: &LayerRecord, err: UnpackError) -> PullError {
    let image = image.clone();
    let blob: Digest = layer.blob.clone();
    let why = match err {
        UnpackError::Disk { path, err } => return disk(&image, &path, err),
        UnpackError::Layer(LayerError::Disk { entry, err }) => {
            return disk(&image, &PathBuf::from(entry), err);
        }
        UnpackError::Layer(LayerError::Interrupted) => return PullError::Interrupted { image },
        UnpackError::Layer(LayerError::TooBig { what, limit }) => {
            MalformedImage::TooBig { what, limit }
        }
        UnpackError::Layer(LayerError::Malformed { entry, message }) => {
            MalformedImage::Layer { layer: blob, entry, message }
        }
        UnpackError::DiffId { found } => {
            MalformedImage::DiffId { layer: blob, expected: layer.diff_id.0.clone(), found }
        }
    };
    PullError::Malformed { image, why }
}
