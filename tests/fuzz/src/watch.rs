//! Notices an input that never ends: no test can fail by itself while it waits.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

/// Far above what a loaded machine makes of an honest input.
const HANG: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(5);

type Current = Mutex<Option<(Instant, Vec<u8>)>>;

pub(crate) struct Watch {
    name: String,
    current: Arc<Current>,
    started: Instant,
}

impl Watch {
    pub(crate) fn new(name: &str) -> Self {
        let current = Arc::new(Mutex::new(None));
        let (seen, shown) = (Arc::downgrade(&current), name.to_owned());
        thread::spawn(move || look(&seen, &shown));
        Self { name: name.to_owned(), current, started: now() }
    }

    #[expect(clippy::unused_self, reason = "who has no watch has no time")]
    pub(crate) fn now(&self) -> Instant {
        now()
    }

    pub(crate) fn begin(&self, input: &[u8]) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some((now(), input.into()));
    }

    pub(crate) fn end(&self) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Tells how it went.
    #[expect(clippy::print_stdout, reason = "shown by `cargo xtask fuzz`")]
    pub(crate) fn say(&self, runs: u32) {
        println!("{}: {runs} inputs in {:.0?}", self.name, self.started.elapsed());
    }
}

#[expect(clippy::disallowed_methods, reason = "measures how long an input takes")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::print_stderr, reason = "the last words of a process that hangs")]
fn look(current: &Weak<Current>, name: &str) {
    while let Some(current) = current.upgrade() {
        let seen = current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, input)) = &*seen
            && since.elapsed() > HANG
        {
            eprintln!("{name}: hangs\ninput: {}", super::literal(input));
            std::process::abort();
        }
        drop(seen);
        drop(current);
        thread::sleep(PAUSE);
    }
}

/// The most memory that this process ever had, in KiB; zero where the kernel does not tell.
pub(crate) fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
    line.and_then(|it| it.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
