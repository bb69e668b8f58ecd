//! The store: the one way in to the images of a node.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Auth, Digest, GcError, GcReport, Image, ImageConfig, ImageRef, OpenError, PullError,
    collect::{self, Orphans},
    keyed_lock::KeyedLock,
    layout::Layout,
    open::{self, OpenReport},
    pull::Pull,
    state,
    unpackers::Unpackers,
};

/// All images of a node. Cheap to clone; clones share pulls.
#[derive(Clone, Debug)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) layout: Layout,
    pub(crate) config: ImageConfig,
    pub(crate) state: state::Shared,
    pub(crate) blob_locks: KeyedLock,
    pub(crate) snapshot_locks: KeyedLock,
    pub(crate) unpackers: Unpackers,
    pulls: Mutex<BTreeMap<PullKey, WeakShared<PullFuture>>>,
    report: OpenReport,
    counter: AtomicU64,
    _lock: File,
}

/// Pulls with other credentials are other pulls: a wrong password must not fail the right one.
type PullKey = (ImageRef, Auth, bool);
type PullFuture = BoxFuture<'static, Result<Image, PullError>>;

impl ImageStore {
    /// Opens the store below `dir`, removing what interrupted work left there. Blocks on the disk.
    pub fn open(dir: &Path, config: ImageConfig) -> Result<Self, OpenError> {
        let layout = Layout::new(dir);
        let opened = open::open(&layout)?;
        let inner = Inner {
            layout,
            unpackers: Unpackers::new(config.concurrent_unpacks),
            config,
            state: state::Shared::new(opened.state),
            blob_locks: KeyedLock::default(),
            snapshot_locks: KeyedLock::default(),
            pulls: Mutex::default(),
            report: opened.report,
            counter: AtomicU64::new(0),
            _lock: opened.lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What `open` found.
    pub fn open_report(&self) -> &OpenReport {
        &self.inner.report
    }

    /// Makes sure that the image is here: returns it at once if it is complete, and pulls what is
    /// missing otherwise. Concurrent calls for one image share one pull, which is given up when the
    /// last of them is dropped.
    pub async fn ensure(&self, image: &ImageRef, auth: &Auth) -> Result<Image, PullError> {
        if let Some(found) = self.lookup(image) {
            self.inner.state.lock().touched.insert(found.digest.clone());
            return Ok(found);
        }
        self.pull(image, auth, false).await
    }

    /// Asks the registry what the name stands for today, and pulls what is missing.
    pub async fn refresh(&self, image: &ImageRef, auth: &Auth) -> Result<Image, PullError> {
        self.pull(image, auth, true).await
    }

    /// The image, if it is complete. Never touches network or disk.
    pub fn lookup(&self, image: &ImageRef) -> Option<Image> {
        let state = self.inner.state.lock();
        let stored = state.find(image)?;
        state.image(image, &stored, &self.inner.layout)
    }

    /// All complete images, one for each name.
    pub fn list(&self) -> Vec<Image> {
        let state = self.inner.state.lock();
        let images = state.images.iter();
        images.filter_map(|(name, it)| state.image(name, it, &self.inner.layout)).collect()
    }

    /// Forgets a name; says whether it was known. The image stays under its digest until a
    /// collection removes it. Blocks on the disk.
    pub fn remove(&self, image: &ImageRef) -> Result<bool, GcError> {
        collect::forget(&self.inner, image)
    }

    /// Removes every image that is neither in `keep` (by any of its digests) nor was asked for since
    /// the last collection, and then whatever no image needs. Pulls go on undisturbed. Blocks on the
    /// disk.
    pub fn gc(&self, keep: &BTreeSet<Digest>) -> Result<GcReport, GcError> {
        collect::images(&self.inner, keep)
    }

    /// Marks a proper end, so that the next `open` need not look at everything.
    pub fn close(&self) {
        // Left in place, it only makes the next open slower.
        let _ = std::fs::remove_file(self.inner.layout.in_use());
    }

    async fn pull(&self, image: &ImageRef, auth: &Auth, refresh: bool) -> Result<Image, PullError> {
        let key = (image.clone(), auth.clone(), refresh);
        let shared = {
            let mut pulls = self.inner.pulls.lock().unwrap_or_else(PoisonError::into_inner);
            pulls.retain(|_, pull| pull.upgrade().is_some());
            let running = pulls.get(&key).and_then(WeakShared::upgrade);
            running.filter(|it| it.peek().is_none()).unwrap_or_else(|| {
                let shared = self.start(image, auth, refresh);
                pulls.extend(shared.downgrade().map(|weak| (key, weak)));
                shared
            })
        };
        shared.await
    }

    /// A task of its own drives the pull, so that one waiter that does not poll cannot hold it up.
    fn start(&self, image: &ImageRef, auth: &Auth, is_refresh: bool) -> Shared<PullFuture> {
        let (inner, name) = (Arc::clone(&self.inner), image.clone());
        let pull = Arc::new(Pull {
            inner: Arc::clone(&inner),
            image: image.clone(),
            auth: auth.clone(),
            is_refresh,
        });
        let work = async move {
            let result = pull.run().await;
            if matches!(result, Err(PullError::NoSpace { .. })) {
                make_room(inner).await;
            }
            result
        };
        #[expect(clippy::disallowed_methods, reason = "aborted when its last waiter is dropped")]
        let task = AbortOnDropHandle::new(tokio::spawn(work));
        let result =
            async move { task.await.unwrap_or(Err(PullError::Interrupted { image: name })) };
        result.boxed().shared()
    }
}

impl Inner {
    pub(crate) fn next_number(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }
}

/// What the failed pull had fetched goes, and other remains with it.
async fn make_room(inner: Arc<Inner>) {
    let sweep = move || {
        let mut report = GcReport::default();
        collect::sweep(&inner, Orphans::RemoveNow, &BTreeSet::new(), &mut report)
    };
    if let Ok(Err(err)) = tokio::task::spawn_blocking(sweep).await {
        tracing::warn!(error = crate::registry::chain(&err), "Could not make room on a full disk");
    }
}
