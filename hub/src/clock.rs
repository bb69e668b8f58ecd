//! The one place of the hub that reads clocks, and the floor below which its time never falls.
//!
//! Small machines lose their clock with the power. Time that stands below what this hub has seen before, or before
//! the program was built, is wrong: then time goes on from there, until the machine knows better.

use std::{
    path::Path,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use agent_disk::{DualSlot, DualSlotError};
use hub_api::Clock;
use jiff::Timestamp;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use tokio_util::sync::CancellationToken;

/// The floor is written this often while the hub runs.
const FLOOR_INTERVAL: Duration = Duration::from_hours(1);
/// Room for the floor: seconds since 1970, big endian.
const FLOOR_BYTES: usize = 8;

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
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

/// When this program was built, in seconds since 1970.
fn build_seconds() -> i64 {
    env!("OUTBYE_BUILD_SECONDS").parse().unwrap_or(0)
}

/// A clock that never falls below what was once true.
#[derive(Debug)]
pub struct FlooredClock<C> {
    clock: C,
    /// In seconds since 1970, at [`Self::since`].
    floor: i64,
    since: Duration,
    file: Mutex<DualSlot>,
}

impl<C: Clock> FlooredClock<C> {
    /// The clock with the floor that is kept in `path`, or the time of the build.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(clock: C, path: &Path) -> Result<Self, DualSlotError> {
        let (file, _) = DualSlot::open(path, FLOOR_BYTES)?;
        let kept = file.value().and_then(|it| it.try_into().ok()).map_or(0, i64::from_be_bytes);
        let floor = kept.max(build_seconds());
        let now = clock.now().as_second();
        if now < floor {
            tracing::warn!(
                machine = now,
                floor,
                file = %path.display(),
                "The machine's clock is behind what this hub has seen; its time goes on from there. \
                 If the floor is wrong, stop the hub and remove the file"
            );
        }
        Ok(Self { clock, floor, since: monotonic(), file: Mutex::new(file) })
    }

    /// Makes the present the floor of the next start.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self) -> Result<(), DualSlotError> {
        let now = self.now().as_second();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.set(&now.to_be_bytes())
    }

    /// Raises the floor now and then, and at the end.
    pub async fn keep_up(&self, shutdown: CancellationToken) {
        loop {
            if let Err(err) = self.keep() {
                tracing::warn!(error = crate::chain(&err), "Could not keep the time");
            }
            if shutdown.is_cancelled() {
                return;
            }
            let pause = tokio::time::sleep(FLOOR_INTERVAL);
            // Either way it is time.
            let _elapsed = shutdown.run_until_cancelled(pause).await;
        }
    }
}

impl<C: Clock> Clock for FlooredClock<C> {
    fn now(&self) -> Timestamp {
        let elapsed = monotonic().saturating_sub(self.since);
        let floor = Timestamp::from_second(self.floor)
            .and_then(|it| it.checked_add(elapsed))
            .unwrap_or(Timestamp::UNIX_EPOCH);
        self.clock.now().max(floor)
    }
}

/// Judges certificates by the hub's time.
#[derive(Clone)]
pub struct CertificateTime(pub Arc<dyn Clock>);

impl std::fmt::Debug for CertificateTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CertificateTime").finish()
    }
}

impl TimeProvider for CertificateTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).unwrap_or(0);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(i64);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            Timestamp::from_second(self.0).unwrap()
        }
    }

    #[test]
    fn time_goes_on_from_what_was_seen_and_from_the_build() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("time");
        let build = build_seconds();
        assert!(build > 1_700_000_000);
        let lost = FlooredClock::open(At(5), &path).unwrap();
        assert!((build..build + 60).contains(&lost.now().as_second()));

        let seen = build + 1_000_000;
        FlooredClock::open(At(seen), &path).unwrap().keep().unwrap();
        let lost = FlooredClock::open(At(5), &path).unwrap();
        assert!((seen..seen + 60).contains(&lost.now().as_second()));
        let good = FlooredClock::open(At(seen + 99_999), &path).unwrap();
        assert_eq!(good.now().as_second(), seen + 99_999);
    }
}
