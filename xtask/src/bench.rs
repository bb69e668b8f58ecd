//! `bench`: measures against peers in the same run, taking turns.
//!
//! A time alone means nothing on a machine that others use too: what counts is the ratio to a peer beside it.
//! `docs/benchmarks.md` holds results.

mod api;
mod apply;
mod memory;
mod start;
mod world;

use std::path::PathBuf;

use anyhow::{Context, ensure};

use crate::{
    dist::{self, Purpose},
    sh::{self, say},
    tools,
};

#[derive(clap::Args)]
pub(crate) struct BenchOptions {
    /// What to measure; everything when nothing is named
    #[arg(value_enum)]
    what: Vec<Subject>,
    /// Fewer rounds: shows that it works, proves little
    #[arg(long)]
    quick: bool,
    /// Set by the task itself, when it has the mount namespace that the peers need
    #[arg(long, hide = true)]
    in_namespace: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Subject {
    /// From the request to execve, against crun and runc
    Start,
    /// From `kubectl apply` to Ready
    Apply,
    /// Memory of keeper, agent and hub
    Memory,
    /// Writes, lists, watches, documents and memory of the API, against kube-apiserver and etcd
    Api,
}

const ALL: [Subject; 4] = [Subject::Start, Subject::Apply, Subject::Memory, Subject::Api];

/// Runs what was asked for, and prints a table for each.
pub(crate) fn run(options: &BenchOptions) -> anyhow::Result<()> {
    sh::ensure_root()?;
    if options.in_namespace {
        return start::measure(options.quick);
    }
    tools::ensure_packages(&tools::UP)?;
    tools::ensure_packages(&tools::BENCH)?;
    let build = || dist::build(Purpose::Ship);
    sh::step("Building what is shipped (a quarter of an hour the first time)", build)?;
    let subjects = if options.what.is_empty() { &ALL[..] } else { &options.what };
    for subject in subjects {
        say(format!("\n## {subject:?}, with a load average of {}\n", load_average()?));
        match subject {
            Subject::Start => start::run(options.quick)?,
            Subject::Apply => apply::run(options.quick)?,
            Subject::Memory => memory::run(options.quick)?,
            Subject::Api => api::run(options.quick)?,
        }
    }
    Ok(())
}

/// Where the benchmarks keep their files.
fn dir() -> PathBuf {
    sh::root().join("target/bench")
}

/// A program that measures from inside, built like the product's own and beside it.
fn example(package: &str, name: &str) -> anyhow::Result<PathBuf> {
    let path = dist::dir(Purpose::Ship).join("examples").join(name);
    if std::env::var_os("OUTBYE_BIN_DIR").is_none() {
        let target = ["--package", package, "--example", name];
        sh::step(&format!("Building {name}"), || dist::cargo_static(Purpose::Ship, &target))?;
    }
    ensure!(path.exists(), "there is no {}", path.display());
    Ok(path)
}

/// What else this machine does: everything here is disturbed by it.
fn load_average() -> anyhow::Result<String> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().context("/proc/loadavg is empty")?.to_owned())
}

/// Numbers of one kind, in the order they were taken.
#[derive(Default)]
struct Samples(Vec<f64>);

impl Samples {
    fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The value that `percent` of a hundred are not above. Zero without samples.
    fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let place = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(place).copied().unwrap_or_default()
    }

    fn median(&self) -> f64 {
        self.percentile(50)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_samples() {
        let samples = Samples(vec![5.0, 1.0, 4.0, 2.0, 3.0]);
        assert!((samples.median() - 3.0).abs() < f64::EPSILON);
        assert!((samples.percentile(90) - 5.0).abs() < f64::EPSILON);
        assert!((samples.percentile(100) - 5.0).abs() < f64::EPSILON);
        assert!(Samples::default().median().abs() < f64::EPSILON);
    }
}
