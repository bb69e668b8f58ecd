//! Mistakes of users, of machines and of disks: a clear error where the user looks, and everything
//! else keeps running.

use std::fs;

use serde_json::Value;

use crate::world::{text, with_world};

#[test]
fn mistakes_in_manifests_are_named() {
    with_world(0, |world| {
        for (manifest, expected) in [
            ("kind: [", "error parsing"),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: i, imgae: x}]}",
                "unknown field \"spec.containers[0].imgae\"",
            ),
            (
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replicas: many, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}",
                "replicas",
            ),
            (
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not_A_Name}",
                "a lowercase RFC 1123 subdomain must consist of",
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: i, resources: {requests: {cpu: 2}, limits: {cpu: 1}}}]}",
                "must be less than or equal to cpu limit",
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: nowhere}\nspec: {containers: [{name: c, image: i}]}",
                "namespaces \"nowhere\" not found",
            ),
        ] {
            let output = world.try_apply(manifest);
            assert!(!output.status.success(), "{manifest} was accepted");
            assert!(text(&output).contains(expected), "{manifest}\n{}", text(&output));
        }
    });
}

#[test]
fn pods_that_cannot_run_say_why_and_others_run() {
    with_world(1, |world| {
        world.apply(&pod("no-image", "image: 10.99.0.1:5000/outbye/nothing:1"));
        world.apply(&pod(
            "bad-digest",
            &format!("image: 10.99.0.1:5000/outbye/busybox@sha256:{}", "0".repeat(64)),
        ));
        world.apply(&pod(
            "no-key",
            "image: 10.99.0.1:5000/outbye/busybox:1\n      env: [{name: A, valueFrom: {configMapKeyRef: {name: kube-root-ca.crt, key: nothing}}}]",
        ));
        world.apply(&pod(
            "too-big",
            "image: 10.99.0.1:5000/outbye/busybox:1\n      resources: {requests: {cpu: 1k}}",
        ));
        world.apply(&pod(
            "no-program",
            "image: 10.99.0.1:5000/outbye/busybox:1\n      command: [/no/such/program]",
        ));
        world.apply(&pod("foreign", "image: 10.99.0.1:5000/outbye/foreign:1"));
        let with_port = "image: 10.99.0.1:5000/outbye/busybox:1\n      command: [sleep, \"1000\"]\n      ports: [{containerPort: 80, hostPort: 8080}]";
        world.apply(&pod("good", with_port));
        world.wait_ready("good");
        // Whom the scheduler asks, and whom nobody asks.
        world.apply(&pod("clash", with_port));
        let placed = pod("placed", with_port).replace("spec:", "spec:\n  nodeName: n0");
        world.apply(&placed);
        for (name, reasons) in [
            ("foreign", ["ErrImagePull", "ImagePullBackOff"].as_slice()),
            ("no-image", &["ErrImagePull", "ImagePullBackOff"]),
            ("bad-digest", &["ErrImagePull", "ImagePullBackOff"]),
            ("no-key", &["CreateContainerConfigError"]),
            ("no-program", &["RunContainerError", "CrashLoopBackOff", "StartError"]),
        ] {
            world.wait(&format!("the reason of {name}"), |it| {
                let status = it.get(&["pod", name])["status"]["containerStatuses"][0].clone();
                let reason = reason(&status);
                if reasons.contains(&reason.as_str()) { Ok(()) } else { Err(status.to_string()) }
            });
        }
        for (name, expected) in [
            ("too-big", "Insufficient cpu"),
            ("clash", "didn't have free ports for the requested pod ports"),
            ("placed", "NodePorts"),
            ("foreign", "s390x"),
        ] {
            world.wait(&format!("the reason of {name}"), |it| {
                let described = it.kubectl(&["describe", "pod", name]);
                if described.contains(expected) { Ok(()) } else { Err(described) }
            });
        }
        assert_eq!(world.get(&["pod", "placed"])["status"]["phase"], "Failed");
        world.wait("the event of no-key", |it| {
            let events =
                it.kubectl(&["get", "events", "--field-selector", "involvedObject.name=no-key"]);
            if events.contains("nothing") { Ok(()) } else { Err(events) }
        });
    });
}

#[test]
fn tokens_and_names_are_for_one_machine() {
    with_world(1, |world| {
        let token = world.token();
        let stranger = world.make_node(5, "stranger");
        let refuse = |token: &str, name: &str, expected: &str| {
            let output = stranger.join(token, name);
            assert!(!output.status.success(), "{name} joined");
            assert!(text(&output).contains(expected), "{}", text(&output));
        };
        refuse("nonsense", "stranger", "could not parse the join token");
        let (head, hash) = token.rsplit_once('.').unwrap();
        refuse(&format!("outbye1.abcdef.wrong.{hash}"), "stranger", "not known to this hub");
        refuse(&format!("{head}.{}", "0".repeat(64)), "stranger", "hub");
        refuse(&token, "n0", "a node named n0 is part of this hub already");
        let joined = stranger.join(&token, "stranger");
        assert!(joined.status.success(), "{}", text(&joined));
        let second = world.make_node(6, "second");
        let output = second.join(&token, "second");
        assert!(text(&output).contains("was used by node stranger"), "{}", text(&output));
        world.nodes.push(stranger);
        world.nodes.push(second);
    });
}

#[test]
fn a_damaged_ledger_is_rebuilt_and_containers_run_on() {
    with_world(1, |world| {
        world.apply(&pod(
            "good",
            "image: 10.99.0.1:5000/outbye/busybox:1\n      command: [sleep, \"1000\"]",
        ));
        let before = world.wait_ready("good");
        world.nodes[0].kill_agent();
        let mut n_damaged = 0;
        for entry in walk(&world.nodes[0].state_dir().join("ledger")) {
            // The identity lies beside the database in a file that survives torn writes, not this.
            if entry.file_name().is_some_and(|it| it == "db") {
                let mut bytes = fs::read(&entry).unwrap();
                let n = bytes.len();
                for byte in &mut bytes[n / 4..n / 2] {
                    *byte ^= 0x5a;
                }
                crate::world::write_bytes(&entry, &bytes);
                n_damaged += 1;
            }
        }
        assert!(n_damaged > 0, "no database was found");
        world.nodes[0].start();
        world.wait("the pod as it was", |it| {
            let after = it.get(&["pod", "good"]);
            let same = after["metadata"]["uid"] == before["metadata"]["uid"]
                && after["status"]["containerStatuses"][0]["ready"] == true;
            let status = it.nodes[0].agent_output("status", &[]);
            if same && status.status.success() { Ok(()) } else { Err(after.to_string()) }
        });
    });
}

fn pod(name: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n    - name: c\n      {container}\n"
    )
}

fn reason(status: &Value) -> String {
    let state = &status["state"];
    [&state["waiting"], &state["terminated"]]
        .iter()
        .find_map(|it| it["reason"].as_str())
        .unwrap_or_default()
        .to_owned()
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}
