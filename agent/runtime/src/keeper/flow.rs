//! How fast a container may log. One that writes without end is held up at its own pipe, as by a slow
//! disk: nothing of its log is lost, the keeper has time for the others, and the disk does not wear out.

use std::time::{Duration, Instant};

/// Seconds' worth that may come at once: an ordinary program that prints a lot is never held up.
const BURST_SECONDS: u64 = 4;
/// Once held up, a container stays so until this part of a second's worth is free: the keeper wakes up
/// for something.
const RESUME_PARTS: u64 = 8;
/// Every look at a container's output counts as so many bytes at least. One that writes byte by byte, without end,
/// must not keep the keeper busy: while it is held up its bytes gather, and come together.
const LEAST: u64 = 1024;

/// A bucket of bytes in the log file.
#[derive(Debug)]
pub(super) struct Flow {
    /// Bytes a second.
    rate: u64,
    /// What may still come. Below zero when more came at once than there was room for.
    room: i64,
    /// When that was so.
    at: Instant,
}

impl Flow {
    pub(super) fn new(rate: u64, now: Instant) -> Self {
        let rate = rate.clamp(1, 1 << 40);
        Self { rate, room: signed(rate * BURST_SECONDS), at: now }
    }

    /// Counts what was written. Returns how long nothing more may be read, if the bucket is empty.
    pub(super) fn take(&mut self, bytes: u64, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.at).min(Duration::from_secs(BURST_SECONDS));
        let refilled = u128::from(self.rate) * passed.as_nanos() / 1_000_000_000;
        let full = signed(self.rate * BURST_SECONDS);
        let room = self.room.saturating_add(i64::try_from(refilled).unwrap_or(full)).min(full);
        self.room = room.saturating_sub(signed(bytes.max(LEAST)));
        self.at = now;
        if self.room > 0 {
            return None;
        }
        let wanted = signed((self.rate / RESUME_PARTS).max(1)).saturating_sub(self.room);
        let nanos = u128::from(wanted.unsigned_abs()) * 1_000_000_000 / u128::from(self.rate);
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_held_to_its_rate_and_a_burst_is_not_held_at_all() {
        let start = crate::clock::monotonic();
        for (bytes, counted) in [(5000, 5000), (1, 1024)] {
            let mut flow = Flow::new(10_000, start);
            let (mut now, mut total) = (start, 0);
            assert_eq!(flow.take(39_999, now), None);
            for _ in 0..100 {
                total += counted;
                if let Some(pause) = flow.take(bytes, now) {
                    now += pause;
                }
            }
            let seconds = now.duration_since(start).as_secs_f64();
            assert!((f64::from(total) / seconds - 10_000.0).abs() < 500.0, "{bytes} {seconds}");
        }
    }

    #[test]
    fn a_quiet_time_fills_the_bucket_and_no_more() {
        let start = crate::clock::monotonic();
        let mut flow = Flow::new(10_240, start);
        assert!(flow.take(40_960, start).is_some());
        let later = start + Duration::from_secs(3600);
        assert_eq!(flow.take(39_936, later), None);
        assert_eq!(flow.take(1, later), Some(Duration::from_millis(125)));
    }
}
