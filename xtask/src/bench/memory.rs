//! Memory of keeper, agent and hub: the proportional share of what they map, as the kernel counts it.

use std::{fs, time::Duration};

use anyhow::Context;

use super::world::{self, World};
use crate::sh::{self, say};

/// Allocators and caches come to rest.
const SETTLE: Duration = Duration::from_secs(5);

pub(super) fn run(quick: bool) -> anyhow::Result<()> {
    let counts: &[usize] = if quick { &[0, 10] } else { &[0, 10, 100] };
    world::with("memory", true, |world| measure(world, counts))
}

fn measure(world: &World, counts: &[usize]) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    let mut running = 0;
    for count in counts {
        let pods: Vec<_> = (running..*count).map(|n| world::pod(&format!("memory-{n}"))).collect();
        let begin = sh::now();
        if !pods.is_empty() {
            world.apply(&pods)?;
        }
        world.wait_ready(*count)?;
        let took = begin.elapsed().as_secs_f64();
        if *count > 0 {
            say(format!("{} pods from `kubectl apply` to all Ready: {took:.1} s", count - running));
        }
        running = *count;
        std::thread::sleep(SETTLE);
        rows.push((*count, sizes(world)?));
    }
    say("\nPSS in KiB, and in parentheses what of it is no file's: heap and stacks\n");
    say("| pods | keeper | agent | keeper and agent | hub |\n|---|---|---|---|---|");
    for (count, [keeper, agent, hub]) in rows {
        let node =
            Size { all: keeper.all + agent.all, anonymous: keeper.anonymous + agent.anonymous };
        let cells = [keeper, agent, node, hub].map(|it| format!("{} ({})", it.all, it.anonymous));
        say(format!("| {count} | {} |", cells.join(" | ")));
    }
    Ok(())
}

/// Proportional set size, in KiB.
#[derive(Clone, Copy)]
struct Size {
    all: u64,
    anonymous: u64,
}

fn sizes(world: &World) -> anyhow::Result<[Size; 3]> {
    let cluster = &world.cluster;
    let keeper = keeper(&cluster.run_dir().to_string_lossy()).context("there is no keeper")?;
    let agent = cluster.pid("agent").context("the agent ended")?;
    let hub = cluster.pid("hub").context("the hub ended")?;
    Ok([pss(keeper)?, pss(agent)?, pss(hub)?])
}

/// The keeper of a run directory.
fn keeper(run_dir: &str) -> Option<u32> {
    fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|entry| {
        let pid = entry.file_name().to_string_lossy().parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let mut arguments = line.split(|it| *it == 0).map(String::from_utf8_lossy).skip(1);
        let is_keeper =
            arguments.next()? == "keeper" && arguments.any(|it| it.starts_with(run_dir));
        is_keeper.then_some(pid)
    })
}

/// Proportional set size of a process, in KiB.
#[expect(clippy::cast_precision_loss, reason = "no process takes so much")]
pub(super) fn pss_kib(pid: u32) -> anyhow::Result<f64> {
    Ok(pss(pid)?.all as f64)
}

fn pss(pid: u32) -> anyhow::Result<Size> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| -> anyhow::Result<u64> {
        let line = text.lines().find_map(|it| it.strip_prefix(name));
        let value = line.and_then(|it| it.split_whitespace().next());
        Ok(value.with_context(|| format!("no {name} for process {pid}"))?.parse()?)
    };
    Ok(Size { all: field("Pss:")?, anonymous: field("Pss_Anon:")? })
}
