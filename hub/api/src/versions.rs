//! Versions that are served but not stored: how their objects become stored ones and back.
//! One file a group; the rows say which functions belong to which version.

pub mod autoscaling;
pub mod discovery;
pub mod policy;
