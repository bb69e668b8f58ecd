//! What machines and pods use, as `kubectl top` shows it, and the pages of the nodes themselves.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{
    manifests::{list, pod, shell, spec, with},
    world::{World, old_kubectl, text, with_world},
};

/// A pod of which one container works without a pause and one holds memory, and a pod that does nothing.
fn busy_and_calm() -> String {
    let spin = with(
        shell("while true; do :; done"),
        json!({"name": "spin", "resources": {"limits": {"cpu": "200m"}}}),
    );
    let hold = with(
        shell("head -c 20000000 /dev/zero > /held/file; exec sleep 1000"),
        json!({"name": "hold", "volumeMounts": [{"name": "held", "mountPath": "/held"}]}),
    );
    let volumes = json!([{"name": "held", "emptyDir": {"medium": "Memory"}}]);
    list(&[
        pod("busy", &with(spec(&[spin, hold]), json!({"volumes": volumes}))),
        pod("calm", &spec(&[shell("exec sleep 1000")])),
    ])
}

/// What to type, the exit code, what must be in the answer and what must not.
const COMMANDS: [(&str, i32, &str, &str); 10] = [
    ("top nodes", 0, "n0", "<unknown>"),
    ("top node n0", 0, "n0", "<unknown>"),
    ("top nodes --sort-by=cpu --no-headers", 0, "n0", "NAME"),
    ("top pods -A --containers", 0, "spin", "<unknown>"),
    ("top pods --sort-by=memory", 0, "busy", "<unknown>"),
    ("top pods -l app=calm", 0, "calm", "busy"),
    ("top pod busy --containers", 0, "hold", "calm"),
    ("top pod nobody", 1, "nobody\" not found", "calm"),
    ("get podmetrics", 0, "calm", "<none>"),
    ("get --raw /apis/metrics.k8s.io/v1beta1/nodes/n1", 1, "not", "calm"),
];

#[test]
fn top_shows_what_nodes_and_pods_use() {
    with_world(1, |world| {
        world.apply(&busy_and_calm());
        world.wait_ready("busy");
        world.wait_ready("calm");
        for program in [PathBuf::from(std::env::var_os("OUTBYE_KUBECTL").unwrap()), old_kubectl()] {
            for (line, code, expected, unexpected) in COMMANDS {
                let output =
                    world.kubectl_command(&program).args(line.split(' ')).output().unwrap();
                let said = text(&output);
                assert_eq!(output.status.code(), Some(code), "kubectl {line}\n{said}");
                assert!(said.contains(expected), "kubectl {line}: no {expected:?} in\n{said}");
                assert!(!said.contains(unexpected), "kubectl {line}: {unexpected:?} in\n{said}");
            }
        }
        let sum = world.kubectl(&["top", "pods", "--sum"]);
        assert!(sum.contains("________"), "{sum}");
        let available = ["apiservice", "v1beta1.metrics.k8s.io"];
        let available = world.get(&available);
        assert_eq!(available["status"]["conditions"][0]["reason"], "Local");
        amounts_are_plausible(world);
        a_viewer_sees_pods_and_a_stranger_nothing(world);
        pages_of_the_node_are_served(world);
    });
}

fn amounts_are_plausible(world: &World) {
    let raw = |path: &str| -> Value {
        serde_json::from_str(&world.kubectl(&["get", "--raw", path])).unwrap()
    };
    let pod = raw("/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/busy");
    let usage = |name: &str| {
        let containers = pod["containers"].as_array().unwrap();
        let found = containers.iter().find(|it| it["name"] == name).unwrap();
        (nanocores(&found["usage"]["cpu"]), bytes(&found["usage"]["memory"]))
    };
    let ((spin, _), (idle, held)) = (usage("spin"), usage("hold"));
    // Its limit is a fifth of a core; other tests may leave it less.
    assert!((1_000_000..400_000_000).contains(&spin), "{pod}");
    assert!(idle < spin, "{pod}");
    assert!((20_000_000..60_000_000).contains(&held), "{pod}");
    assert_eq!(pod["metadata"]["labels"]["app"], "busy");
    let node = raw("/apis/metrics.k8s.io/v1beta1/nodes/n0");
    assert!(
        nanocores(&node["usage"]["cpu"]) > 0 && bytes(&node["usage"]["memory"]) > held,
        "{node}"
    );
}

fn nanocores(quantity: &Value) -> u64 {
    let text = quantity.as_str().unwrap();
    let (digits, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let factor = match unit {
        "n" => 1,
        "u" => 1000,
        "m" => 1_000_000,
        _ => 1_000_000_000,
    };
    digits.parse::<u64>().unwrap() * factor
}

fn bytes(quantity: &Value) -> u64 {
    let text = quantity.as_str().unwrap();
    let (digits, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let power = match unit {
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        _ => 0,
    };
    digits.parse::<u64>().unwrap() << power
}

/// The role `view` shows what pods use.
fn a_viewer_sees_pods_and_a_stranger_nothing(world: &World) {
    world.kubectl(&["create", "serviceaccount", "robot"]);
    let me = "--as=system:serviceaccount:default:robot";
    let refused = world.try_kubectl(&["top", "pods", me]);
    assert!(text(&refused).contains("pods.metrics.k8s.io is forbidden"), "{}", text(&refused));
    world.kubectl(&[
        "create",
        "rolebinding",
        "v",
        "--clusterrole=view",
        "--serviceaccount=default:robot",
    ]);
    world.wait("the role view to show metrics", |it| {
        let output = it.try_kubectl(&["top", "pods", me]);
        if text(&output).contains("calm") { Ok(()) } else { Err(text(&output)) }
    });
}

fn pages_of_the_node_are_served(world: &World) {
    for (path, code, expected) in [
        ("healthz", 0, "ok"),
        (
            "metrics/resource",
            0,
            "container_cpu_usage_seconds_total{container=\"spin\",namespace=\"default\",pod=\"busy\"} ",
        ),
        ("stats/summary", 0, "\"workingSetBytes\""),
        ("pods", 0, "\"kind\":\"PodList\""),
        ("logs/", 1, "could not find the requested resource"),
    ] {
        let output =
            world.try_kubectl(&["get", "--raw", &format!("/api/v1/nodes/n0/proxy/{path}")]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{path}\n{said}");
        assert!(said.contains(expected), "{path}: no {expected:?} in\n{said}");
    }
}
