//! A node with cgroup v2 joins, gets the example, loses its power, and boots with no hub in reach
//! and its clock at 1970: the same pods, addresses, ConfigMap and Service answer again. Then the
//! hub returns and agrees.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{
    Bench,
    disk::Cut,
    guest::{Guest, INIT_HEAD, INIT_TAIL, make_disk},
    initramfs::Archive,
};
use crate::{
    cluster::{self, Addresses, Cluster},
    example_images,
    sh::{self, say, step},
    tools,
};

const DISK_MIB: u64 = 1024;
const NODE: &str = "vm";
/// The host, as the guest sees it.
const HOST: &str = "10.0.2.2";
const ADDRESSES: Addresses =
    Addresses { registry: "127.0.0.1:5155", api: "127.0.0.1:7443", sync: "127.0.0.1:7444" };
/// Everything is emulated, and pulls go through the emulated network.
const READY_TIMEOUT: Duration = Duration::from_secs(180);
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
const PAGE: &str = "Hello from the outlying fields";

const AGENT: &str = r#"
ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2
hostname() { cat /proc/sys/kernel/hostname; }
cat > /bin/agent <<'EOF'
#!/bin/sh
exec outbye-agent run --state-dir /data/outbye --run-dir /run/outbye --plain-http-registry 10.0.2.2:5155 > /dev/ttyS0 2>&1
EOF
busybox chmod 755 /bin/agent
if [ -e /data/joined ]; then setsid agent & fi
"#;

/// The answer is how many tests passed.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<usize> {
    let dir = bench.dir.join("cluster");
    let cluster = Cluster { dir, bin: bench.bin.clone(), addresses: ADDRESSES };
    stop(&cluster)?;
    if cluster.dir.exists() {
        fs::remove_dir_all(&cluster.dir)?;
    }
    let result = scenario(bench, &cluster);
    let stopped = stop(&cluster);
    let passed = result?;
    stopped?;
    Ok(passed)
}

fn stop(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.stop("hub")?;
    cluster.stop("registry")
}

fn scenario(bench: &Bench, cluster: &Cluster) -> anyhow::Result<usize> {
    step("Starting a registry and a hub for the VM", || {
        cluster.start_registry()?;
        example_images::build_and_push(ADDRESSES.registry, &cluster.dir.join("images"))?;
        cluster.start_hub()
    })?;
    let initramfs = bench.dir.join("node.initramfs");
    let mut archive = Archive::base()?;
    archive.file("bin/outbye-agent", &bench.bin.join("outbye-agent"))?;
    // The registry client wants the machine's authorities before it asks anybody.
    archive.file(AUTHORITIES.trim_start_matches('/'), Path::new(AUTHORITIES))?;
    bench.kernel.pack(&mut archive)?;
    archive.script("init", &format!("{INIT_HEAD}{AGENT}{INIT_TAIL}"));
    archive.finish(&initramfs)?;
    let image = bench.dir.join("node.img");
    make_disk(&image, DISK_MIB)?;
    let kubectl = Kubectl { program: tools::kubectl()?, cluster };

    let mut guest = Guest::boot(bench, &initramfs, &image, "node")?;
    step("Joining from the VM", || {
        let token = cluster.token()?;
        let sync = ADDRESSES.sync.replace("127.0.0.1", HOST);
        guest.run(&format!(
            "outbye-agent join --state-dir /data/outbye --run-dir /run/outbye --hub {sync} --token {token} --node-name {NODE} 2>&1"
        ))?;
        guest.run("echo > /data/joined; sync; setsid agent &")
    })?;
    let before = step("Running the example in the VM, on cgroup v2", || {
        kubectl.apply_example()?;
        kubectl.rollout().with_context(|| guest.console_tail())?;
        check_limits(&mut guest)?;
        kubectl.pods()
    })?;
    let service = kubectl.run(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])?;
    step("Fetching the page inside the VM", || fetch(&mut guest, &service))?;

    cluster.stop("hub")?;
    guest.cut_power(Cut::DropAll)?;
    let started = sh::now();
    let mut guest = Guest::boot_at(bench, &initramfs, &image, "node", Some("1970-01-01"))?;
    step("Cold boot at 1970 without hub: the page is served again", || {
        fetch(&mut guest, &service)?;
        say(format!("      from power on: {:.1} s", started.elapsed().as_secs_f32()));
        for ip in before.values().map(|it| &it.ip) {
            fetch(&mut guest, ip).with_context(|| format!("the pod at {ip}"))?;
        }
        guest.run("outbye-agent ps --run-dir /run/outbye 2>&1").map(drop)
    })?;
    step("The hub returns and agrees", || {
        cluster.start_hub()?;
        sh::wait_for("the pods as they were", READY_TIMEOUT, || {
            let after = kubectl.pods()?;
            let same = after.len() == before.len()
                && before.iter().all(|(name, pod)| {
                    after.get(name).is_some_and(|it| {
                        it.uid == pod.uid
                            && it.ip == pod.ip
                            && it.ready
                            && it.restarts > pod.restarts
                    })
                });
            ensure!(same, "the hub sees {after:?}, it was {before:?}");
            Ok(Some(()))
        })
        .with_context(|| guest.console_tail())
    })?;
    guest.stop()?;
    Ok(2)
}

/// Limits must have reached cgroup v2.
fn check_limits(guest: &mut Guest) -> anyhow::Result<()> {
    let limits = guest.run("cat /sys/fs/cgroup/outbye/*/pod*/*/memory.max")?;
    let n_limited = limits.lines().filter(|it| it.trim() == "134217728").count();
    ensure!(n_limited == 2, "two containers should be limited to 128 MiB, found: {limits:?}");
    let groups = guest.run("cat /sys/fs/cgroup/outbye/*/pod*/*/memory.oom.group")?;
    let die_as_one = groups.lines().count() >= 2 && groups.lines().all(|it| it.trim() == "1");
    ensure!(die_as_one, "for want of memory, a container should die as one, found: {groups:?}");
    Ok(())
}

/// The page, from inside the guest.
fn fetch(guest: &mut Guest, address: &str) -> anyhow::Result<()> {
    sh::wait_for("the page", READY_TIMEOUT, || {
        // Not wget: Debian's static one dies of the name service switch.
        let request = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {address} 80 2>&1");
        let (_, text) = guest.try_run(&request)?;
        ensure!(text.contains(PAGE), "{address} answered {text:?}\n{}", guest.console_tail());
        Ok(Some(()))
    })
}

#[derive(Debug)]
struct Pod {
    uid: String,
    ip: String,
    ready: bool,
    restarts: u64,
}

struct Kubectl<'a> {
    program: std::path::PathBuf,
    cluster: &'a Cluster,
}

impl Kubectl<'_> {
    fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut command = sh::command(&self.program);
        sh::read(command.env("KUBECONFIG", self.cluster.kubeconfig()).args(args))
    }

    /// The example, with its image where the guest finds it.
    fn apply_example(&self) -> anyhow::Result<()> {
        let text = fs::read_to_string(sh::root().join("examples/web.yaml"))?;
        let registry = ADDRESSES.registry.replace("127.0.0.1", HOST);
        let path = self.cluster.dir.join("web.yaml");
        cluster::write(&path, &text.replace("127.0.0.1:5055", &registry))?;
        self.run(&["apply", "-f", &path.display().to_string()]).map(drop)
    }

    fn rollout(&self) -> anyhow::Result<()> {
        let timeout = format!("--timeout={}s", READY_TIMEOUT.as_secs());
        self.run(&["rollout", "status", "deployment/web", &timeout]).map(drop)
    }

    fn pods(&self) -> anyhow::Result<BTreeMap<String, Pod>> {
        let list: Value = serde_json::from_str(&self.run(&["get", "pods", "-o", "json"])?)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|pod| {
                let container = &pod["status"]["containerStatuses"][0];
                let summary = Pod {
                    uid: text(&pod["metadata"]["uid"]),
                    ip: text(&pod["status"]["podIP"]),
                    ready: container["ready"] == true,
                    restarts: container["restartCount"].as_u64().unwrap_or(0),
                };
                (text(&pod["metadata"]["name"]), summary)
            })
            .collect())
    }
}
