//! The one place of this crate that reads a clock.
//!
//! The agent knows a time below which it cannot be; the keeper hears of it with every question. On a
//! machine that booted in 1970 containers begin and end after that time all the same.

use std::sync::Mutex;
use std::time::Instant;

use jiff::Timestamp;

/// The floor, and when it was heard of.
static FLOOR: Mutex<Option<(Timestamp, Instant)>> = Mutex::new(None);

/// The time of day, never below the floor.
#[expect(clippy::disallowed_methods, reason = "the one place that reads a clock")]
pub(crate) fn now() -> Timestamp {
    let wall = Timestamp::try_from(std::time::SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH);
    least().map_or(wall, |it| it.max(wall))
}

/// For measuring time that passes.
#[expect(clippy::disallowed_methods, reason = "the one place that reads a clock")]
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

/// It is at least this late.
pub(crate) fn raise_floor(floor: Timestamp) {
    if least().is_none_or(|it| it < floor)
        && let Ok(mut known) = FLOOR.lock()
    {
        *known = Some((floor, monotonic()));
    }
}

/// The earliest that it can be, as far as anybody said.
pub(crate) fn least() -> Option<Timestamp> {
    let (floor, heard) = (*FLOOR.lock().ok()?)?;
    Some(floor.checked_add(heard.elapsed()).unwrap_or(Timestamp::MAX))
}
