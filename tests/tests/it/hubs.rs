//! Two hubs on one etcd: each sees what the other wrote, reaches the other's nodes, and goes on when the other dies.

use std::{
    path::PathBuf,
    process::{Child, Command},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};

use crate::{
    manifests::{deployment, shell, spec, with},
    world::{
        World, condition, inside, ip, listens, spawn, text, wait_for, wait_until, with_world, write,
    },
};

const ETCD: &str = "etcd://127.0.0.1:2379/fleet";
const OTHER: &str = "10.99.0.2";

/// A Deployment of pods that say that they are here.
fn web() -> String {
    let resources = json!({"requests": {"cpu": "10m", "memory": "8Mi"}});
    let container = shell("echo here I am; exec sleep 1000000");
    deployment("web", 1, &spec(&[with(container, json!({"resources": resources}))])).to_string()
}

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is what we want.
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

#[test]
fn one_of_two_hubs_dies_and_nothing_is_lost() {
    with_world(0, |world| {
        world.kill_hub();
        let _etcd = start_etcd(world);
        let keys = world.dir.path().join("keys");
        let mut new_key = world.hub_command();
        let line = new_key.args(["storage", "new-key", "k1"]).output().unwrap();
        write(&keys, &String::from_utf8(line.stdout).unwrap());
        // The first hub was alone until now: it brings its authority along.
        world.hub_options = options(&keys, "10.99.0.1");
        world.start_hub();
        wait_for("the first hub to lead", || {
            let get = ["get", "lease", "-n", "kube-system", "outbye-hub-controllers"];
            let output = world.try_kubectl(&get);
            if output.status.success() { Ok(()) } else { Err(text(&output)) }
        });
        ip(&format!("-n {} addr add {OTHER}/24 dev lan", world.hub_namespace()));
        let other = start_other(world, &keys);
        leads(world, &world.hub_dir()).unwrap();
        // Each adds itself before it says that it is ready, and takes nobody out.
        assert_eq!(pods_are_sent_to(world), Ok(vec!["10.99.0.1".to_owned(), OTHER.to_owned()]));

        join_other(world);
        world.wait("n0 to be Ready", |it| it.node_is_ready("n0"));
        world.apply(&web());
        let pod = wait_for("a pod", || ready_pods(world, 1)).remove(0);
        // Asked at the first hub, while the node is connected to the other.
        world.wait("the log of a node of the other hub", |it| {
            let output = it.try_kubectl(&["logs", &pod]);
            let shown = text(&output);
            if shown.contains("here I am") { Ok(()) } else { Err(shown) }
        });
        assert_eq!(world.kubectl(&["exec", &pod, "--", "echo", "there"]).trim(), "there");
        both_see_each_others_writes(world);

        let list = world.kubectl(&["get", "--raw", "/api/v1/namespaces/default/configmaps"]);
        let list: Value = serde_json::from_str(&list).unwrap();
        let start = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        let acknowledged = write_until_killed(world);
        at_other(world, &["scale", "deployment/web", "--replicas=2"]);
        for name in &acknowledged {
            at_other(world, &["get", "configmap", name]);
        }
        watch_goes_on(world, &start, &acknowledged);
        wait_for("the other hub to lead", || leads(world, &other_dir(world)));
        wait_for("a second pod", || ready_pods(world, 2));
        wait_for("pods to be sent to the other hub only", || match pods_are_sent_to(world) {
            Ok(hubs) if hubs == [OTHER] => Ok(()),
            said => Err(format!("{said:?}")),
        });

        world.start_hub();
        for name in &acknowledged {
            world.kubectl(&["get", "configmap", name]);
        }
        wait_for("pods to be sent to both hubs again", || match pods_are_sent_to(world) {
            Ok(hubs) if hubs == ["10.99.0.1", OTHER] => Ok(()),
            said => Err(format!("{said:?}")),
        });
        drop(other);
    });
}

fn start_etcd(world: &World) -> Running {
    let program = std::env::var_os("OUTBYE_ETCD").unwrap_or_else(|| "etcd".into());
    let mut command = inside(&world.hub_namespace(), program);
    command.arg("--data-dir").arg(world.dir.path().join("etcd"));
    command.args(["--listen-client-urls", "http://127.0.0.1:2379"]);
    command.args(["--advertise-client-urls", "http://127.0.0.1:2379"]);
    let etcd = spawn(command, &world.dir.path().join("etcd.log"));
    wait_until("etcd", || listens(Some(&etcd), 2379));
    Running(etcd)
}

fn options(keys: &std::path::Path, address: &str) -> Vec<String> {
    let keys = keys.display().to_string();
    let peer = format!("{address}:6445");
    [
        ["--store", ETCD],
        ["--encryption-keys", &keys],
        ["--peer-listen", &peer],
        ["--leader-elect-lease-duration", "4"],
        ["--leader-elect-renew-deadline", "2"],
        ["--leader-elect-retry-period", "1"],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect()
}

fn other_dir(world: &World) -> PathBuf {
    world.dir.path().join("other")
}

fn start_other(world: &World, keys: &std::path::Path) -> Running {
    let mut command = world.hub_command();
    command.arg("serve").arg("--data-dir").arg(other_dir(world));
    command.args(["--listen", "10.99.0.2:6443", "--sync-listen", "10.99.0.2:6444"]);
    command.args(options(keys, OTHER));
    let other = spawn(command, &world.dir.path().join("other.log"));
    let kubeconfig = other_dir(world).join("admin.kubeconfig");
    wait_until("the other hub", || listens(Some(&other), 6443) && kubeconfig.exists());
    Running(other)
}

/// A node that talks to the other hub, and knows both. Its token is from the first.
fn join_other(world: &mut World) {
    let mut node = world.make_node(0, "n0");
    let output = node.join_at("10.99.0.2:6444,10.99.0.1:6444", &world.token(), "n0");
    assert!(output.status.success(), "could not join: {}", text(&output));
    node.start();
    world.nodes.push(node);
}

/// Whether the hub of this directory runs the controllers.
fn leads(world: &World, dir: &std::path::Path) -> Result<(), String> {
    let id = std::fs::read_to_string(dir.join("hub-id")).map_err(|err| err.to_string())?;
    let args = ["get", "lease", "-n", "kube-system", "outbye-hub-controllers", "-o", "json"];
    let output = other_command(world, &args).output().unwrap();
    let lease: Value = serde_json::from_slice(&output.stdout).map_err(|_| text(&output))?;
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
    if holder.starts_with(id.trim()) { Ok(()) } else { Err(lease["spec"].to_string()) }
}

fn other_command(world: &World, args: &[&str]) -> Command {
    let mut command = world.kubectl_command(&crate::world::tool("OUTBYE_KUBECTL"));
    command.env("KUBECONFIG", other_dir(world).join("admin.kubeconfig"));
    command.args(args);
    command
}

/// Runs kubectl at the other hub; it must succeed.
fn at_other(world: &World, args: &[&str]) -> String {
    let output = other_command(world, args).output().unwrap();
    assert!(output.status.success(), "kubectl {}: {}", args.join(" "), text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The hubs behind the Service `kubernetes`, as the other hub says it: the same in both kinds.
fn pods_are_sent_to(world: &World) -> Result<Vec<String>, String> {
    let read = |args: &[&str]| {
        let output = other_command(world, args).output().unwrap();
        if !output.status.success() {
            return Err(text(&output));
        }
        let words = String::from_utf8(output.stdout).unwrap();
        Ok(words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    let slice = "jsonpath={.endpoints[*].addresses[*]}";
    let slice = read(&["get", "endpointslice", "kubernetes", "-o", slice])?;
    let endpoints = "jsonpath={.subsets[*].addresses[*].ip}";
    let endpoints = read(&["get", "endpoints", "kubernetes", "-o", endpoints])?;
    if slice == endpoints { Ok(slice) } else { Err(format!("{slice:?} and {endpoints:?}")) }
}

/// Names of the deployment's pods, once so many are ready.
fn ready_pods(world: &World, count: usize) -> Result<Vec<String>, String> {
    let output = other_command(world, &["get", "pods", "-l", "app=web", "-o", "json"]).output();
    let output = output.unwrap();
    let list: Value = serde_json::from_slice(&output.stdout).map_err(|_| text(&output))?;
    let ready: Vec<String> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| condition(it, "Ready") == Some("True"))
        .map(|it| it["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    if ready.len() == count { Ok(ready) } else { Err(list["items"].to_string()) }
}

/// What one hub acknowledged, the other shows at once.
fn both_see_each_others_writes(world: &World) {
    for n in 0..6 {
        let (name, value) = (format!("seen-{n}"), format!("--from-literal=n={n}"));
        let create = ["create", "configmap", &name, &value];
        let get = ["get", "configmap", &name, "-o", "jsonpath={.data.n}"];
        let shown = if n % 2 == 0 {
            world.kubectl(&create);
            at_other(world, &get)
        } else {
            at_other(world, &create);
            world.kubectl(&get)
        };
        assert_eq!(shown, n.to_string());
    }
}

/// Writes through the first hub, kills it meanwhile, and says what it has acknowledged.
fn write_until_killed(world: &mut World) -> Vec<String> {
    let (done, names) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let kubectl = crate::world::tool("OUTBYE_KUBECTL");
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (done, names) = (done.clone(), names.clone());
            let mut commands = (0..200).map(|n| {
                let name = format!("w{writer}-{n}");
                let mut command = world.kubectl_command(&kubectl);
                command.args(["create", "configmap", &name, "--request-timeout=5s"]);
                (name, command)
            });
            let mut commands: Vec<_> = commands.by_ref().collect();
            std::thread::spawn(move || {
                for (name, command) in &mut commands {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    if command.output().unwrap().status.success() {
                        names.lock().unwrap().push(name.clone());
                    }
                }
            })
        })
        .collect();
    wait_for("some writes", || {
        let n = names.lock().unwrap().len();
        if n >= 6 { Ok(()) } else { Err(format!("{n} writes")) }
    });
    world.kill_hub();
    done.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
    names.lock().unwrap().clone()
}

/// A watch that began at the first hub goes on at the other, where it stood: nothing is missing, nothing comes twice.
fn watch_goes_on(world: &World, start: &str, acknowledged: &[String]) {
    let path = format!(
        "/api/v1/namespaces/default/configmaps?watch=1&resourceVersion={start}&timeoutSeconds=2"
    );
    let lines = at_other(world, &["get", "--raw", &path]);
    let mut last = start.parse::<u64>().unwrap();
    let mut added = Vec::new();
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["type"], "ADDED", "{line}");
        let metadata = &event["object"]["metadata"];
        let revision: u64 = metadata["resourceVersion"].as_str().unwrap().parse().unwrap();
        assert!(revision > last, "{revision} after {last}");
        last = revision;
        added.push(metadata["name"].as_str().unwrap().to_owned());
    }
    for name in acknowledged {
        assert_eq!(added.iter().filter(|it| it == &name).count(), 1, "{name} in {added:?}");
    }
}
