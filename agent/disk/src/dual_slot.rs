//! A small value in a file with two slots: a write goes to the slot that does not hold the newest value, so a torn
//! write damages only what was to be overwritten anyway.
//!
//! ```text
//! slot (each at a multiple of 4 KiB, as large as the capacity needs):
//!   magic "OBDS" | format u32 | sequence u64 | length u32 | checksum u32 (of all else and the value) | value
//! ```
//! Numbers are little endian. The valid slot with the higher sequence holds the value.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::replace::sync_dir;

const MAGIC: &[u8; 4] = b"OBDS";
const FORMAT: u32 = 1;
const HEAD: usize = 24;
const ALIGN: usize = 4096;

/// The file could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum DualSlotError {
    /// The file could not be opened or created.
    #[error("could not open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// The medium does not give the content.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// The value is not known to be durable; no further write is accepted until the file is opened again.
    #[error("could not write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// The value does not fit.
    #[error("a value of {size} bytes does not fit into {capacity}")]
    TooLarge {
        /// Size of the value.
        size: usize,
        /// Size of a slot.
        capacity: usize,
    },
    /// An earlier write failed.
    #[error("{} was closed by an earlier failure", path.display())]
    Closed {
        /// The file.
        path: PathBuf,
    },
}

/// What was found at open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SlotReport {
    /// There was no value yet.
    Fresh,
    /// At least one slot was good, and the other was good or never written.
    Intact,
    /// One slot was damaged: a write that did not finish, which nobody was told had succeeded, or a bad medium.
    OneDamaged,
    /// Something was there, and no slot is readable: the value is lost.
    Lost,
}

/// A value that survives torn writes.
#[derive(Debug)]
pub struct DualSlot {
    path: PathBuf,
    file: File,
    slot_bytes: usize,
    sequence: u64,
    newest: usize,
    value: Option<Vec<u8>>,
    failed: bool,
}

enum Slot {
    Empty,
    Damaged,
    Good { sequence: u64, value: Vec<u8> },
}

impl DualSlot {
    /// Opens or creates the file. `capacity` bounds the size of a value and must not change later.
    pub fn open(path: &Path, capacity: usize) -> Result<(Self, SlotReport), DualSlotError> {
        let slot_bytes = (HEAD + capacity).next_multiple_of(ALIGN);
        let opened = open_durable(path, slot_bytes);
        let file = opened.map_err(|err| DualSlotError::Open { path: path.into(), err })?;
        let read = |index: usize| {
            read_slot(&file, index * slot_bytes, slot_bytes)
                .map_err(|err| DualSlotError::Read { path: path.into(), err })
        };
        let slots = [read(0)?, read(1)?];
        let report = match &slots {
            [Slot::Empty, Slot::Empty] => SlotReport::Fresh,
            [Slot::Good { .. }, Slot::Good { .. } | Slot::Empty]
            | [Slot::Empty, Slot::Good { .. }] => SlotReport::Intact,
            [Slot::Good { .. }, Slot::Damaged] | [Slot::Damaged, Slot::Good { .. }] => {
                SlotReport::OneDamaged
            }
            [Slot::Damaged, Slot::Damaged | Slot::Empty] | [Slot::Empty, Slot::Damaged] => {
                SlotReport::Lost
            }
        };
        let mut this = Self {
            path: path.into(),
            file,
            slot_bytes,
            sequence: 0,
            newest: 1,
            value: None,
            failed: false,
        };
        for (index, slot) in slots.into_iter().enumerate() {
            if let Slot::Good { sequence, value } = slot
                && sequence > this.sequence
            {
                (this.sequence, this.newest, this.value) = (sequence, index, Some(value));
            }
        }
        Ok((this, report))
    }

    /// The value, if there is one.
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// Replaces the value. Durable when it returns.
    pub fn set(&mut self, value: &[u8]) -> Result<(), DualSlotError> {
        if self.failed {
            return Err(DualSlotError::Closed { path: self.path.clone() });
        }
        let capacity = self.slot_bytes - HEAD;
        if value.len() > capacity {
            return Err(DualSlotError::TooLarge { size: value.len(), capacity });
        }
        let (sequence, index) = (self.sequence + 1, 1 - self.newest);
        let slot = encode(sequence, value);
        let offset = offset(index * self.slot_bytes);
        let written = self.file.write_all_at(&slot, offset).and_then(|()| self.file.sync_data());
        if let Err(err) = written {
            self.failed = true;
            return Err(DualSlotError::Write { path: self.path.clone(), err });
        }
        (self.sequence, self.newest, self.value) = (sequence, index, Some(value.to_vec()));
        Ok(())
    }
}

fn open_durable(path: &Path, slot_bytes: usize) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path)?;
    if file.metadata()?.len() < offset(2 * slot_bytes) {
        // Real zeros, not a hole: a later write must not need space.
        let have = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        file.write_all_at(&vec![0; 2 * slot_bytes - have], offset(have))?;
        file.sync_all()?;
        sync_dir(path.parent().unwrap_or_else(|| Path::new("/")))?;
    }
    Ok(file)
}

fn read_slot(file: &File, at: usize, slot_bytes: usize) -> io::Result<Slot> {
    let mut slot = vec![0; slot_bytes];
    file.read_exact_at(&mut slot, offset(at))?;
    if slot.iter().all(|byte| *byte == 0) {
        return Ok(Slot::Empty);
    }
    Ok(decode(&slot).unwrap_or(Slot::Damaged))
}

fn encode(sequence: u64, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).expect("bounded by the capacity");
    let mut slot = Vec::with_capacity(HEAD + value.len());
    slot.extend_from_slice(MAGIC);
    slot.extend_from_slice(&FORMAT.to_le_bytes());
    slot.extend_from_slice(&sequence.to_le_bytes());
    slot.extend_from_slice(&length.to_le_bytes());
    let checksum = checksum(&slot, value);
    slot.extend_from_slice(&checksum.to_le_bytes());
    slot.extend_from_slice(value);
    slot
}

fn decode(slot: &[u8]) -> Option<Slot> {
    let (head, rest) = slot.split_at_checked(HEAD)?;
    let number = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let value = rest.get(..usize::try_from(number(16)?).ok()?)?;
    let intact = head.starts_with(MAGIC)
        && number(4)? == FORMAT
        && number(20)? == checksum(head.get(..20)?, value);
    let sequence = u64::from_le_bytes(head.get(8..16)?.try_into().ok()?);
    intact.then(|| Slot::Good { sequence, value: value.to_vec() })
}

fn checksum(head: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(value);
    hasher.finalize()
}

fn offset(at: usize) -> u64 {
    u64::try_from(at).expect("usize fits into u64 on every supported machine")
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 1000;

    fn open(path: &Path) -> (DualSlot, SlotReport) {
        DualSlot::open(path, CAPACITY).unwrap()
    }

    #[test]
    fn the_newest_value_is_there_after_reopen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vital");
        let (mut slot, report) = open(&path);
        assert_eq!((slot.value(), report), (None, SlotReport::Fresh));
        for n in 0..5_u8 {
            slot.set(&[n; 100]).unwrap();
            let (again, report) = open(&path);
            assert_eq!((again.value(), report), (Some(&[n; 100][..]), SlotReport::Intact));
        }
        slot.set(b"").unwrap();
        assert_eq!(open(&path).0.value(), Some(&b""[..]));
    }

    /// A write of the third value, cut after every possible byte, in both directions.
    #[test]
    fn a_torn_write_leaves_the_value_before_or_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vital");
        let (mut slot, _) = open(&path);
        slot.set(&[1; 200]).unwrap();
        slot.set(&[2; 200]).unwrap();
        let before = std::fs::read(&path).unwrap();
        slot.set(&[3; 300]).unwrap();
        let after = std::fs::read(&path).unwrap();
        let changed = before.iter().zip(&after).rposition(|(a, b)| a != b).unwrap() + 1;
        for cut in 0..=changed {
            for forward in [true, false] {
                let (head, tail) = if forward { (&after, &before) } else { (&before, &after) };
                let torn = [&head[..cut], &tail[cut..]].concat();
                let file = File::create(&path).unwrap();
                file.write_all_at(&torn, 0).unwrap();
                let (slot, report) = open(&path);
                let value = slot.value().unwrap();
                assert!(value == [2; 200] || value == [3; 300], "cut at {cut}");
                assert_ne!(report, SlotReport::Lost);
            }
        }
    }

    #[test]
    fn any_flipped_byte_is_noticed_or_harmless() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vital");
        let (mut slot, _) = open(&path);
        slot.set(&[1; 50]).unwrap();
        slot.set(&[2; 50]).unwrap();
        let good = std::fs::read(&path).unwrap();
        for at in 0..HEAD + 50 {
            for slot_at in [0, 4096] {
                let mut bad = good.clone();
                bad[slot_at + at] ^= 0x10;
                let file = File::create(&path).unwrap();
                file.write_all_at(&bad, 0).unwrap();
                let (slot, report) = open(&path);
                let expect = if slot_at == 0 { [2; 50] } else { [1; 50] };
                assert_eq!(slot.value(), Some(&expect[..]));
                assert_eq!(report, SlotReport::OneDamaged);
            }
        }
    }

    #[test]
    fn a_truncated_or_foreign_file_is_lost_and_usable_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vital");
        let file = File::create(&path).unwrap();
        file.write_all_at(b"something else altogether", 0).unwrap();
        let (mut slot, report) = open(&path);
        assert_eq!((slot.value(), report), (None, SlotReport::Lost));
        slot.set(b"new").unwrap();
        assert_eq!(open(&path).0.value(), Some(&b"new"[..]));
    }

    #[test]
    fn too_large_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (mut slot, _) = open(&dir.path().join("vital"));
        let err = slot.set(&[0; 5000]).unwrap_err();
        assert_eq!(err.to_string(), "a value of 5000 bytes does not fit into 4072");
    }
}
