//! The one place of the node program that reads clocks.

use std::{
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

/// The machine's time of day, right or wrong.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn wall() -> Timestamp {
    Timestamp::try_from(std::time::SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Time since this process first asked; never goes back.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn monotonic() -> Duration {
    static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

/// The node's time: the machine's, and never below the floor that the node wrote down, so that a
/// machine that boots in 1970 judges certificates and counts back-offs all the same.
///
/// **Invariant**: time goes on below the floor too: what was known then, and what has passed since.
/// Clones share the floor.
#[derive(Clone)]
pub struct NodeClock {
    wall: fn() -> Timestamp,
    monotonic: fn() -> Duration,
    /// The highest floor, and when it was heard of.
    floor: Arc<Mutex<(Timestamp, Duration)>>,
}

impl std::fmt::Debug for NodeClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeClock").field("floor", &self.floor).finish_non_exhaustive()
    }
}

impl NodeClock {
    /// The machine's clock above a floor, in seconds since 1970.
    pub fn new(floor_seconds: i64) -> Self {
        Self::of(wall, monotonic, floor_seconds)
    }

    fn of(wall: fn() -> Timestamp, monotonic: fn() -> Duration, floor_seconds: i64) -> Self {
        let floor = Arc::new(Mutex::new((Timestamp::MIN, Duration::ZERO)));
        let it = Self { wall, monotonic, floor };
        it.raise(floor_seconds);
        it
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        let known = *self.floor.lock().unwrap_or_else(PoisonError::into_inner);
        (self.wall)().max(least(known, (self.monotonic)()))
    }

    /// It is at least this late, in seconds since 1970. The caller has made that durable.
    pub fn raise(&self, floor_seconds: i64) {
        let Ok(floor) = Timestamp::from_second(floor_seconds) else { return };
        let passed = (self.monotonic)();
        let mut known = self.floor.lock().unwrap_or_else(PoisonError::into_inner);
        if least(*known, passed) < floor {
            *known = (floor, passed);
        }
        drop(known);
        agent_runtime::raise_time_floor(floor);
    }
}

/// The earliest that it can be.
fn least((floor, heard): (Timestamp, Duration), passed: Duration) -> Timestamp {
    floor.checked_add(passed.saturating_sub(heard)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

    use super::*;

    static WALL: AtomicI64 = AtomicI64::new(0);
    static PASSED: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn time_goes_on_above_the_floor_whatever_the_machine_says() {
        let passed = || Duration::from_secs(PASSED.load(Ordering::Relaxed));
        let wall = || Timestamp::from_second(WALL.load(Ordering::Relaxed)).unwrap();
        let clock = NodeClock::of(wall, passed, 1_000_000);
        // What the machine says, seconds since the start, a floor that is heard of, the time.
        for (wall, passed, raised, time) in [
            (5, 0, 0, 1_000_000),
            (15, 10, 0, 1_000_010),
            // A floor that is below what is known changes nothing.
            (16, 11, 1_000_003, 1_000_011),
            (20, 15, 2_000_000, 2_000_000),
            (50, 45, 0, 2_000_030),
            // The machine was told the time, then set back.
            (3_000_000, 46, 0, 3_000_000),
            (60, 55, 0, 2_000_040),
        ] {
            WALL.store(wall, Ordering::Relaxed);
            PASSED.store(passed, Ordering::Relaxed);
            clock.raise(raised);
            assert_eq!(clock.now().as_second(), time, "{wall} {passed} {raised}");
        }
    }
}
