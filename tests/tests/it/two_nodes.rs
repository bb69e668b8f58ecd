//! Two nodes: the scheduler spreads, each serves its own, and one that loses its link comes back.

use std::collections::BTreeSet;

use serde_json::json;

use crate::{
    manifests::{deployment, shell, spec, with},
    world::{PATIENCE, condition, with_world},
};

/// Pods that serve their own name.
fn spread() -> String {
    let more = json!({
        "resources": {"requests": {"cpu": "10m", "memory": "8Mi"}},
        "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 1},
    });
    let container = shell("hostname > /tmp/index.html; exec httpd -f -p 80 -h /tmp");
    deployment("spread", 4, &spec(&[with(container, more)])).to_string()
}

#[test]
fn pods_spread_and_a_lost_link_costs_no_restart() {
    with_world(2, |world| {
        world.apply(&spread());
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        world.kubectl(&["rollout", "status", "deployment/spread", &timeout]);
        let pods = world.get(&["pods", "-l", "app=spread"]);
        let mut used = BTreeSet::new();
        for pod in pods["items"].as_array().unwrap() {
            let node = pod["spec"]["nodeName"].as_str().unwrap();
            let (name, ip) = (pod["metadata"]["name"].as_str(), pod["status"]["podIP"].as_str());
            let host = world.nodes.iter().find(|it| it.name == node).unwrap();
            let page = host.fetch(ip.unwrap()).unwrap();
            assert_eq!(page.trim(), name.unwrap());
            used.insert(node.to_owned());
        }
        assert_eq!(used.len(), 2, "all pods went to {used:?}");

        world.set_link(1, "down");
        world.wait("n1 to be missed", |it| {
            let node = it.get(&["node", "n1"]);
            match condition(&node, "Ready") {
                Some("Unknown") => Ok(()),
                _ => Err(node["status"]["conditions"].to_string()),
            }
        });
        world.set_link(1, "up");
        world.wait("n1 to be back", |it| {
            let node = it.get(&["node", "n1"]);
            match condition(&node, "Ready") {
                Some("True") if node["spec"]["taints"].is_null() => Ok(()),
                _ => Err(node.to_string()),
            }
        });
        world.wait("all pods to be as before", |it| {
            let after = it.get(&["pods", "-l", "app=spread"]);
            let summary = |list: &serde_json::Value| -> Vec<String> {
                list["items"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|pod| {
                        let container = &pod["status"]["containerStatuses"][0];
                        format!(
                            "{} {} {}",
                            pod["metadata"]["uid"], container["ready"], container["restartCount"]
                        )
                    })
                    .collect()
            };
            if summary(&after) == summary(&pods) { Ok(()) } else { Err(after.to_string()) }
        });
    });
}
