//! The hub's API against kube-apiserver and etcd, in the same run and in turns.
//!
//! All three run at the same time, on the same disk and the same cores; whoever is not asked does next to nothing. Their
//! clients are one program, `load` of `hub-apiserver`, on these cores as well. kube-apiserver is built from its Go module
//! where that can be had; etcd, Debian's, stands behind it and, another one, by itself. Who was there is told.

mod peers;

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::Value;

use self::peers::{Apiserver, Etcd};
use super::{
    Samples, dir, example, memory,
    world::{self, World},
};
use crate::{
    sh::{self, say},
    tools,
};

const CLIENTS: &str = "64";
/// Allocators and caches come to rest.
const SETTLE: Duration = Duration::from_secs(5);

/// How much is measured.
struct Extent {
    rounds: usize,
    seconds: &'static str,
    objects: &'static str,
    watches: &'static str,
    connections: &'static str,
    reads: &'static str,
}

const FULL: Extent = Extent {
    rounds: 5,
    seconds: "8",
    objects: "10000",
    watches: "1000",
    connections: "200",
    reads: "20",
};
const QUICK: Extent = Extent {
    rounds: 1,
    seconds: "2",
    objects: "500",
    watches: "100",
    connections: "20",
    reads: "3",
};

pub(super) fn run(quick: bool) -> anyhow::Result<()> {
    let load = example("hub-apiserver", "load")?;
    let extent = if quick { &QUICK } else { &FULL };
    let apiserver = match tools::apiserver() {
        Ok(program) => Some(program),
        Err(err) => {
            say(format!("There is no kube-apiserver to compare with: {err:#}\n"));
            None
        }
    };
    world::with("api", false, |world| {
        let scratch = dir().join("api-peers");
        let peers = Peers::start(world, &load, apiserver.as_deref(), &scratch)?;
        let measured = peers.measure(extent);
        drop(peers);
        std::fs::remove_dir_all(&scratch)?;
        measured
    })
}

/// One that is measured.
struct Peer {
    name: String,
    /// As `load` takes it.
    kind: &'static str,
    place: String,
    /// Its processes, the first by itself.
    pids: Vec<u32>,
}

struct Peers {
    load: PathBuf,
    all: Vec<Peer>,
    /// They end with this.
    _running: (Etcd, Option<(Etcd, Apiserver)>),
}

impl Peers {
    fn start(
        world: &World,
        load: &Path,
        apiserver: Option<&Path>,
        scratch: &Path,
    ) -> anyhow::Result<Self> {
        if scratch.exists() {
            std::fs::remove_dir_all(scratch)?;
        }
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path is not UTF-8");
        let mut all = vec![Peer {
            name: "hub".to_owned(),
            kind: "hub",
            place: text(&world.cluster.kubeconfig())?,
            pids: vec![world.cluster.pid("hub").context("the hub ended")?],
        }];
        let mut behind = None;
        if let Some(program) = apiserver {
            let etcd = Etcd::start(&scratch.join("etcd-behind"), 7481)?;
            let server = Apiserver::start(program, load, &scratch.join("apiserver"), &etcd)?;
            all.push(Peer {
                name: format!("kube-apiserver {}", server.version),
                kind: "hub",
                place: text(&server.kubeconfig)?,
                pids: vec![server.pid(), etcd.pid()],
            });
            behind = Some((etcd, server));
        }
        let etcd = Etcd::start(&scratch.join("etcd"), 7479)?;
        all.push(Peer {
            name: format!("etcd {}", peers::etcd_version()?),
            kind: "etcd",
            place: etcd.address.clone(),
            pids: vec![etcd.pid()],
        });
        let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
        say(format!("Measured in turns: {}\n", names.join(", ")));
        Ok(Self { load: load.to_owned(), all, _running: (etcd, behind) })
    }

    fn measure(&self, extent: &Extent) -> anyhow::Result<()> {
        self.idle_memory(extent)?;
        self.documents(extent)?;
        self.objects(extent)?;
        self.fanout(extent)?;
        self.writes(extent)
    }

    fn load(&self, peer: &Peer, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut command = sh::command(&self.load);
        let text = sh::read(command.args([peer.kind, &peer.place]).args(arguments))?;
        serde_json::from_str(&text).with_context(|| text)
    }

    /// What each takes with nothing in it, and for watches on which nothing happens.
    fn idle_memory(&self, extent: &Extent) -> anyhow::Result<()> {
        std::thread::sleep(SETTLE);
        let shared = format!("{} idle watches, 100 on a connection, kB each", extent.watches);
        let own = format!("{} idle watches, each with a connection, kB each", extent.connections);
        say(format!(
            "\n### Memory\n\n| what | idle, MB | with its store | {shared} | {own} |\n|---|---|---|---|---|"
        ));
        for peer in &self.all {
            let before = peer.pss(1)?;
            let shared = self.per_watch(peer, extent.watches, "100")?;
            let own = self.per_watch(peer, extent.connections, "1")?;
            let (alone, all) = (megabytes(before), megabytes(peer.pss(peer.pids.len())?));
            say(format!("| {} | {alone:.1} | {all:.1} | {shared:.1} | {own:.1} |", peer.name));
        }
        Ok(())
    }

    /// By how much a peer grows for each watch that does nothing, in kB.
    fn per_watch(&self, peer: &Peer, watches: &str, each: &str) -> anyhow::Result<f64> {
        let before = peer.pss(1)?;
        let mut command = sh::command(&self.load);
        command.args([peer.kind, &peer.place, "idle", watches, each]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| sh::show(&command))?;
        let mut line = String::new();
        let output = child.stdout.take().context("the load has no output")?;
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line.trim() == "ready", "{}: {line}", sh::show(&command));
        std::thread::sleep(SETTLE);
        let after = peer.pss(1)?;
        // It ends with its input.
        drop(child.stdin.take());
        ensure!(child.wait()?.success(), "{} failed", sh::show(&command));
        std::thread::sleep(SETTLE);
        Ok((after - before) * 1.024 / watches.parse::<f64>()?)
    }

    fn documents(&self, extent: &Extent) -> anyhow::Result<()> {
        say(
            "\n### Discovery and OpenAPI\n\n| path | what | first ms | p50 ms | p99 ms | bytes |\n|---|---|---|---|---|---|",
        );
        let mut rows = Vec::new();
        for peer in self.all.iter().filter(|it| it.kind != "etcd") {
            let result = self.load(peer, &["documents", extent.reads])?;
            for (path, figures) in result.as_object().context("no documents")? {
                let figure = |name: &str| figures[name].as_f64().unwrap_or_default();
                let (first, p50, p99) = (figure("first_ms"), figure("p50_ms"), figure("p99_ms"));
                let bytes = &figures["bytes"];
                rows.push((
                    path.clone(),
                    format!("| {} | {first:.1} | {p50:.1} | {p99:.1} | {bytes} |", peer.name),
                ));
            }
        }
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows.iter().for_each(|(path, row)| say(format!("| `{path}` {row}")));
        Ok(())
    }

    /// Many objects: how fast they come in, what they take, how long a list takes.
    fn objects(&self, extent: &Extent) -> anyhow::Result<()> {
        let count = extent.objects;
        say(format!(
            "\n### {count} pods\n\n| what | filled, pods/s | memory, MB | with its store | list ms | in pages of 500 | as tables of 500 |\n|---|---|---|---|---|---|---|"
        ));
        for peer in &self.all {
            let filled = self.load(peer, &["fill", CLIENTS, count])?;
            std::thread::sleep(SETTLE);
            let (alone, all) = (megabytes(peer.pss(1)?), megabytes(peer.pss(peer.pids.len())?));
            let listed = self.load(peer, &["list", extent.reads])?;
            let time = |what: &str| {
                listed[what]["p50_ms"]
                    .as_f64()
                    .map_or_else(|| "-".to_owned(), |it| format!("{it:.1}"))
            };
            let rate = filled["per_second"].as_f64().unwrap_or_default();
            let times = [time("whole"), time("pages"), time("tables")].join(" | ");
            say(format!("| {} | {rate:.0} | {alone:.1} | {all:.1} | {times} |", peer.name));
        }
        Ok(())
    }

    fn fanout(&self, extent: &Extent) -> anyhow::Result<()> {
        say(format!(
            "\n### {} watches of up to 1000 changes a second, for {} s\n\n| what | form | changes/s | deliveries/s | bytes each | lag ms | missing |\n|---|---|---|---|---|---|---|",
            extent.watches, extent.seconds
        ));
        for form in ["Object", "Table", "PartialObjectMetadata"] {
            for peer in self.all.iter().filter(|it| form == "Object" || it.kind != "etcd") {
                let result =
                    self.load(peer, &["fanout", extent.watches, "1000", extent.seconds, form])?;
                let figure = |name: &str| result[name].as_f64().unwrap_or_default();
                say(format!(
                    "| {} | {form} | {:.0} | {:.0} | {} | {:.0} | {} |",
                    peer.name,
                    figure("writes_per_second"),
                    figure("deliveries_per_second"),
                    result["bytes_each"],
                    figure("lag_ms"),
                    result["missing"],
                ));
            }
        }
        Ok(())
    }

    fn writes(&self, extent: &Extent) -> anyhow::Result<()> {
        let mut results: Vec<[Results; 2]> = self.all.iter().map(|_| Default::default()).collect();
        for _ in 0..extent.rounds {
            for (peer, [creates, updates]) in self.all.iter().zip(&mut results) {
                let result = self.load(peer, &["writes", CLIENTS, extent.seconds])?;
                creates.add(&result["creates"])?;
                updates.add(&result["updates"])?;
            }
        }
        let (rounds, seconds) = (extent.rounds, extent.seconds);
        say(format!(
            "\n### Durable writes\n\n{rounds} rounds of {seconds} s, in turns, {CLIENTS} clients, pods of 2 KiB; medians\n"
        ));
        say(
            "| what | creates/s | p50 ms | p99 ms | status updates/s | p50 ms | p99 ms | creates / etcd's |\n|---|---|---|---|---|---|---|---|",
        );
        let etcd = results.last().map_or(0.0, |[creates, _]| creates.rate.median());
        for (peer, [creates, updates]) in self.all.iter().zip(&results) {
            let ratio = creates.rate.median() / etcd;
            say(format!(
                "| {} | {} | {} | {ratio:.2} |",
                peer.name,
                creates.show(),
                updates.show()
            ));
        }
        Ok(())
    }
}

impl Peer {
    /// What its first processes take, in KiB.
    fn pss(&self, processes: usize) -> anyhow::Result<f64> {
        self.pids.iter().take(processes).map(|pid| memory::pss_kib(*pid)).sum()
    }
}

fn megabytes(kib: f64) -> f64 {
    kib * 1.024 / 1000.0
}

#[derive(Default)]
struct Results {
    rate: Samples,
    p50: Samples,
    p99: Samples,
}

impl Results {
    fn add(&mut self, result: &Value) -> anyhow::Result<()> {
        let field =
            |name: &str| result[name].as_f64().with_context(|| format!("no {name} in {result}"));
        self.rate.push(field("per_second")?);
        self.p50.push(field("p50_ms")?);
        self.p99.push(field("p99_ms")?);
        Ok(())
    }

    fn show(&self) -> String {
        let (rate, p50, p99) = (self.rate.median(), self.p50.median(), self.p99.median());
        format!("{rate:.0} | {p50:.1} | {p99:.1}")
    }
}
