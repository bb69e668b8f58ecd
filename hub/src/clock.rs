//! The one place of the hub that reads clocks.

use std::{sync::LazyLock, time::Duration};

use jiff::Timestamp;

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl hub_api::Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::try_from(std::time::SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Time since this process first asked; never goes back.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn monotonic() -> Duration {
    static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    START.elapsed()
}
