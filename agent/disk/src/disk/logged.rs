//! A disk whose batches are durable in a log first, and go to the database in the background.
//!
//! ```text
//! commit -> log (one write, one sync) -> pending -- when the log is long --> applier -> database (durable) -> log free
//! ```
//! A batch has its number in the log; the database knows the number of the newest batch that it has in full. Applying
//! is idempotent: cut anywhere, the next open applies again what the log holds above that number.

use std::{
    collections::BTreeMap,
    mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
};

use super::{
    Batch, CommitError, Healing, OpenError, OpenReport, ReadError,
    log::{self, Log},
    reserve,
    tree::Tree,
};

/// So much goes to the database and is synced at once: until then it must not reuse what it freed.
const CHUNK_BYTES: usize = 1 << 20;
/// The log may grow to so many times its size before a commit waits for the database.
const PATIENCE: u64 = 4;

type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Changes on their way to the database, and the number of the newest batch among them.
#[derive(Debug)]
struct Job {
    changes: Changes,
    number: u64,
}

/// The log, and the way from there to the database.
#[derive(Debug)]
pub(super) struct Logged {
    log: Log,
    log_bytes: u64,
    /// Of the newest batch.
    number: u64,
    /// What the current file of the log holds; later changes of a key have won.
    pending: Changes,
    /// What the other file holds, until the database has it.
    applying: Option<Arc<Job>>,
    applier: Applier,
    /// There was no space for what is applied, and nothing is under way.
    stalled: bool,
    closed: bool,
    dir: PathBuf,
}

/// Applies what a log holds that the database does not.
pub(super) fn replay(
    dir: &Path,
    tree: &mut Tree,
    report: &mut OpenReport,
) -> Result<(), OpenError> {
    let records = log::read(dir).map_err(|err| OpenError::Io { path: dir.into(), err })?;
    let newer = records.into_iter().filter(|(number, _)| *number > tree.number());
    let (mut changes, mut number, mut complete) = (Changes::new(), tree.number(), true);
    for (next, batch) in newer {
        // Only the newest can be torn; what is missing below it was acknowledged.
        complete &= next == number + 1;
        number = next;
        changes.extend(batch.changes);
    }
    if number == tree.number() {
        return Ok(());
    }
    apply(tree, &Job { changes, number })
        .map_err(|err| OpenError::Replay { dir: dir.into(), err })?;
    if !complete && !report.lost_data() {
        report.healed.push(Healing::LostWrites { n_values: tree.n_values() });
    }
    Ok(())
}

impl Logged {
    /// Begins a log beside a database that has all there is.
    pub(super) fn start(dir: &Path, tree: Tree, log_bytes: u64) -> Result<Self, OpenError> {
        let io_error = |err| OpenError::Io { path: dir.into(), err };
        let log = Log::begin(dir).map_err(io_error)?;
        let number = tree.number();
        let applier = Applier::start(tree).map_err(io_error)?;
        Ok(Self {
            log,
            log_bytes,
            number,
            pending: Changes::new(),
            applying: None,
            applier,
            stalled: false,
            closed: false,
            dir: dir.into(),
        })
    }

    /// Makes a batch durable and returns its number.
    pub(super) fn commit(&mut self, batch: Batch) -> Result<u64, CommitError> {
        if self.closed {
            return Err(CommitError::Closed { dir: self.dir.clone() });
        }
        if batch.is_empty() {
            return Ok(self.number);
        }
        let result = self.write(batch);
        if let Err(err) = &result {
            self.closed = !err.is_full();
        }
        result
    }

    fn write(&mut self, batch: Batch) -> Result<u64, CommitError> {
        self.collect(self.log.size() >= self.log_bytes * PATIENCE)?;
        let is_long = self.log.size() >= self.log_bytes;
        if is_long && self.applying.is_none() && !self.log.is_torn() {
            self.hand_over();
        }
        let number = self.number + 1;
        let mut written = self.log.append(number, &batch);
        if written.as_ref().is_err_and(reserve::is_full) && self.free_reserve() {
            written = self.log.append(number, &batch);
        }
        written.map_err(|err| CommitError::Sync { dir: self.dir.clone(), err })?;
        self.number = number;
        self.pending.extend(batch.changes);
        Ok(number)
    }

    fn free_reserve(&self) -> bool {
        let tree = self.applier.tree.lock().unwrap_or_else(PoisonError::into_inner);
        let helped = tree.free_reserve();
        tracing::warn!(dir = %self.dir.display(), helped, "Ran out of disk space");
        helped
    }

    /// Looks whether the database has what it was given, or waits for it. Where there was no space it is tried again.
    fn collect(&mut self, wait: bool) -> Result<(), CommitError> {
        let Some(job) = self.applying.clone() else { return Ok(()) };
        if !self.stalled {
            self.is_done(wait)?;
        }
        if self.stalled {
            self.applier.give(job);
            self.stalled = false;
            if wait && !self.is_done(true)? {
                return Err(CommitError::NoSpace { dir: self.dir.clone() });
            }
        }
        Ok(())
    }

    /// Whether the database has what it was given. Where there is no space it does not, and nothing is under way.
    fn is_done(&mut self, wait: bool) -> Result<bool, CommitError> {
        let results = &self.applier.results;
        let result = if wait {
            results.recv().map_err(|_| mpsc::TryRecvError::Disconnected)
        } else {
            results.try_recv()
        };
        match result {
            Ok(Ok(())) => {
                self.applying = None;
                Ok(true)
            }
            Ok(Err(err)) if err.is_full() => {
                tracing::warn!(error = %err, cause = ?err, "Could not apply the log");
                self.stalled = true;
                Ok(false)
            }
            Ok(Err(err)) => Err(err),
            Err(mpsc::TryRecvError::Empty) => Ok(false),
            Err(mpsc::TryRecvError::Disconnected) => {
                Err(CommitError::Closed { dir: self.dir.clone() })
            }
        }
    }

    fn hand_over(&mut self) {
        let job = Arc::new(Job { changes: mem::take(&mut self.pending), number: self.number });
        self.applier.give(job.clone());
        self.applying = Some(job);
        self.log.switch();
    }

    /// The log, to spoil it.
    #[cfg(test)]
    pub(super) fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Number of the newest batch.
    #[cfg(test)]
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Waits until nothing is on its way into the database.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        while let Some(job) = &self.applying {
            let tree = self.applier.tree.lock().unwrap();
            if tree.number() == job.number {
                return;
            }
            drop(tree);
            thread::yield_now();
        }
    }

    /// Visits every key and value, in no promised order.
    pub(super) fn scan(&self, visit: &mut dyn FnMut(&[u8], Vec<u8>)) -> Result<(), ReadError> {
        let tree = self.applier.tree.lock().unwrap_or_else(PoisonError::into_inner);
        let mut newer: BTreeMap<&[u8], Option<&Vec<u8>>> = BTreeMap::new();
        let applying = self.applying.iter().flat_map(|it| &it.changes);
        for (key, value) in applying.chain(&self.pending) {
            newer.insert(key, value.as_ref());
        }
        tree.scan(&mut |key, value| {
            if !newer.contains_key(key) {
                visit(key, value);
            }
        })?;
        for (key, value) in newer {
            if let Some(value) = value {
                visit(key, value.clone());
            }
        }
        Ok(())
    }
}

/// The thread that brings changes into the database.
#[derive(Debug)]
struct Applier {
    tree: Arc<Mutex<Tree>>,
    /// `None` at the end.
    jobs: Option<mpsc::Sender<Arc<Job>>>,
    results: mpsc::Receiver<Result<(), CommitError>>,
    thread: Option<JoinHandle<()>>,
}

impl Applier {
    fn start(tree: Tree) -> std::io::Result<Self> {
        let tree = Arc::new(Mutex::new(tree));
        let (jobs, todo) = mpsc::channel::<Arc<Job>>();
        let (done, results) = mpsc::channel();
        let own = tree.clone();
        let run = move || {
            while let Ok(job) = todo.recv() {
                let mut tree = own.lock().unwrap_or_else(PoisonError::into_inner);
                let applied = apply(&mut tree, &job);
                if applied.is_ok() {
                    tree.fill_reserve();
                }
                drop(tree);
                // The disk was dropped: the next open sees what there is.
                let _ = done.send(applied);
            }
        };
        let thread = thread::Builder::new().name("disk".into()).spawn(run)?;
        Ok(Self { tree, jobs: Some(jobs), results, thread: Some(thread) })
    }

    fn give(&self, job: Arc<Job>) {
        if let Some(jobs) = &self.jobs {
            // A thread that is gone shows when its result is asked for.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it was printed where it happened.
            let _ = thread.join();
        }
    }
}

/// Brings changes into the database. Only the last part raises its number: cut anywhere, all is applied again.
fn apply(tree: &mut Tree, job: &Job) -> Result<(), CommitError> {
    let (before, mut batch, mut bytes) = (tree.number(), Batch::default(), 0);
    for (key, value) in &job.changes {
        bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        batch.changes.push((key.clone(), value.clone()));
        if bytes > CHUNK_BYTES {
            tree.commit(&mem::take(&mut batch), Some(before))?;
            bytes = 0;
        }
    }
    tree.commit(&batch, Some(job.number))
}
