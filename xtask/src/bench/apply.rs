//! From `kubectl apply` of a pod, its image present, to Ready as a watch sees it.
//!
//! No peer runs beside it: none can be installed from the distribution. kubectl's own start is shown apart.

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use super::{
    Samples,
    world::{self, World},
};
use crate::sh::{self, say};

/// The first pod pulls the image.
const WARM_UP: usize = 2;

pub(super) fn run(quick: bool) -> anyhow::Result<()> {
    let rounds = if quick { 5 } else { 40 };
    world::with("apply", true, |world| measure(world, rounds))
}

fn measure(world: &World, rounds: usize) -> anyhow::Result<()> {
    let (mut whole, mut inside, mut kubectl) =
        (Samples::default(), Samples::default(), Samples::default());
    let mut watch = Watch::start(world)?;
    for round in 0..rounds + WARM_UP {
        let name = format!("apply-{round}");
        let begin = sh::now();
        world.apply(&[world::pod(&name)])?;
        let returned = begin.elapsed();
        let (created, ready) = watch.follow(&name)?;
        if round >= WARM_UP {
            whole.push(millis(ready.duration_since(begin)));
            inside.push(millis(ready.duration_since(created)));
            kubectl.push(millis(returned));
        }
        sh::read(world.kubectl().args(["delete", "pod", &name, "--wait=true"]))?;
    }
    watch.stop()?;
    say(format!("{rounds} pods, one after the other; milliseconds\n"));
    say("| what | p10 | median | p90 |\n|---|---|---|---|");
    let rows = [
        ("`kubectl apply` started, to Ready in a watch", &whole),
        ("of that: pod seen by the watch, to Ready in the watch", &inside),
        ("`kubectl apply` by itself, until it returns", &kubectl),
    ];
    for (name, samples) in rows {
        let [low, middle, high] = [10, 50, 90].map(|it| samples.percentile(it));
        say(format!("| {name} | {low:.1} | {middle:.1} | {high:.1} |"));
    }
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// `kubectl get --watch`, with the time of each line.
struct Watch {
    child: Child,
    lines: std::sync::mpsc::Receiver<(Instant, String)>,
}

/// A pod that is not Ready in this time has failed.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Watch {
    fn start(world: &World) -> anyhow::Result<Self> {
        let path =
            r#"jsonpath={.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}"#;
        let mut command = world.kubectl();
        command.args(["get", "pods", "--watch", "-o", path]).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| sh::show(&command))?;
        let stdout = child.stdout.take().context("kubectl has no output")?;
        let (sender, lines) = std::sync::mpsc::channel();
        let reader = BufReader::new(stdout).lines();
        // Lines are stamped when they come, also while another command runs.
        std::thread::spawn(move || stamp(reader, &sender));
        Ok(Self { child, lines })
    }

    /// When the pod was seen first, and when it was Ready.
    fn follow(&self, name: &str) -> anyhow::Result<(Instant, Instant)> {
        let mut created = None;
        loop {
            let (at, line) = self
                .lines
                .recv_timeout(TIMEOUT)
                .with_context(|| format!("the watch did not see {name} become Ready"))?;
            let Some((pod, ready)) = line.split_once(' ') else { bail!("the watch says {line}") };
            if pod != name {
                continue;
            }
            let first = *created.get_or_insert(at);
            if ready.trim() == "True" {
                return Ok((first, at));
            }
        }
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // After `stop` it is gone already, which is as good.
        let _ = self.stop();
    }
}

fn stamp(
    lines: Lines<BufReader<ChildStdout>>,
    sender: &std::sync::mpsc::Sender<(Instant, String)>,
) {
    for line in lines.map_while(Result::ok) {
        if sender.send((sh::now(), line)).is_err() {
            return;
        }
    }
}
