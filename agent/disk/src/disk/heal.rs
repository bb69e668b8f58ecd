//! The ladder of remedies at open. Each rung gives up a little more:
//!
//! ```text
//! remove half-written snapshots -> open -> set snapshots aside (the log is replayed whole) -> set the
//! configuration aside (it is written anew) -> set the whole database aside and begin empty
//! ```
//!
//! An open that aborts the process leaves a mark, and the next one starts on a higher rung.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{
    OpenError, Options,
    records::Records,
    store::{self, Failure, Store},
};
use crate::sync_dir;

/// So many opens may die before the database is given up; a power cut during an open counts as one.
const DEATHS: u64 = 3;
/// So many broken databases are kept.
const KEPT: usize = 2;

/// What opening had to do.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// In the order of doing. Empty for a disk in good health, and for a new one.
    pub healed: Vec<Healing>,
}

impl OpenReport {
    /// Whether something that was acknowledged is gone.
    pub fn lost_data(&self) -> bool {
        self.healed.iter().any(|it| match it {
            Healing::LostWrites { .. } | Healing::Quarantined { .. } => true,
            Healing::RemovedSnapshot { .. }
            | Healing::SetSnapshotsAside { .. }
            | Healing::SetConfigAside { .. }
            | Healing::FoundDamage
            | Healing::Rewritten { .. } => false,
        })
    }

    /// Whether the database was damaged in a way that it may not have noticed in full.
    pub(super) fn damaged(&self) -> bool {
        self.healed.iter().any(|it| match it {
            Healing::LostWrites { .. }
            | Healing::FoundDamage
            | Healing::SetSnapshotsAside { .. }
            | Healing::SetConfigAside { .. } => true,
            Healing::RemovedSnapshot { .. }
            | Healing::Quarantined { .. }
            | Healing::Rewritten { .. } => false,
        })
    }
}

/// One remedy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Healing {
    /// A half-written snapshot was removed. Nothing is lost.
    RemovedSnapshot {
        /// The file.
        path: PathBuf,
    },
    /// All snapshots were set aside and the log was replayed.
    SetSnapshotsAside {
        /// What opening had failed with.
        reason: String,
    },
    /// The parameters of the database were written anew.
    SetConfigAside {
        /// What opening had failed with.
        reason: String,
    },
    /// A part of the file is damaged that the database did not need to open, but might need later.
    FoundDamage,
    /// What is there is not what the last batch left: some writes are gone, or undone.
    LostWrites {
        /// How many values are there.
        n_values: usize,
    },
    /// All values were copied into a fresh database.
    Rewritten {
        /// Where the old database is kept, if it was damaged.
        kept: Option<PathBuf>,
    },
    /// The database was moved away, everything in it is lost to us.
    Quarantined {
        /// Where it is kept.
        to: PathBuf,
        /// What opening had failed with.
        reason: String,
    },
}

/// Opens the database below `dir`, whatever it takes.
pub(super) fn open(
    dir: &Path,
    options: Options,
    report: &mut OpenReport,
) -> Result<(Store, Records), OpenError> {
    let store_dir = dir.join("store");
    let mark = dir.join("opening");
    let at = |path: &Path| {
        let path = path.to_path_buf();
        |err| OpenError::Io { path, err }
    };
    fs::create_dir_all(&store_dir).map_err(at(&store_dir))?;
    remove_half_snapshots(&store_dir, report).map_err(at(&store_dir))?;
    let deaths = fs::metadata(&mark).map_or(0, |it| it.len());
    let mut rung = match deaths {
        0 => Rung::AsIs,
        1 => Rung::WithoutSnapshots,
        DEATHS.. => Rung::Empty,
        _ => Rung::WithoutConfig,
    };
    let mut reason = format!("{deaths} opens before this one did not return");
    loop {
        rung.prepare(dir, &store_dir, reason, report).map_err(at(&store_dir))?;
        let opened = attempt(&store_dir, options, &mark)?;
        let (next, failure) = match (opened, rung.next()) {
            (Ok((store, records, intact)), _) => {
                if !intact {
                    report.healed.push(Healing::LostWrites { n_values: records.n_values() });
                }
                return Ok((store, records));
            }
            (Err(failure), Some(next)) => (next, failure),
            (Err(failure), None) => {
                let err = sled::Error::ReportableBug(failure);
                return Err(OpenError::Database { dir: store_dir, err });
            }
        };
        tracing::warn!(dir = %dir.display(), error = %failure, "Could not open database, healing");
        (rung, reason) = (next, failure);
    }
}

/// One open under the mark. The outer error is the file system's, and no reason to heal anything.
fn attempt(
    store_dir: &Path,
    options: Options,
    mark: &Path,
) -> Result<Result<(Store, Records, bool), String>, OpenError> {
    let set = File::options().append(true).create(true).open(mark);
    set.and_then(|mut it| it.write_all(b"."))
        .map_err(|err| OpenError::Io { path: mark.into(), err })?;
    let opened = store::open(store_dir, options);
    fs::remove_file(mark).map_err(|err| OpenError::Io { path: mark.into(), err })?;
    match opened {
        Ok(opened) => Ok(Ok(opened)),
        Err(Failure::Corrupt(reason)) => Ok(Err(reason)),
        Err(Failure::Io(err)) => Err(OpenError::Io { path: store_dir.into(), err }),
    }
}

#[derive(Clone, Copy, Debug)]
enum Rung {
    AsIs,
    WithoutSnapshots,
    WithoutConfig,
    Empty,
}

impl Rung {
    fn next(self) -> Option<Self> {
        match self {
            Self::AsIs => Some(Self::WithoutSnapshots),
            Self::WithoutSnapshots => Some(Self::WithoutConfig),
            Self::WithoutConfig => Some(Self::Empty),
            Self::Empty => None,
        }
    }

    fn prepare(
        self,
        dir: &Path,
        store_dir: &Path,
        reason: String,
        report: &mut OpenReport,
    ) -> io::Result<()> {
        match self {
            Self::AsIs => {}
            Self::WithoutSnapshots => {
                set_aside(store_dir, "snap.")?;
                report.healed.push(Healing::SetSnapshotsAside { reason });
            }
            Self::WithoutConfig => {
                set_aside(store_dir, "snap.")?;
                set_aside(store_dir, "conf")?;
                report.healed.push(Healing::SetConfigAside { reason });
            }
            Self::Empty => {
                let to = quarantine(dir, store_dir)?;
                fs::create_dir_all(store_dir)?;
                report.healed.push(Healing::Quarantined { to, reason });
            }
        }
        Ok(())
    }
}

fn remove_half_snapshots(store_dir: &Path, report: &mut OpenReport) -> io::Result<()> {
    for entry in fs::read_dir(store_dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(&path)?;
            report.healed.push(Healing::RemovedSnapshot { path });
        }
    }
    Ok(())
}

/// Moves files out of the database's sight, into a directory beside its own; earlier ones give way.
fn set_aside(store_dir: &Path, prefix: &str) -> io::Result<()> {
    let aside = store_dir.with_file_name("aside");
    fs::create_dir_all(&aside)?;
    for entry in fs::read_dir(store_dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            fs::rename(entry.path(), aside.join(entry.file_name()))?;
        }
    }
    sync_dir(store_dir)
}

/// Moves the database to a name of its own; of earlier ones the newest are kept.
pub(super) fn quarantine(dir: &Path, store_dir: &Path) -> io::Result<PathBuf> {
    let mut broken: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|it| it.strip_prefix("broken-")?.parse().ok());
        broken.extend(number.map(|number| (number, entry.path())));
    }
    broken.sort();
    let next = broken.last().map_or(1, |(number, _)| number + 1);
    let to = dir.join(format!("broken-{next}"));
    fs::rename(store_dir, &to)?;
    sync_dir(dir)?;
    let n_surplus = (broken.len() + 1).saturating_sub(KEPT);
    for (_, path) in broken.iter().take(n_surplus) {
        fs::remove_dir_all(path)?;
    }
    Ok(to)
}
