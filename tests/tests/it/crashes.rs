//! `kill -9` of the agent at any moment: no container notices, nothing is lost, doubled or left.

use std::{collections::BTreeMap, fs, time::Duration};

use serde_json::Value;

use crate::world::{World, text, with_world};

/// Kills of the agent while pods come and go.
const N_KILLS: u32 = 200;

const STEADY: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: steady}
spec:
  containers:
    - name: count
      image: 10.99.0.1:5000/outbye/busybox:1
      command: [sh, -c, "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done"]
"#;

#[test]
fn the_agent_dies_two_hundred_times_and_no_container_notices() {
    with_world(1, |world| {
        world.apply(STEADY);
        world.wait_ready("steady");
        let before = pids(world);
        assert_eq!(before.len(), 1, "{before:?}");
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        for round in 0..N_KILLS {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // Pods come and go, so that kills meet creations and deletions half done.
            if round % 4 == 0 {
                world.apply(&short_lived(round / 4));
            }
            if round % 4 == 2 && round > 8 {
                let name = format!("pod/short-{}", round / 4 - 2);
                world.kubectl(&["delete", &name, "--wait=false", "--ignore-not-found"]);
            }
            std::thread::sleep(Duration::from_millis(random % 250));
            world.nodes[0].kill_agent();
            world.nodes[0].start();
        }
        assert_eq!(pids(world), before, "the container was restarted");
        check_log(world);
        check_exit_codes(world);
        check_no_leaks(world);
    });
}

/// Ends by itself, with an exit code of its own.
fn short_lived(number: u32) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: short-{number}, labels: {{kind: short}}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
    - name: c
      image: 10.99.0.1:5000/outbye/busybox:1
      command: [sh, -c, "sleep 0.{}; exit {}"]
"#,
        number % 10,
        number % 100
    )
}

/// The steady pod's process.
fn pids(world: &World) -> BTreeMap<u32, String> {
    let mut found = world.nodes[0].processes();
    found.retain(|_, command| command.contains("line $i"));
    found
}

/// Every line that was written is there, in order.
fn check_log(world: &World) {
    let output = world.nodes[0].agent_output("logs", &["steady"]);
    let log = String::from_utf8_lossy(&output.stdout).into_owned();
    for (expected, line) in (1..).zip(log.lines()) {
        assert_eq!(line, format!("line {expected}"));
    }
    assert!(log.lines().count() > 100, "{}", text(&output));
}

/// What ended while no agent looked is known all the same.
fn check_exit_codes(world: &World) {
    world.wait("all short pods to end", |it| {
        let pods = it.get(&["pods", "-l", "kind=short"]);
        let open: Vec<String> = items(&pods)
            .filter(|pod| {
                let phase = pod["status"]["phase"].as_str();
                !matches!(phase, Some("Succeeded" | "Failed"))
            })
            .map(|pod| format!("{} {}", pod["metadata"]["name"], pod["status"]))
            .collect();
        if open.is_empty() { Ok(()) } else { Err(open.join("\n")) }
    });
    let pods = world.get(&["pods", "-l", "kind=short"]);
    let mut n_checked = 0;
    for pod in items(&pods) {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let number: u64 = name.strip_prefix("short-").unwrap().parse().unwrap();
        let state = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
        if pod["metadata"]["deletionTimestamp"].is_null() {
            assert_eq!(state["exitCode"].as_u64(), Some(number % 100), "{name}: {}", pod["status"]);
            n_checked += 1;
        }
    }
    assert!(n_checked > 0, "no pod was left to check");
}

/// Once the pods are gone, so is everything they held.
fn check_no_leaks(world: &mut World) {
    world.kubectl(&["delete", "pods", "--all", "--timeout=60s"]);
    world.wait("everything to be released", |it| {
        let node = &it.nodes[0];
        let dir = node.state_dir().parent().unwrap().to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut left: Vec<String> = mounts
            .lines()
            .filter(|line| {
                line.contains(&dir) && (line.contains("overlay") || line.contains("/netns/"))
            })
            .map(str::to_owned)
            .collect();
        let links = node.inside("ip").args(["-o", "link"]).output().unwrap();
        left.extend(
            String::from_utf8_lossy(&links.stdout)
                .lines()
                .filter(|line| line.contains("veth") || line.contains(": ob"))
                .map(str::to_owned),
        );
        left.extend(node.processes().into_values());
        // The bridge and the keeper belong to the node, not to a pod.
        left.retain(|line| !line.contains("outbye0:") && !line.contains("exe keeper"));
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}
