//! What the disk must not fall below, kept beside it: a database that was cut short looks whole.
//!
//! The floor is a help to notice loss, never a reason not to open: where it cannot be read or written, there is none.

use std::path::Path;

use crate::DualSlot;

/// The number of batches that were there once.
#[derive(Debug)]
pub(super) struct Floor {
    slot: Option<DualSlot>,
    /// Raised when there are so many batches.
    next: u64,
}

/// The floor rises at each open, with the first batch after it, and then once in so many batches.
const STEP: u64 = 1024;

impl Floor {
    pub(super) fn open(dir: &Path) -> Self {
        let path = dir.join("floor");
        match DualSlot::open(&path, 8) {
            Ok((slot, _)) => Self { slot: Some(slot), next: 0 },
            Err(err) => {
                tracing::warn!(error = %err, cause = ?err, "Could not open the floor of a disk");
                Self { slot: None, next: 0 }
            }
        }
    }

    /// Whether there once were more batches than there are.
    pub(super) fn is_above(&self, number: u64) -> bool {
        let value = self.slot.as_ref().and_then(DualSlot::value);
        let floor = value.and_then(|it| it.try_into().ok()).map_or(0, u64::from_be_bytes);
        floor > number
    }

    /// Raises the floor if enough was written since. Whether it did.
    pub(super) fn follow(&mut self, number: u64) -> bool {
        let due = number >= self.next;
        if due {
            self.raise(number);
            self.next = number + STEP;
        }
        due
    }

    /// Raises (or after a loss lowers) the floor to what is there.
    pub(super) fn raise(&mut self, number: u64) {
        let value = number.to_be_bytes();
        let Some(slot) = &mut self.slot else { return };
        if slot.value() == Some(&value) {
            return;
        }
        if let Err(err) = slot.set(&value) {
            tracing::warn!(error = %err, cause = ?err, "Could not raise the floor of a disk");
            self.slot = None;
        }
    }
}
