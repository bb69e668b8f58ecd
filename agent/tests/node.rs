//! The node program as a whole, on this machine's kernel: pods run, survive what happens to the
//! agent, and leave nothing.
//!
//! Needs root and a static busybox; without them it is skipped, unless `REQUIRE_PRIVILEGED` is set.

#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod harness {
    pub(crate) mod image;
    pub(crate) mod registry;
    pub(crate) mod world;
}

use std::time::Duration;

use harness::world::World;
use serde_json::{Value, json};

const NAMESPACE: &str = "default";

fn pod(world: &World, n: u8, name: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["terminationGracePeriodSeconds"] = json!(1);
    for container in spec["containers"].as_array_mut().unwrap() {
        container["image"] = json!(world.image());
    }
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE,
            "uid": format!("5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d{n:02x}")},
        "spec": spec})
}

fn web(world: &World) -> Value {
    let probe = json!({"httpGet": {"path": "/page", "port": 8080}});
    let mounts = json!([{"name": "site", "mountPath": "/site"}]);
    pod(
        world,
        1,
        "web",
        json!({
        "containers": [{"name": "web", "command": ["httpd", "-f", "-p", "8080", "-h", "/site"],
            "readinessProbe": probe, "volumeMounts": mounts}],
        "volumes": [{"name": "site", "configMap": {"name": "site"}}]}),
    )
}

fn site(text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "site", "namespace": NAMESPACE}, "data": {"page": text}})
}

#[test]
fn pods_survive_the_agent_and_leave_nothing() {
    let Some(mut world) = World::start("survive") else { return };
    let job = pod(
        &world,
        2,
        "job",
        json!({"restartPolicy": "Never",
        "containers": [{"name": "job", "command": ["sh", "-c", "echo said; exit 3"]}]}),
    );
    let web = web(&world);
    world.put(&[web.clone(), job.clone(), site("one")]);
    world.wait("the web pod is ready", |rows| ready(rows, "web"));
    world.wait("the job failed", |rows| row(rows, "job")["status"]["phase"] == "Failed");
    assert_eq!(world.run(&["logs", "job"]).1, "said\n");
    let ip = row(&world.rows(), "web")["status"]["podIP"].as_str().unwrap().to_owned();
    assert_eq!(world.get(&ip, "/page"), "one");
    assert!(world.guarded().contains(&ip), "the pod may send as anybody");

    // The agent dies in any moment: nothing else does.
    let pid = world.exec_pid("httpd");
    assert!(World::pids_limit_of(pid).parse::<u64>().is_ok(), "a pod may fork without end");
    world.kill_agent();
    assert_eq!(world.get(&ip, "/page"), "one", "no agent is needed to serve");
    world.start_agent();
    world.wait("the web pod is known again", |rows| ready(rows, "web"));
    assert_eq!(world.exec_pid("httpd"), pid);
    assert_eq!(row(&world.rows(), "web")["status"]["podIP"], ip);
    assert!(world.guarded().contains(&ip), "the pod may send as anybody");
    let terminated = &row(&world.rows(), "job")["status"]["containerStatuses"][0]["state"];
    assert_eq!(terminated["terminated"]["exitCode"], 3);

    // A changed ConfigMap shows up, a command's code comes back.
    world.put(&[web.clone(), site("two")]);
    world.wait_for("the page changed", |world| world.get(&ip, "/page") == "two");
    assert_eq!(world.run(&["exec", "web", "--", "sh", "-c", "exit 7"]).0, 7);
    world.wait("the job is forgotten", |rows| row(rows, "job").is_null());

    // What died while nobody looked restarts with its true code.
    world.kill_agent();
    world.kill_process("httpd");
    world.start_agent();
    world.wait("the web pod is back", |rows| {
        let status = &row(rows, "web")["status"]["containerStatuses"][0];
        status["restartCount"] == 1
            && status["ready"] == true
            && status["lastState"]["terminated"]["exitCode"] == 137
    });

    world.put(&[]);
    world.wait("everything is gone", |rows| rows.as_array().unwrap().is_empty());
    world.wait_for("no link is left", |it| it.links() == 0);
    world.wait_for("nothing is known of its pods", |it| !it.guarded().contains("elements"));
    world.reset();
}

#[test]
fn a_sandbox_that_an_earlier_agent_made_otherwise_is_made_again() {
    let Some(mut world) = World::start("again") else { return };
    let with = |hostname: &str, image: &str| {
        let spec = json!({"hostname": hostname,
            "containers": [{"name": "c", "command": ["sleep", "1000"]}]});
        let mut pod = pod(&world, 7, "late", spec);
        pod["spec"]["containers"][0]["image"] = json!(image);
        pod
    };
    let (before, after, good) = (
        with("before", "localhost:1/none:1"),
        with("after", "localhost:1/none:1"),
        with("after", &world.image()),
    );
    let has_address = |rows: &Value| row(rows, "late")["status"]["podIP"].is_string();
    world.put(&[before]);
    world.wait("the pod has a sandbox", has_address);
    world.put(&[after]);
    world.kill_agent();
    world.start_agent();
    world.put(&[good]);
    world.wait("the pod runs", |rows| ready(rows, "late"));
    assert_eq!(world.run(&["exec", "late", "--", "/bin/busybox", "hostname"]).1.trim(), "after");
    world.put(&[]);
    world.wait("the pod is gone", |rows| rows.as_array().is_some_and(Vec::is_empty));
    world.reset();
}

#[test]
fn a_container_keeps_its_volumes_when_what_filled_them_is_deleted() {
    let Some(world) = World::start("volumes") else { return };
    let web = web(&world);
    world.put(&[web.clone(), site("one")]);
    world.wait("the web pod is ready", |rows| ready(rows, "web"));
    let ip = row(&world.rows(), "web")["status"]["podIP"].as_str().unwrap().to_owned();
    // When the other pod runs, what is gone is known.
    let spec = json!({"containers": [{"name": "c", "command": ["sleep", "1000"]}]});
    world.put(&[web, pod(&world, 9, "other", spec)]);
    world.wait("the other pod runs", |rows| ready(rows, "other"));
    world.kill_process("httpd");
    world.wait("the web pod is back", |rows| {
        let status = &row(rows, "web")["status"]["containerStatuses"][0];
        status["restartCount"] == 1 && status["ready"] == true
    });
    assert_eq!(world.get(&ip, "/page"), "one");
    world.put(&[]);
    world.wait("the pods are gone", |rows| rows.as_array().is_some_and(Vec::is_empty));
    world.reset();
}

#[test]
fn an_agent_that_cannot_write_ends_and_the_next_one_goes_on() {
    let Some(mut world) = World::start("ledger") else { return };
    world.kill_agent();
    world.start_patient_agent();
    let spec = json!({"containers": [{"name": "c", "command": ["sleep", "1000"]}]});
    world.put(&[pod(&world, 10, "again", spec)]);
    world.wait("the pod runs", |rows| ready(rows, "again"));
    world.break_disk();
    // How it ended cannot be written down.
    world.kill_process("sleep 1000");
    assert_eq!(world.wait_for_end(), 1);
    world.start_agent();
    world.wait("the pod is back", |rows| {
        let status = &row(rows, "again")["status"]["containerStatuses"][0];
        status["restartCount"] == 1 && status["ready"] == true
    });
    world.put(&[]);
    world.wait("the pod is gone", |rows| rows.as_array().is_some_and(Vec::is_empty));
    world.reset();
}

#[test]
fn more_input_and_output_than_pipes_hold_pass_at_once() {
    let Some(world) = World::start("pipe") else { return };
    let spec = json!({"containers": [{"name": "c", "command": ["sleep", "1000"]}]});
    world.put(&[pod(&world, 8, "echo", spec)]);
    world.wait("the pod runs", |rows| ready(rows, "echo"));
    let input: Vec<u8> = (0..8_u32 << 20).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect();
    assert!(world.pipe(&["exec", "-i", "echo", "--", "cat"], &input) == input);
    world.put(&[]);
    world.wait("the pod is gone", |rows| rows.as_array().is_some_and(Vec::is_empty));
    world.reset();
}

#[test]
fn kills_at_any_moment_double_and_lose_nothing() {
    let Some(mut world) = World::start("kills") else { return };
    let n_pods = 4;
    let mut generation = 0_u8;
    let pods = |world: &World, generation: u8| -> Vec<Value> {
        let spec = |n: u8| {
            json!({"containers": [
            {"name": "c", "command": ["sleep", format!("{}", 86_000 + u32::from(n))]}]})
        };
        (0..n_pods).map(|n| pod(world, generation * 16 + n, &format!("p{n}"), spec(n))).collect()
    };
    for round in 0..12_u64 {
        if round % 2 == 0 {
            generation += 1;
        }
        let wanted = pods(&world, generation);
        world.put(&wanted);
        // Somewhere in the middle of creating and deleting; where is the machine's choice.
        std::thread::sleep(Duration::from_millis(round * 23 % 97));
        world.kill_agent();
        world.start_agent();
    }
    world.wait("all pods of the last set are ready", |rows| {
        rows.as_array().unwrap().len() == usize::from(n_pods)
            && (0..n_pods).all(|n| ready(rows, &format!("p{n}")))
    });
    assert_eq!(world.processes("sleep 860"), usize::from(n_pods));
    // The kernel takes links down with their namespaces, some time after those are gone.
    world.wait_for("each pod has its link", |it| it.links() == usize::from(n_pods));
    world.reset();
}

fn row(rows: &Value, name: &str) -> Value {
    let found = rows.as_array().unwrap().iter().find(|it| it["pod"]["name"] == name);
    found.cloned().unwrap_or(Value::Null)
}

fn ready(rows: &Value, name: &str) -> bool {
    let row = row(rows, name);
    let conditions = row["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True")
}
