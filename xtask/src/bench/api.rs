//! Durable creates in a second: the hub's API against etcd alone, in turns.
//!
//! Both get 2 KiB from 64 clients, each with a connection of its own, and both sync to the same disk before they
//! answer. The hub's clients pay for TLS, authentication, validation and JSON; etcd's speak gRPC without TLS.

use std::{
    fs::{self, File},
    net::TcpStream,
    path::Path,
    process::Child,
    time::Duration,
};

use anyhow::Context;
use serde_json::Value;

use super::{
    Samples, dir, example,
    world::{self, World},
};
use crate::sh::{self, say};

const CLIENTS: &str = "64";
const ETCD: &str = "127.0.0.1:7479";
const ETCD_PEERS: &str = "127.0.0.1:7480";

pub(super) fn run(quick: bool) -> anyhow::Result<()> {
    let load = example("hub-apiserver", "load")?;
    let (rounds, seconds) = if quick { (1, "2") } else { (5, "8") };
    world::with("api", false, |world| {
        let data = dir().join("etcd");
        let etcd = Etcd::start(&data)?;
        let measured = measure(world, &load, rounds, seconds);
        drop(etcd);
        fs::remove_dir_all(&data)?;
        measured
    })
}

fn measure(world: &World, load: &Path, rounds: usize, seconds: &str) -> anyhow::Result<()> {
    let kubeconfig = world.cluster.kubeconfig();
    let kubeconfig = kubeconfig.to_str().context("the path is not UTF-8")?;
    let mut hub = Results::default();
    let mut etcd = Results::default();
    for _ in 0..rounds {
        hub.add(load, ["hub", kubeconfig, CLIENTS, seconds])?;
        etcd.add(load, ["etcd", ETCD, CLIENTS, seconds])?;
    }
    say(format!("{rounds} rounds of {seconds} s, in turns, {CLIENTS} clients, 2 KiB; medians\n"));
    say("| what | creates/s | p50 ms | p99 ms | its rate / etcd's |\n|---|---|---|---|---|");
    let peer = etcd.rate.median();
    for (name, results) in [("hub, HTTPS", &hub), ("etcd, gRPC without TLS", &etcd)] {
        let rate = results.rate.median();
        let (p50, p99) = (results.p50.median(), results.p99.median());
        say(format!("| {name} | {rate:.0} | {p50:.1} | {p99:.1} | {:.2} |", rate / peer));
    }
    Ok(())
}

#[derive(Default)]
struct Results {
    rate: Samples,
    p50: Samples,
    p99: Samples,
}

impl Results {
    fn add(&mut self, load: &Path, arguments: [&str; 4]) -> anyhow::Result<()> {
        let text = sh::read(sh::command(load).args(arguments))?;
        let result: Value = serde_json::from_str(&text)?;
        let field =
            |name: &str| result[name].as_f64().with_context(|| format!("no {name} in {text}"));
        self.rate.push(field("per_second")?);
        self.p50.push(field("p50_ms")?);
        self.p99.push(field("p99_ms")?);
        Ok(())
    }
}

/// A peer that ends with the measurement.
struct Etcd(Child);

impl Etcd {
    fn start(data: &Path) -> anyhow::Result<Self> {
        if data.exists() {
            fs::remove_dir_all(data)?;
        }
        fs::create_dir_all(data)?;
        let (clients, peers) = (format!("http://{ETCD}"), format!("http://{ETCD_PEERS}"));
        let log = File::create(data.join("log"))?;
        let mut command = sh::command("etcd");
        command.arg("--data-dir").arg(data.join("data")).args(["--log-level", "error"]);
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}")]);
        command.stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| sh::show(&command))?;
        let etcd = Self(child);
        sh::wait_for("etcd", Duration::from_secs(20), || Ok(TcpStream::connect(ETCD).ok()))?;
        Ok(etcd)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // Nothing can be done about a peer that is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
