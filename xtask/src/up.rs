//! `up` and `down`: the main job on this machine, from nothing to a served page, and back.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail, ensure};

use crate::{
    cluster::{self, Cluster},
    dist, example_images, leftovers,
    sh::{self, say, step},
    tools,
};

/// From `apply` to a ready Deployment, with two image pulls.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
const PAGE_TIMEOUT: Duration = Duration::from_secs(15);
const EXAMPLE: &str = "examples/web.yaml";

/// Sets everything up. A second run changes nothing.
pub(crate) fn up() -> anyhow::Result<()> {
    sh::ensure_root()?;
    let cluster = Cluster::local();
    tools::ensure_packages(&tools::UP)?;
    leftovers::note_baseline(&cluster.dir)?;
    let kubectl = tools::kubectl()?;
    step("Building release binaries (some minutes the first time)", || {
        let dir = dist::build(dist::Purpose::Test)?;
        cluster.link_binaries(&dir)
    })?;
    step("Starting a registry", || cluster.start_registry())?;
    step("Building and pushing the example images", || {
        example_images::build_and_push(cluster.addresses.registry, &cluster.dir.join("images"))
    })?;
    step("Starting the hub", || cluster.start_hub())?;
    step("Starting the node", || cluster.start_agent())?;
    let kubectl = || {
        let mut command = sh::command(&kubectl);
        command.env("KUBECONFIG", cluster.kubeconfig());
        command
    };
    step("Waiting for the node to be Ready", || {
        let name = cluster::node_name()?;
        sh::wait_for("the node", READY_TIMEOUT, || {
            let mut get = kubectl();
            get.args(["get", "node", &name, "-o"]);
            get.arg(r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#);
            Ok((sh::read(&mut get)?.trim() == "True").then_some(()))
        })
    })?;
    step(&format!("Applying {EXAMPLE}"), || sh::read(kubectl().args(["apply", "-f", EXAMPLE])))?;
    step("Waiting for the Deployment to be Ready", || {
        let timeout = format!("--timeout={}s", READY_TIMEOUT.as_secs());
        sh::read(kubectl().args(["rollout", "status", "deployment/web", &timeout]))
    })?;
    let address =
        sh::read(kubectl().args(["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]))?;
    let page = step(&format!("Fetching http://{address}/ through the Service"), || {
        sh::wait_for("the page", PAGE_TIMEOUT, || fetch(&address).map(Some))
    })?;
    report(&cluster, kubectl, &address, &page)
}

fn report(
    cluster: &Cluster,
    kubectl: impl Fn() -> Command,
    address: &str,
    page: &str,
) -> anyhow::Result<()> {
    let title = page.lines().find(|it| it.contains("<h1>")).unwrap_or("(no heading)").trim();
    say(format!("\nThe page says: {title}\n"));
    say(sh::read(kubectl().args(["get", "nodes,deployments,pods,services", "-o", "wide"]))?);
    let dir = cluster.dir.display();
    say(format!(
        "Try next:\n  \
         export KUBECONFIG={}\n  \
         kubectl get pods -o wide\n  \
         kubectl scale deployment web --replicas=4\n  \
         kubectl logs deployment/web\n  \
         curl http://{address}/\n  \
         {dir}/bin/outbye-agent ps --run-dir {dir}/run     # works without the hub\n  \
         cargo xtask down                                        # stop all, leave nothing",
        cluster.kubeconfig().display()
    ));
    Ok(())
}

/// Stops everything and proves that nothing is left.
pub(crate) fn down() -> anyhow::Result<()> {
    sh::ensure_root()?;
    let cluster = Cluster::local();
    if !cluster.dir.exists() {
        let left = leftovers::find(&cluster.dir);
        ensure!(left.is_empty(), "nothing runs, but this is left:\n{}", left.join("\n"));
        say("Nothing runs here.");
        return Ok(());
    }
    step("Stopping the agent", || cluster.stop("agent"))?;
    if cluster.bin.join("outbye-agent").exists() {
        step("Removing pods, networks, mounts and cgroups", || {
            sh::read(cluster.agent("reset").arg("--yes")).map(drop)
        })?;
    }
    step("Stopping the hub", || cluster.stop("hub"))?;
    step("Stopping the registry", || cluster.stop("registry"))?;
    step("Checking that nothing is left", || {
        let left = leftovers::find(&cluster.dir);
        if left.is_empty() {
            fs::remove_dir_all(&cluster.dir).context("could not remove .outbye")?;
            return Ok(());
        }
        bail!("still there:\n{}", left.join("\n"))
    })?;
    say("No process, mount, network namespace, link, nftables table or cgroup is left.");
    Ok(())
}

/// One HTTP/1.0 request.
fn fetch(address: &str) -> anyhow::Result<String> {
    let address: SocketAddr = format!("{address}:80").parse()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(text.starts_with("HTTP/1.1 200"), "the server answered: {text}");
    Ok(text)
}
