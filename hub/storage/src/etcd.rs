//! Storage in an etcd that several hubs share.
//!
//! ```text
//! txn() ─> etcd (compare, write, one revision) ─> watch of every hub ─> its watch cache ─> answer, readers, watches
//! catch_up() ─> etcd: which write was the last? ─> wait until the cache has it
//! ```
//!
//! etcd decides conflicts and numbers writes; each hub reads from a cache that it feeds from one watch of everything.
//! Every transaction also writes one key of ours: that key's revision is the newest that a reader may have to see, and
//! asking for it costs one small read, whatever else lives in the same etcd.
//!
//! **Invariant**: the cache holds every write up to its revision and none after it. While etcd is out of reach it stays
//! as it is; when etcd has forgotten what came between, it begins anew and says so to its watches.

mod commit;
mod compaction;
mod follow;
mod load;
mod members;
mod place;
mod record;
mod restore;
mod wire;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use self::{
    load::{LoadError, begin, load, write_epoch},
    members::Members,
    record::{Layout, RecordError, number, revision},
    wire::{CallError, Compare, RangeRequest, TxnRequest},
};
pub use self::{
    members::EtcdTls,
    place::{EtcdPlace, PlaceError},
    restore::{EtcdRestoreError, restore_etcd},
};
use crate::{
    Backup, CatchUpError, Committed, HistoryLimits, Key, Revision, Sealer, Storage, StorageEpoch,
    Txn, TxnError, UnsealError, WatchCache,
};

/// etcd answers in this time, or the request has failed. A write may still happen after it.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a reader waits for the cache to have what was written elsewhere.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a write waits for the own cache to have it, before it is answered all the same.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an etcd that is out of reach is waited for at the start.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
const OPEN_PAUSE: Duration = Duration::from_millis(500);

/// How to open the storage.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// How much history is kept in memory.
    pub history: HistoryLimits,
    /// The largest object that is accepted. etcd's own limit is that of a request: 1.5 MiB unless it was told otherwise.
    pub object_bytes: usize,
    /// Which objects are sealed, and with what: the same on every hub.
    pub sealer: Option<Arc<Sealer>>,
    /// Certificates for `etcds://`.
    pub tls: EtcdTls,
}

impl EtcdOptions {
    /// What the hub uses unless told otherwise.
    pub fn new() -> Self {
        Self {
            history: HistoryLimits::DEFAULT,
            object_bytes: 3 << 19,
            sealer: None,
            tls: EtcdTls::default(),
        }
    }
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What was found at open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EtcdReport {
    /// How many objects there are.
    pub n_entries: usize,
    /// Keys that are not objects of a hub, and were left out.
    pub n_unreadable: usize,
    /// How many objects were sealed anew, or no longer.
    pub n_resealed: usize,
    /// Whether this hub began the history.
    pub new_epoch: bool,
}

/// Why the storage could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EtcdOpenError {
    /// A certificate or key cannot be used, or the place is none.
    #[error("could not set up the connection to {place}: {reason}")]
    Setup {
        /// The etcd.
        place: String,
        /// Why.
        reason: String,
    },
    /// Nothing answers there.
    #[error("could not reach {place}: {reason}")]
    Unreachable {
        /// The etcd.
        place: String,
        /// Why.
        reason: String,
    },
    /// An object cannot be read without the right key. Nothing was changed.
    #[error("could not open {key}")]
    Sealed {
        /// The object.
        key: String,
        /// Why.
        #[source]
        err: UnsealError,
    },
    /// The data was written by a later version of this program.
    #[error("{key} has format {found}, which this program does not know")]
    Format {
        /// The object.
        key: String,
        /// Its format.
        found: u8,
    },
    /// What stands for the identity of the history is something else.
    #[error(
        "the epoch in {place} is not one; is it the prefix of something else, or of a restore that did not end?"
    )]
    Epoch {
        /// The etcd.
        place: String,
    },
}

type CatchUpAnswer = oneshot::Sender<Result<Revision, CatchUpError>>;

/// Storage in etcd.
pub struct EtcdStorage {
    cache: Arc<WatchCache>,
    epoch: StorageEpoch,
    sealer: Option<Arc<Sealer>>,
    object_bytes: usize,
    writes: mpsc::UnboundedSender<commit::Job>,
    questions: mpsc::UnboundedSender<CatchUpAnswer>,
    closing: CancellationToken,
    tasks: Mutex<Option<JoinSet<()>>>,
}

impl fmt::Debug for EtcdStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdStorage").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// What the tasks share.
struct Store {
    members: Members,
    layout: Layout,
    cache: Arc<WatchCache>,
    sealer: Option<Arc<Sealer>>,
    /// The cluster's own identity: another one behind the same address is another history.
    cluster: u64,
    epoch: StorageEpoch,
}

impl EtcdStorage {
    /// Opens the storage: reads all objects, and follows what happens to them. Waits a while for an etcd that is out of
    /// reach.
    ///
    /// # Errors
    /// etcd is out of reach, or what lies there cannot be read.
    pub async fn open(
        place: &EtcdPlace,
        options: EtcdOptions,
    ) -> Result<(Arc<Self>, EtcdReport), EtcdOpenError> {
        let members = Members::new(place, &options.tls)?;
        let layout = Layout::new(&place.prefix);
        let sealer = options.sealer.clone();
        let refused = |err| match err {
            LoadError::Call(err) => unreachable(place, err),
            LoadError::Record { key, err } => unreadable(place, key, err),
        };
        let ask = || begin(&members, &layout);
        let (epoch, new_epoch) = patiently(place, &members, ask).await.map_err(refused)?;
        // How long this takes depends on how much there is.
        let loaded = load(&members, &layout, sealer.as_deref()).await.map_err(refused)?;
        let epoch = loaded.epoch.unwrap_or(epoch);
        let report = EtcdReport {
            n_entries: loaded.entries.len(),
            n_unreadable: loaded.n_unreadable,
            n_resealed: loaded.to_reseal.len(),
            new_epoch,
        };
        let to_reseal: Vec<Key> = loaded.keys_to_reseal();
        let cache = Arc::new(WatchCache::new(loaded.entries, loaded.revision, options.history));
        let store = Arc::new(Store {
            members,
            layout,
            cache: cache.clone(),
            sealer: sealer.clone(),
            cluster: loaded.cluster,
            epoch,
        });
        let (writes, jobs) = mpsc::unbounded_channel();
        let (questions, asked) = mpsc::unbounded_channel();
        let closing = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(commit::run(store.clone(), jobs, closing.clone()));
        tasks.spawn(stopped_by(closing.clone(), follow::run(store.clone(), loaded.at)));
        tasks.spawn(stopped_by(closing.clone(), answer_questions(store.clone(), asked)));
        tasks.spawn(stopped_by(closing.clone(), compaction::run(store.clone())));
        let storage = Arc::new(Self {
            cache,
            epoch,
            sealer,
            object_bytes: options.object_bytes,
            writes,
            questions,
            closing,
            tasks: Mutex::new(Some(tasks)),
        });
        storage.reseal(&to_reseal).await;
        Ok((storage, report))
    }

    /// Writes again what is not sealed as it should be. Another hub may do the same at this moment, or change an object:
    /// then it is sealed by that.
    async fn reseal(&self, keys: &[Key]) {
        for entry in keys.iter().filter_map(|key| self.cache.get(key)) {
            let body = entry.body();
            if let Err(err) = self.txn(Txn::update(entry.key.clone(), entry.revision, body)).await
                && !matches!(err, TxnError::Conflict { .. })
            {
                tracing::warn!(key = %entry.key, error = %err, "Could not seal an object anew");
            }
        }
    }
}

/// Repeats what etcd could not be asked, for a while.
async fn patiently<T, A>(
    place: &EtcdPlace,
    members: &Members,
    mut ask: impl FnMut() -> A,
) -> Result<T, LoadError>
where
    A: Future<Output = Result<T, LoadError>>,
{
    let mut last = None;
    let asking = async {
        let mut n_untrusted = 0;
        loop {
            let err = match ask().await {
                Err(LoadError::Call(err)) => err,
                other => return other,
            };
            // Waiting mends no certificate, but another member may have a better one.
            n_untrusted = if err.is_about_certificates() { n_untrusted + 1 } else { 0 };
            if n_untrusted >= members.len() {
                return Err(LoadError::Call(err));
            }
            if last.is_none() {
                tracing::warn!(%place, error = %err, "Waiting for etcd");
            }
            last = Some(err);
            members.pass_over();
            tokio::time::sleep(OPEN_PAUSE).await;
        }
    };
    let asked = tokio::time::timeout(OPEN_TIMEOUT, asking).await;
    asked.unwrap_or_else(|_elapsed| Err(LoadError::Call(last.unwrap_or(CallError::TimedOut))))
}

fn unreachable(place: &EtcdPlace, err: CallError) -> EtcdOpenError {
    EtcdOpenError::Unreachable { place: place.to_string(), reason: err.to_string() }
}

fn unreadable(place: &EtcdPlace, key: String, err: RecordError) -> EtcdOpenError {
    match err {
        RecordError::Sealed(err) => EtcdOpenError::Sealed { key, err },
        RecordError::Format { found } => EtcdOpenError::Format { key, found },
        RecordError::Malformed => EtcdOpenError::Epoch { place: place.to_string() },
    }
}

async fn stopped_by(closing: CancellationToken, work: impl Future<Output = ()>) {
    // None of them holds anything that is not in etcd.
    let _closed = closing.run_until_cancelled(work).await;
}

/// One key, as it is now: etcd asks its majority.
fn one(key: Bytes) -> RangeRequest {
    RangeRequest { key, range_end: Bytes::new(), limit: 1, revision: 0 }
}

impl Store {
    /// The revision of the last transaction that anybody made.
    async fn newest(&self) -> Result<Revision, CatchUpError> {
        let request = one(self.layout.last());
        // Before the question: what comes in while it is answered may be newer than the answer.
        let known = number(self.cache.revision());
        let found = wire::range(&self.members.channel(), request, CATCH_UP_TIMEOUT).await;
        let found = found.map_err(|err| match err {
            CallError::TimedOut => CatchUpError::TimedOut,
            CallError::Unreachable { .. }
            | CallError::Compacted
            | CallError::TooLarge
            | CallError::Refused { .. } => CatchUpError::Unreachable { reason: err.to_string() },
        })?;
        let header = found.header.unwrap_or_default();
        if !self.is_same_history(&header, known) {
            self.give_up();
            return Err(CatchUpError::Closed);
        }
        Ok(found.kvs.first().map_or(Revision::ZERO, |it| revision(it.mod_revision)))
    }

    /// Whether an answer that etcd's majority stands for continues what this hub knew when it asked.
    fn is_same_history(&self, header: &wire::ResponseHeader, known: i64) -> bool {
        header.cluster_id == self.cluster && header.revision >= known
    }

    fn give_up(&self) {
        if self.cache.is_closed() {
            return;
        }
        tracing::error!(
            "etcd is another one, or was set back to an older state: this hub stops. After etcd was restored from a \
             snapshot, run `outbye-hub storage new-epoch` before the hubs start again"
        );
        self.cache.close();
    }

    async fn reached(&self, revision: Revision, timeout: Duration) -> bool {
        let mut progress = self.cache.progress();
        let waiting = progress.wait_for(|it| *it >= revision);
        tokio::time::timeout(timeout, waiting).await.is_ok_and(|it| it.is_ok())
    }
}

/// Answers how far readers must wait. Questions that come while etcd is asked share the next answer: theirs must be
/// asked for after they were.
async fn answer_questions(store: Arc<Store>, mut asked: mpsc::UnboundedReceiver<CatchUpAnswer>) {
    let mut waiting = Vec::new();
    while asked.recv_many(&mut waiting, usize::MAX).await > 0 {
        let newest = store.newest().await;
        for answer in waiting.drain(..) {
            // Who asked may have gone.
            let _ = answer.send(newest.clone());
        }
    }
}

/// Begins a new history in an etcd that was restored from a snapshot: nodes do not follow the hubs until their operator
/// agrees. No hub may run.
///
/// # Errors
/// etcd is out of reach, or there is no history in it.
pub async fn new_epoch(place: &EtcdPlace, tls: &EtcdTls) -> Result<StorageEpoch, EtcdOpenError> {
    let members = Members::new(place, tls)?;
    let layout = Layout::new(&place.prefix);
    let drawn = StorageEpoch::draw();
    let request = TxnRequest {
        compare: vec![Compare::present(layout.epoch())],
        success: write_epoch(&layout, drawn),
        failure: Vec::new(),
    };
    match wire::txn(&members.channel(), request, CALL_TIMEOUT).await {
        Ok(response) if response.succeeded => Ok(drawn),
        Ok(_) => Err(EtcdOpenError::Epoch { place: place.to_string() }),
        Err(err) => Err(unreachable(place, err)),
    }
}

impl Storage for EtcdStorage {
    fn cache(&self) -> &Arc<WatchCache> {
        &self.cache
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'static, Result<Committed, TxnError>> {
        let checked = txn.check(self.object_bytes);
        let (answer, answered) = oneshot::channel();
        let queued = checked.and_then(|()| {
            self.writes.send(commit::Job { txn, answer }).map_err(|_gone| TxnError::Closed)
        });
        Box::pin(async move {
            queued?;
            answered.await.unwrap_or(Err(TxnError::Closed))
        })
    }

    fn catch_up(&self) -> BoxFuture<'static, Result<Revision, CatchUpError>> {
        let (answer, answered) = oneshot::channel();
        let asked = self.questions.send(answer);
        let mut progress = self.cache.progress();
        Box::pin(async move {
            asked.map_err(|_gone| CatchUpError::Closed)?;
            let newest = answered.await.unwrap_or(Err(CatchUpError::Closed))?;
            let waiting = progress.wait_for(|it| *it >= newest);
            match tokio::time::timeout(CATCH_UP_TIMEOUT, waiting).await {
                Ok(Ok(reached)) => Ok(*reached),
                Ok(Err(_closed)) => Err(CatchUpError::Closed),
                Err(_elapsed) => Err(CatchUpError::Behind { wanted: newest }),
            }
        })
    }

    fn epoch(&self) -> StorageEpoch {
        self.epoch
    }

    fn backup(&self, files: &[(String, Vec<u8>)]) -> Backup {
        let (entries, revision) = self.cache.snapshot();
        Backup::new(entries, revision, self.sealer.clone(), files)
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.closing.cancel();
            let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(mut tasks) = tasks {
                while tasks.join_next().await.is_some() {}
            }
            self.cache.close();
        })
    }
}

impl Drop for EtcdStorage {
    fn drop(&mut self) {
        self.closing.cancel();
        self.cache.close();
    }
}

#[cfg(test)]
mod tests;
