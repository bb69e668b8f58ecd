//! How long to wait before trying again.
//!
//! Containers: the first restart is immediate, the next waits 10 s, then twice as long each time
//! up to 300 s; a container that ran for ten minutes starts over. Image pulls wait 10 s after the
//! first failure.

use jiff::{SignedDuration, Timestamp};

/// First delay.
pub const INITIAL: SignedDuration = SignedDuration::from_secs(10);
/// Longest delay.
pub const MAX: SignedDuration = SignedDuration::from_secs(300);
/// A container that lasted this long is not crashing in a loop.
pub const RESET_AFTER: SignedDuration = SignedDuration::from_secs(600);

/// The delay that follows `delay`.
pub fn next(delay: SignedDuration) -> SignedDuration {
    if delay.is_zero() { INITIAL } else { delay.saturating_mul(2).min(MAX) }
}

/// Delay before a container may run again that was started with `carried` and exited.
///
/// `carried` is what the attempt was started with: the delay that a further restart must wait.
pub fn before_restart(
    carried: SignedDuration,
    created_at: Timestamp,
    finished_at: Timestamp,
) -> SignedDuration {
    if finished_at.duration_since(created_at) > RESET_AFTER {
        SignedDuration::ZERO
    } else {
        carried
    }
}

/// When `delay` after `since` is over. A wait that began in the future is over: the clock was set back,
/// nobody knows by how much, and a wait that is counted from now at every look never ends.
pub fn until(since: Timestamp, delay: SignedDuration, now: Timestamp) -> Timestamp {
    if since > now {
        return now;
    }
    since.checked_add(delay).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_five_minutes() {
        let mut delay = SignedDuration::ZERO;
        let mut seen = Vec::new();
        for _ in 0..8 {
            delay = next(delay);
            seen.push(delay.as_secs());
        }
        assert_eq!(seen, [10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(next(SignedDuration::MAX), MAX);
    }

    #[test]
    fn ten_minutes_of_life_start_over() {
        let start = Timestamp::from_second(1_000).unwrap();
        let carried = SignedDuration::from_secs(80);
        let lived = |secs| before_restart(carried, start, start + SignedDuration::from_secs(secs));
        assert_eq!(lived(600), carried);
        assert_eq!(lived(601), SignedDuration::ZERO);
    }

    #[test]
    fn a_clock_set_back_ends_the_wait() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(until(at(100), INITIAL, at(105)), at(110));
        assert_eq!(until(at(100), INITIAL, at(100)), at(110));
        assert_eq!(until(at(1_000_000), INITIAL, at(100)), at(100));
        assert_eq!(until(at(1_000_000), INITIAL, at(130)), at(130));
    }
}
