//! Images on a node: pull from a registry, verify, unpack into overlay snapshots, collect.
//!
//! Promises: nothing is used before its digest and its `diff_id` were verified; a snapshot is visible
//! only when it is complete and synced; whatever a crash left half done is removed at the next open.
//! Layers are hostile input: every path is resolved below a directory descriptor, and entries, sizes
//! and compression ratios are bounded.
//!
//! Must not know what a pod is, read a clock, or run a subprocess. The program installs the rustls
//! crypto provider before the first pull.

mod auth;
mod config;
mod digest;
mod error;
mod image;
mod platform;
mod reference;
mod store;

mod blob;
mod challenge;
mod collect;
mod keyed_lock;
mod layer;
mod layout;
mod manifest;
mod open;
mod pull;
mod record;
mod registry;
mod snapshot;
mod state;
mod unpackers;

#[cfg(test)]
mod fuzz;

pub use auth::Auth;
pub use collect::GcReport;
pub use config::{ImageConfig, Limits};
pub use digest::{ChainId, DiffId, Digest, DigestParseError};
pub use error::{GcError, MalformedImage, OpenError, PullError};
pub use image::Image;
pub use open::OpenReport;
pub use platform::Platform;
pub use reference::{ImageRef, ReferenceParseError};
pub use store::ImageStore;
