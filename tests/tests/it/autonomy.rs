//! A node without its hub goes on: containers restart, Services answer, the local commands work.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    manifests::{BUSYBOX, deployment, list, spec, with},
    world::{PATIENCE, World, text, with_world},
};

/// A web server with a page from a ConfigMap, twice, and a Service before both.
fn site() -> String {
    let page = json!({"index.html": "served by a node on its own"});
    let container = json!({
        "name": "httpd",
        "image": BUSYBOX,
        "command": ["httpd", "-f", "-p", "80", "-h", "/www"],
        "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 1},
        "volumeMounts": [{"name": "www", "mountPath": "/www"}],
    });
    let volumes = json!([{"name": "www", "configMap": {"name": "site"}}]);
    let pods = with(spec(&[container]), json!({"volumes": volumes}));
    list(&[
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "site"}, "data": page}),
        deployment("web", 2, &pods),
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        }),
    ])
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test measures time")]
fn pods_and_services_go_on_while_the_hub_is_dead() {
    with_world(1, |world| {
        world.apply(&site());
        world.kubectl(&["rollout", "status", "deployment/web", &timeout()]);
        let address =
            world.get(&["service", "web"])["spec"]["clusterIP"].as_str().unwrap().to_owned();
        world.wait("the page", |it| it.nodes[0].fetch(&address));
        let before = world.get(&["pods", "-l", "app=web"]);
        // The floor of the node's time, for when its clock is lost.
        let log = std::fs::read_to_string(world.dir.path().join("n0.log")).unwrap();
        assert!(!log.contains("its time is not used"), "{log}");

        world.kill_hub();
        let page = world.nodes[0].fetch(&address).unwrap();
        assert!(page.contains("on its own"), "{page}");

        // A container that dies is started again, with nobody to ask.
        let pod = before["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
        let (pid, _) = world.nodes[0]
            .processes()
            .into_iter()
            .find(|(_, command)| command.starts_with("httpd"))
            .unwrap();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        world.wait("the container to restart", |it| {
            let ps = it.nodes[0].agent_output("ps", &["--json"]);
            let ps = String::from_utf8_lossy(&ps.stdout).into_owned();
            let restarted = ps.contains("\"restartCount\": 1");
            if restarted && it.nodes[0].processes().len() >= 2 { Ok(()) } else { Err(ps) }
        });
        for command in ["status", "ps", "images"] {
            let output = world.nodes[0].agent_output(command, &[]);
            assert!(output.status.success(), "{command}: {}", text(&output));
        }
        let echo = world.nodes[0].agent_output("exec", &[&pod, "--", "echo", "hello"]);
        assert_eq!(String::from_utf8_lossy(&echo.stdout), "hello\n", "{}", text(&echo));

        world.start_hub();
        let since = Instant::now();
        world.wait("the hub to see the truth", |it| {
            let after = it.get(&["pods", "-l", "app=web"]);
            let summary = |list: &Value| -> Vec<(Value, Value)> {
                let pods = list["items"].as_array().unwrap();
                pods.iter()
                    .map(|it| (it["metadata"]["uid"].clone(), it["status"]["podIP"].clone()))
                    .collect()
            };
            let restarts: u64 = after["items"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|it| it["status"]["containerStatuses"][0]["restartCount"].as_u64())
                .sum();
            let same = summary(&after) == summary(&before) && restarts == 1;
            if same { Ok(()) } else { Err(after.to_string()) }
        });
        let elapsed = since.elapsed();
        eprintln!("the hub saw the truth {elapsed:?} after it listened");
        assert!(elapsed < Duration::from_secs(20), "{elapsed:?}");
    });
}

/// A hub that was killed knows no connection any more, and a node with nothing to say would not notice.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test measures time")]
fn an_idle_node_notices_a_restarted_hub_at_once() {
    const ROUNDS: usize = 3;
    with_world(1, |world| {
        let mut elapsed = Duration::ZERO;
        for round in 1..=ROUNDS {
            world.wait("the node to be silent", |it| {
                let output = it.nodes[0].agent_output("status", &["--json"]);
                let status: Value =
                    serde_json::from_slice(&output.stdout).map_err(|_| text(&output))?;
                if status["reportsWaiting"] == 0 { Ok(()) } else { Err(status.to_string()) }
            });
            world.kill_hub();
            world.start_hub();
            let since = Instant::now();
            world.wait("the node to connect", |it| match it.nodes[0].n_connects() {
                n if n > round => Ok(()),
                n => Err(format!("{n} connections")),
            });
            elapsed += since.elapsed();
        }
        eprintln!("{ROUNDS} times: connected {elapsed:?} after the hub listened");
        // The next sign of life would come ten seconds after the last one.
        assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
    });
}

#[test]
fn a_node_whose_certificate_expired_while_it_was_away_comes_back() {
    const LIFE_SECONDS: u64 = 2;
    with_world(0, |world| {
        world.kill_hub();
        world.hub_options = vec!["--node-certificate-life".to_owned(), LIFE_SECONDS.to_string()];
        world.start_hub();
        world.add_node(0);
        world.wait("n0 to be Ready", |it| it.node_is_ready("n0"));
        let before = world.get(&["node", "n0"]);
        world.nodes[0].kill_agent();
        world.kill_hub();
        // It expires now: time itself is what is tested.
        std::thread::sleep(Duration::from_secs(LIFE_SECONDS + 1));
        world.hub_options.clear();
        world.start_hub();
        let beat = |it: &World| {
            it.get(&["lease", "n0", "-n", "kube-node-lease"])["spec"]["renewTime"].clone()
        };
        let last = beat(world);
        world.nodes[0].start();
        world.wait("a new heartbeat of n0", |it| {
            let now = beat(it);
            if now == last { Err(format!("still {now}")) } else { Ok(()) }
        });
        let after = world.get(&["node", "n0"]);
        assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    });
}

fn timeout() -> String {
    format!("--timeout={}s", PATIENCE.as_secs())
}
