//! Counters of the server, in Prometheus' text form.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What is counted. Labels come from resource rows, never from what clients write.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<Labels, u64>>,
    /// Watches and streams that are open.
    pub(crate) long_running: AtomicI64,
    /// Other requests under way.
    pub(crate) in_flight: AtomicI64,
}

/// Labels of one counter of requests.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Labels {
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: &'static str,
    pub(crate) code: u16,
}

/// Counts something for as long as it lives.
pub(crate) struct Gauge<'a>(&'a AtomicI64);

impl<'a> Gauge<'a> {
    pub(crate) fn raise(gauge: &'a AtomicI64) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    pub(crate) fn count(&self, labels: Labels) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry(labels).or_default() += 1;
    }

    /// The page that Prometheus reads.
    pub(crate) fn render(&self, revision: u64) -> String {
        let mut out = String::new();
        let _ = self.write(&mut out, revision); // a String takes everything
        out
    }

    fn write(&self, out: &mut String, revision: u64) -> std::fmt::Result {
        writeln!(out, "# HELP apiserver_request_total Requests by verb, resource and code.")?;
        writeln!(out, "# TYPE apiserver_request_total counter")?;
        for (it, n) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            writeln!(
                out,
                "apiserver_request_total{{verb=\"{}\",group=\"{}\",resource=\"{}\",subresource=\"{}\",code=\"{}\"}} {n}",
                it.verb, it.group, it.resource, it.subresource, it.code
            )?;
        }
        let gauges = [
            (
                "apiserver_longrunning_requests",
                "Open watches and streams.",
                self.long_running.load(Ordering::Relaxed),
            ),
            (
                "apiserver_current_inflight_requests",
                "Other requests under way.",
                self.in_flight.load(Ordering::Relaxed),
            ),
            (
                "outbye_hub_storage_revision",
                "Newest visible revision.",
                i64::try_from(revision).unwrap_or(i64::MAX),
            ),
        ];
        for (name, help, value) in gauges {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}")?;
        }
        Ok(())
    }
}
