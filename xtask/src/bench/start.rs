//! From the request to `execve` of `/bin/true`, against crun and runc.
//!
//! Ours gets what a pod gets: namespaces, a veth pair on a bridge, an overlay, limits, seccomp. The peers get a bare
//! root file system, an unconnected network namespace and the same limits: what they are given is less.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use super::{Samples, dir, example};
use crate::{
    cluster,
    sh::{self, say},
};

/// The first starts fill caches.
const WARM_UP: usize = 5;

/// Prepares a root file system, and goes on in a mount namespace where crun can work.
pub(super) fn run(quick: bool) -> anyhow::Result<()> {
    example("agent", "container_start")?;
    prepare()?;
    // crun 1.8 cannot work where the hybrid layout's unified hierarchy is mounted.
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" \"$@\"";
    let mut inside = sh::command("unshare");
    inside.args(["--mount", "sh", "-c", script]).arg(std::env::current_exe()?);
    inside.args(["bench", "start", "--in-namespace"]);
    if quick {
        inside.arg("--quick");
    }
    sh::run(&mut inside)
}

/// A root file system with `/bin/true`, and a bundle for the peers.
fn prepare() -> anyhow::Result<()> {
    let (rootfs, bundle) = (rootfs(), bundle());
    for name in ["bin", "dev", "etc", "proc", "sys"] {
        fs::create_dir_all(rootfs.join(name))?;
    }
    fs::create_dir_all(&bundle)?;
    let busybox = sh::which("busybox").context("busybox is not installed")?;
    fs::copy(busybox, rootfs.join("bin/busybox"))?;
    if !rootfs.join("bin/true").is_symlink() {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin/true"))?;
    }
    let config = bundle.join("config.json");
    if config.exists() {
        fs::remove_file(&config)?;
    }
    sh::read(sh::command("crun").arg("spec").current_dir(&bundle))?;
    let mut spec: Value = serde_json::from_str(&fs::read_to_string(&config)?)?;
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["/bin/true"]);
    spec["root"] = json!({"path": rootfs, "readonly": false});
    let limits = &mut spec["linux"]["resources"];
    limits["memory"] = json!({"limit": 64 << 20});
    limits["cpu"] = json!({"shares": 1024});
    limits["pids"] = json!({"limit": 100});
    cluster::write(&config, &spec.to_string())
}

fn rootfs() -> PathBuf {
    dir().join("rootfs")
}

fn bundle() -> PathBuf {
    dir().join("bundle")
}

/// Starts with each in turns, and compares.
pub(super) fn measure(quick: bool) -> anyhow::Result<()> {
    let rounds = if quick { 20 } else { 200 };
    let mut ours = Ours::start(&example("agent", "container_start")?)?;
    let (mut execve, mut whole) = (Samples::default(), Samples::default());
    let mut parts = [Samples::default(), Samples::default(), Samples::default()];
    let (mut crun, mut runc) = (Samples::default(), Samples::default());
    for round in 0..rounds + WARM_UP {
        let times = ours.once()?;
        let of_crun = peer("crun", round)?;
        let of_runc = peer("runc", round)?;
        if round < WARM_UP {
            continue;
        }
        execve.push(millis(&times, "execve_us")?);
        whole.push(millis(&times, "whole_us")?);
        for (part, name) in parts.iter_mut().zip(["sandbox_us", "network_us", "container_us"]) {
            part.push(millis(&times, name)?);
        }
        crun.push(of_crun);
        runc.push(of_runc);
    }
    ours.stop()?;
    say(format!("{rounds} rounds, in turns; milliseconds\n"));
    say("| what | p10 | median | p90 | crun / it | runc / it |\n|---|---|---|---|---|---|");
    let rows = [
        ("ours, request to execve", &execve),
        ("ours, whole: execve, end, everything removed", &whole),
        ("`crun run`, whole", &crun),
        ("`runc run`, whole", &runc),
    ];
    for (name, samples) in rows {
        let [low, middle, high] = [10, 50, 90].map(|it| samples.percentile(it));
        let (to_crun, to_runc) = (crun.median() / middle, runc.median() / middle);
        say(format!(
            "| {name} | {low:.2} | {middle:.2} | {high:.2} | {to_crun:.1} | {to_runc:.1} |"
        ));
    }
    let [sandbox, network, container] = parts.map(|it| it.median());
    say(format!(
        "\nParts of ours to execve: sandbox {sandbox:.2}, veth and address {network:.2}, container {container:.2}"
    ));
    Ok(())
}

/// Our runtime, held by a program that starts a container for every line it is sent.
struct Ours {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Ours {
    fn start(program: &Path) -> anyhow::Result<Self> {
        let mut command = sh::command(program);
        command.arg(rootfs()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| sh::show(&command))?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("it has no output")?);
        Ok(Self { child, requests, answers })
    }

    fn once(&mut self) -> anyhow::Result<Value> {
        self.requests.as_mut().context("it was stopped")?.write_all(b"\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("container_start said: {line}"))
    }

    /// Lets it end by itself: it removes its bridge and its keeper.
    fn stop(mut self) -> anyhow::Result<()> {
        self.requests = None;
        let status = self.child.wait()?;
        ensure!(status.success(), "container_start failed ({status})");
        Ok(())
    }
}

fn millis(times: &Value, name: &str) -> anyhow::Result<f64> {
    Ok(times[name].as_f64().with_context(|| format!("no {name} in {times}"))? / 1000.0)
}

/// One whole run, in milliseconds.
fn peer(program: &str, round: usize) -> anyhow::Result<f64> {
    let mut command = sh::command(program);
    command.arg("--root").arg(dir().join(format!("state-{program}")));
    command.arg("run").arg("--bundle").arg(bundle());
    command.arg(format!("outbye-bench-{program}-{round}"));
    let begin = sh::now();
    let output = command.output().with_context(|| sh::show(&command))?;
    let took: Duration = begin.elapsed();
    if !output.status.success() {
        bail!("{} failed: {}", sh::show(&command), String::from_utf8_lossy(&output.stderr));
    }
    Ok(took.as_secs_f64() * 1000.0)
}
