//! The durable base of node and hub: a key-value disk, a file that is replaced whole, and a small file that survives
//! torn writes.
//!
//! **Invariant**: what returned `Ok` survives a power cut. After a failed sync nothing returns `Ok` any more, for the
//! kernel may have dropped the dirty pages and the next sync would lie.
//!
//! Opening never panics and never refuses because of corrupted content: it heals, or moves the broken thing aside,
//! and reports which.

mod disk;
mod dual_slot;
mod replace;

pub use crate::{
    disk::{Batch, CommitError, Disk, Healing, OpenError, OpenReport, Options, ReadError},
    dual_slot::{DualSlot, DualSlotError, SlotReport},
    replace::{ReplaceError, replace, sync_dir},
};
