//! The one way to ask for the time. Programs implement it in their own `clock.rs`; tests set it.

use jiff::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The time of day, as well as this machine knows it.
    fn now(&self) -> Timestamp;
}
