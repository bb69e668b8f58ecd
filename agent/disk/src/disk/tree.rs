//! The database, its records and its reserve: batches become durable here, with the database's own means.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    Batch, CommitError, Healing, OpenError, OpenReport, Options, ReadError, heal,
    records::{self, Records},
    reserve::Reserve,
    rewrite,
    store::Store,
};

/// An open database with one writer.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) state: State,
    records: Records,
    /// Number of the newest batch that is known to be durable.
    durable: u64,
    reserve: Reserve,
    options: Options,
    dir: PathBuf,
}

#[derive(Debug)]
pub(super) enum State {
    Open(Store),
    /// There was no space; the next commit opens again.
    Full,
    /// A commit failed otherwise.
    Closed,
}

impl Tree {
    pub(super) fn open(
        dir: &Path,
        options: Options,
        report: &mut OpenReport,
    ) -> Result<Self, OpenError> {
        let reserve = Reserve::new(dir, options.segment_bytes);
        let mut opened = open_store(dir, options, report);
        if opened.as_ref().is_err_and(OpenError::is_full) && reserve.free() {
            opened = open_store(dir, options, report);
        }
        let (store, records) = opened?;
        Ok(Self {
            state: State::Open(store),
            durable: records.n_batches(),
            records,
            reserve,
            options,
            dir: dir.into(),
        })
    }

    /// Number of the newest batch.
    pub(super) fn number(&self) -> u64 {
        self.records.n_batches()
    }

    pub(super) fn n_values(&self) -> usize {
        self.records.n_values()
    }

    /// Makes a batch durable, and the newest one's number what is said, or the next.
    pub(super) fn commit(&mut self, batch: &Batch, number: Option<u64>) -> Result<(), CommitError> {
        let closed = CommitError::Closed { dir: self.dir.clone() };
        let written = match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => Err(closed),
            State::Open(store) if batch.is_empty() && number.is_none() => {
                self.state = State::Open(store);
                return Ok(());
            }
            State::Open(store) => {
                let records = self.records.encode(batch, number);
                match write(&store, records, &self.dir) {
                    Ok(()) => Ok(store),
                    Err(err) if err.is_full() => {
                        drop(store);
                        let helped = self.reserve.free();
                        tracing::warn!(dir = %self.dir.display(), helped, "Ran out of disk space");
                        if helped { self.recover(batch, number) } else { Err(err) }
                    }
                    Err(err) => Err(err),
                }
            }
            State::Full => self.recover(batch, number),
        };
        match written {
            Ok(store) => {
                self.state = State::Open(store);
                self.durable = self.records.n_batches();
                Ok(())
            }
            Err(err) => {
                if err.is_full() {
                    self.state = State::Full;
                }
                Err(err)
            }
        }
    }

    /// Takes back the space that is kept for a full file system, if there is enough.
    pub(super) fn fill_reserve(&self) {
        self.reserve.fill();
    }

    /// Gives that space back. Whether there was any.
    pub(super) fn free_reserve(&self) -> bool {
        self.reserve.free()
    }

    /// Visits every key and value, in no promised order.
    pub(super) fn scan(&self, visit: &mut dyn FnMut(&[u8], Vec<u8>)) -> Result<(), ReadError> {
        let State::Open(store) = &self.state else {
            return Err(ReadError::Closed { dir: self.dir.clone() });
        };
        records::scan(&store.db, visit)
            .map_err(|err| ReadError::Database { dir: self.dir.clone(), err })
    }

    /// Copies the database into a fresh one if it is damaged or too large.
    pub(super) fn rewrite_if_wanted(&mut self, report: &mut OpenReport) -> Result<(), OpenError> {
        let State::Open(store) = &self.state else { return Ok(()) };
        let Some(why) = rewrite::wanted(store, &self.records, report) else { return Ok(()) };
        self.rewrite(why, report)
    }

    /// Copies the database into a fresh one.
    pub(super) fn rewrite(
        &mut self,
        why: rewrite::Why,
        report: &mut OpenReport,
    ) -> Result<(), OpenError> {
        let State::Open(store) = std::mem::replace(&mut self.state, State::Closed) else {
            return Ok(());
        };
        let records = std::mem::replace(&mut self.records, Records::new(0));
        let (store, records) =
            rewrite::rewrite(&self.dir, (store, records), self.options, why, report)?;
        (self.state, self.records) = (State::Open(store), records);
        Ok(())
    }

    /// Opens the database again after it ran out of space, which it takes as its end, and writes the batch. All that
    /// was acknowledged must be there.
    fn recover(&mut self, batch: &Batch, number: Option<u64>) -> Result<Store, CommitError> {
        let mut report = OpenReport::default();
        let opened = open_store(&self.dir, self.options, &mut report);
        let (store, records) = opened
            .map_err(|err| CommitError::Recover { dir: self.dir.clone(), err: err.into() })?;
        if report.damaged() || report.lost_data() || records.n_batches() < self.durable {
            return Err(CommitError::Closed { dir: self.dir.clone() });
        }
        self.records = records;
        let again = self.records.encode(batch, number);
        write(&store, again, &self.dir)?;
        Ok(store)
    }
}

fn open_store(
    dir: &Path,
    options: Options,
    report: &mut OpenReport,
) -> Result<(Store, Records), OpenError> {
    let io_error = |err: io::Error| OpenError::Io { path: dir.into(), err };
    rewrite::finish(dir).map_err(io_error)?;
    let (store, records) = heal::open(dir, options, report)?;
    let intact = store.headers_intact(&dir.join("store"));
    if !intact.map_err(io_error)? {
        report.healed.push(Healing::FoundDamage);
    }
    Ok((store, records))
}

pub(super) fn write(store: &Store, batch: sled::Batch, dir: &Path) -> Result<(), CommitError> {
    let database = |err| CommitError::Database { dir: dir.into(), err };
    store.db.apply_batch(batch).map_err(database)?;
    store.db.flush().map_err(database)?;
    // `flush` only starts the writing of pages; what a power cut respects is this.
    store.file.sync_data().map_err(|err| CommitError::Sync { dir: dir.into(), err })
}
