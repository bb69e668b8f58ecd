//! A hub and a node of their own for a measurement, and their removal.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::ensure;
use serde_json::{Value, json};

use super::dir;
use crate::{
    cluster::{self, Addresses, Cluster},
    dist, example_images, leftovers,
    sh::{self, step},
    tools,
};

const ADDRESSES: Addresses =
    Addresses { registry: "127.0.0.1:5355", api: "127.0.0.1:7443", sync: "127.0.0.1:7444" };
/// Whatever is waited for and does not come in this time has failed.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What runs while something is measured.
pub(super) struct World {
    pub(super) cluster: Cluster,
    kubectl: PathBuf,
}

/// Sets up a hub and perhaps a node, lets `work` measure, and removes everything, whatever happened.
pub(super) fn with(
    name: &str,
    with_node: bool,
    work: impl FnOnce(&World) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    ensure!(
        !Cluster::local().is_running("agent"),
        "a node of `cargo xtask up` runs here; stop it with `cargo xtask down` first"
    );
    let cluster = Cluster {
        dir: dir().join(name),
        bin: dist::dir(dist::Purpose::Ship),
        addresses: ADDRESSES,
    };
    let world = World { cluster, kubectl: tools::kubectl()? };
    world.remove()?;
    leftovers::note_baseline(&world.cluster.dir)?;
    let measured = world.start(with_node).and_then(|()| work(&world));
    let removed = step("Removing it all", || world.remove());
    measured.and(removed)
}

impl World {
    fn start(&self, with_node: bool) -> anyhow::Result<()> {
        let cluster = &self.cluster;
        step("Starting the hub", || cluster.start_hub())?;
        if !with_node {
            return Ok(());
        }
        step("Filling a registry and starting a node", || {
            cluster.start_registry()?;
            example_images::build_and_push(ADDRESSES.registry, &dir().join("images"))?;
            cluster.start_agent()?;
            let name = cluster::node_name()?;
            sh::wait_for("the node", TIMEOUT, || {
                let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
                let ready = sh::read(self.kubectl().args(["get", "node", &name, "-o", path]))?;
                Ok((ready.trim() == "True").then_some(()))
            })
        })
    }

    fn remove(&self) -> anyhow::Result<()> {
        let cluster = &self.cluster;
        if !cluster.dir.exists() {
            return Ok(());
        }
        cluster.stop("agent")?;
        if cluster.dir.join("agent").exists() {
            sh::read(cluster.agent("reset").arg("--yes"))?;
        }
        cluster.stop("hub")?;
        cluster.stop("registry")?;
        let left = leftovers::find(&cluster.dir);
        ensure!(left.is_empty(), "still there:\n{}", left.join("\n"));
        std::fs::remove_dir_all(&cluster.dir)?;
        Ok(())
    }

    pub(super) fn kubectl(&self) -> Command {
        let mut command = sh::command(&self.kubectl);
        command.env("KUBECONFIG", self.cluster.kubeconfig());
        command
    }

    /// Sends objects as one `kubectl apply`.
    pub(super) fn apply(&self, objects: &[Value]) -> anyhow::Result<()> {
        let path = self.cluster.dir.join("apply.json");
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        cluster::write(&path, &list.to_string())?;
        sh::read(self.kubectl().arg("apply").arg("-f").arg(&path)).map(drop)
    }

    /// Waits until this many of our pods are Ready.
    pub(super) fn wait_ready(&self, count: usize) -> anyhow::Result<()> {
        let path = r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
        sh::wait_for(&format!("{count} pods"), TIMEOUT, || {
            let ready =
                sh::read(self.kubectl().args(["get", "pods", "-l", "app=bench", "-o", path]))?;
            Ok((ready.split_whitespace().filter(|it| *it == "True").count() == count).then_some(()))
        })
    }
}

/// A pod that sleeps.
pub(super) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "sleep",
                "image": format!("{}/outbye/busybox:1", ADDRESSES.registry),
                "command": ["sleep", "1000000"],
                "resources": {"requests": {"cpu": "1m", "memory": "4Mi"}, "limits": {"memory": "32Mi"}},
            }],
        },
    })
}
