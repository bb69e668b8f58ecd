//! What the machine and the containers use, looked at when somebody asks.
//!
//! CPU is a rate, so a look is compared with an earlier one, of which two are held in memory. When
//! there is none that fits, the first look is repeated a moment later. Nobody asks, nothing is
//! read: an idle node pays nothing. Nothing is ever written.

mod machine;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use agent_core::ids::{ContainerId, PodUid};
use agent_runtime::{Phase, Stats};
use agent_sync::stats::{ContainerUsage, PodUsage, Report, Usage};
use jiff::Timestamp;

use crate::{clock, node::Node, pod_worker::rt};

pub(crate) use machine::MachineStats;

/// A look that is younger is not repeated: askers share it.
const FRESH: Duration = Duration::from_secs(1);
/// A look is worth comparing with once it is this old: shorter windows are noise.
const MIN_WINDOW: Duration = Duration::from_secs(10);
/// An older look says nothing about now.
const MAX_WINDOW: Duration = Duration::from_secs(120);
/// The window of those who ask first.
const FIRST_WINDOW: Duration = Duration::from_secs(1);

/// Takes looks, one at a time.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    looks: tokio::sync::Mutex<Looks>,
    shown: std::sync::Mutex<Option<Arc<Measured>>>,
}

#[derive(Debug, Default)]
struct Looks {
    base: Option<Look>,
    newest: Option<Look>,
}

/// Counters of one moment.
#[derive(Clone, Debug, Default)]
struct Look {
    at: Duration,
    machine: Option<MachineStats>,
    containers: BTreeMap<ContainerId, Counted>,
}

/// Counters of one container.
#[derive(Clone, Debug)]
struct Counted {
    at: Duration,
    started_at: Timestamp,
    time: Timestamp,
    stats: Stats,
}

/// What was found out.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    at: Duration,
    /// When the newer look was taken.
    pub(crate) time: Timestamp,
    pub(crate) machine: Option<(MachineStats, Rate)>,
    /// By pod, in the order of their names.
    pub(crate) pods: BTreeMap<PodUid, Vec<MeasuredContainer>>,
}

/// A running container.
#[derive(Clone, Debug)]
pub(crate) struct MeasuredContainer {
    pub(crate) name: String,
    pub(crate) started_at: Timestamp,
    pub(crate) time: Timestamp,
    pub(crate) stats: Stats,
    pub(crate) rate: Rate,
}

/// CPU over a window.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Rate {
    /// Billionths of a core.
    pub(crate) nanocores: u64,
    pub(crate) window: Duration,
}

impl Rate {
    /// Between two counts of nanoseconds. A counter that went back began anew.
    fn between(before: u64, after: u64, window: Duration) -> Self {
        let used = u128::from(after.checked_sub(before).unwrap_or(after));
        let window_ns = window.as_nanos().max(1);
        let nanocores = u64::try_from(used * 1_000_000_000 / window_ns).unwrap_or(u64::MAX);
        Self { nanocores, window }
    }
}

impl Sampler {
    /// What is used now. Takes [`FIRST_WINDOW`] longer if nobody asked for a while.
    pub(crate) async fn measure(&self, node: &Node) -> Arc<Measured> {
        let mut looks = self.looks.lock().await;
        let now = clock::monotonic();
        if let Some(shown) = self.shown().filter(|it| now.saturating_sub(it.at) < FRESH) {
            return shown;
        }
        looks.prepare(now);
        let base = match looks.base.take() {
            Some(base) => base,
            None => look(node).await,
        };
        // Kept at once: whoever comes after an asker that went away need not begin anew.
        let base = looks.base.insert(base);
        let age = clock::monotonic().saturating_sub(base.at);
        tokio::time::sleep(FIRST_WINDOW.saturating_sub(age)).await;
        let newest = look(node).await;
        let measured = Arc::new(compare(base, &newest, node.clock.now()));
        looks.newest = Some(newest);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(measured.clone());
        measured
    }

    fn shown(&self) -> Option<Arc<Measured>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Looks {
    /// Chooses what the next look is compared with: the newest that is old enough, and none that is
    /// too old.
    fn prepare(&mut self, now: Duration) {
        let age = |it: &Look| now.saturating_sub(it.at);
        if self.newest.as_ref().is_some_and(|it| age(it) >= MIN_WINDOW) {
            self.base = self.newest.take();
        }
        if self.base.as_ref().is_some_and(|it| age(it) > MAX_WINDOW) {
            self.base = None;
        }
    }
}

async fn look(node: &Node) -> Look {
    let at = clock::monotonic();
    // The files of the kernel do not wait for a disk.
    let machine = machine::read();
    let mut containers = BTreeMap::new();
    for uid in node.view.uids() {
        for (id, phase) in node.view.pod(&uid).containers {
            let Phase::Running { started_at, .. } = phase else { continue };
            // One that has just ended uses nothing.
            let Ok(stats) = node.runtime.stats(&rt(&id)).await else { continue };
            let (at, time) = (clock::monotonic(), node.clock.now());
            containers.insert(id, Counted { at, started_at, time, stats });
        }
    }
    Look { at, machine, containers }
}

fn compare(base: &Look, newest: &Look, time: Timestamp) -> Measured {
    let machine = newest.machine.clone().map(|after| {
        let before = base.machine.as_ref().map_or(after.cpu_usage_ns, |it| it.cpu_usage_ns);
        let window = newest.at.saturating_sub(base.at);
        let rate = Rate::between(before, after.cpu_usage_ns, window);
        (after, rate)
    });
    let mut pods: BTreeMap<PodUid, Vec<MeasuredContainer>> = BTreeMap::new();
    for (id, after) in &newest.containers {
        let rate = match base.containers.get(id) {
            Some(before) => {
                let window = after.at.saturating_sub(before.at);
                Rate::between(before.stats.cpu_usage_ns, after.stats.cpu_usage_ns, window)
            }
            // It was started in between: its counter began at zero then.
            None => {
                let life = after.time.duration_since(after.started_at);
                let window = Duration::try_from(life).unwrap_or_default();
                let longest = newest.at.saturating_sub(base.at);
                let window = window.clamp(Duration::from_millis(1), longest.max(FIRST_WINDOW));
                Rate::between(0, after.stats.cpu_usage_ns, window)
            }
        };
        pods.entry(id.pod).or_default().push(MeasuredContainer {
            name: id.name.to_string(),
            started_at: after.started_at,
            time: after.time,
            stats: after.stats.clone(),
            rate,
        });
    }
    Measured { at: newest.at, time, machine, pods }
}

impl Measured {
    /// As the hub is told.
    pub(crate) fn to_report(&self) -> Report {
        let usage = |rate: Rate, memory_working_set: u64| Usage {
            cpu_nanocores: rate.nanocores,
            memory_working_set,
            window_ms: u64::try_from(rate.window.as_millis()).unwrap_or(u64::MAX),
        };
        let container = |it: &MeasuredContainer| ContainerUsage {
            name: it.name.clone(),
            usage: usage(it.rate, it.stats.memory_working_set),
        };
        let pods = self.pods.iter().map(|(uid, containers)| PodUsage {
            uid: uid.to_string(),
            containers: containers.iter().map(container).collect(),
        });
        let node = self.machine.as_ref().map(|(it, rate)| usage(*rate, it.memory_working_set));
        Report { node, pods: pods.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64, containers: &[(&str, u64)]) -> Look {
        let time = Timestamp::from_second(i64::try_from(1_000_000 + seconds).unwrap()).unwrap();
        let started_at = Timestamp::from_second(1_000_055).unwrap();
        let pod = "5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e";
        let counted = |cpu_usage_ns| Counted {
            at: Duration::from_secs(seconds),
            started_at,
            time,
            stats: Stats { cpu_usage_ns, memory_working_set: 7, ..Stats::default() },
        };
        let containers = containers
            .iter()
            .map(|(name, cpu)| (format!("{pod}.{name}.0").parse().unwrap(), counted(*cpu)));
        Look {
            at: Duration::from_secs(seconds),
            machine: Some(MachineStats { cpu_usage_ns: seconds * SECOND, ..Default::default() }),
            containers: containers.collect(),
        }
    }

    #[test]
    fn cpu_is_a_rate_between_two_looks() {
        let base = at(40, &[("a", 5 * SECOND), ("back", 9 * SECOND), ("gone", 1)]);
        let newest = at(60, &[("a", 15 * SECOND), ("back", 2 * SECOND), ("fresh", SECOND)]);
        let measured = compare(&base, &newest, Timestamp::UNIX_EPOCH);
        let report = measured.to_report();
        let node = Usage { cpu_nanocores: SECOND, memory_working_set: 0, window_ms: 20_000 };
        assert_eq!(report.node, Some(node));
        let seen: Vec<(&str, u64, u64)> = report.pods[0]
            .containers
            .iter()
            .map(|it| (it.name.as_str(), it.usage.cpu_nanocores, it.usage.window_ms))
            .collect();
        // Half a core; a counter that began anew; one that was started five seconds ago.
        let expected =
            [("a", SECOND / 2, 20_000), ("back", SECOND / 10, 20_000), ("fresh", SECOND / 5, 5000)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_look_is_compared_with_one_that_is_old_enough_but_not_too_old() {
        let age = |it: &Option<Look>| it.as_ref().map(|it| it.at.as_secs());
        for (base, newest, now, expected) in [
            (None, None, 500, None),
            (Some(100), None, 105, Some(100)),
            (Some(100), Some(105), 110, Some(100)),
            (Some(100), Some(105), 115, Some(105)),
            (Some(100), Some(105), 300, None),
            (Some(100), Some(215), 221, None),
        ] {
            let look = |it: Option<u64>| it.map(|it| at(it, &[]));
            let mut looks = Looks { base: look(base), newest: look(newest) };
            looks.prepare(Duration::from_secs(now));
            assert_eq!(age(&looks.base), expected, "{base:?} {newest:?} {now}");
        }
    }
}
