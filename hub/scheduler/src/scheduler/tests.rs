//! What the scheduler decides, case by case, and that it keeps its books right.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn node(name: &str, cpu: &str, change: Value) -> Value {
    let mut node = json!({
        "metadata": {"name": name},
        "spec": {},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}},
    });
    json_merge(&mut node, change);
    node
}

fn pod(name: &str, cpu: &str, change: Value) -> Value {
    let mut pod = json!({
        "metadata": {"namespace": "default", "name": name, "uid": name},
        "spec": {"containers": [{"resources": {"requests": {"cpu": cpu}}}]},
    });
    json_merge(&mut pod, change);
    pod
}

fn json_merge(value: &mut Value, change: Value) {
    match (value, change) {
        (Value::Object(fields), Value::Object(changes)) => {
            for (key, change) in changes {
                json_merge(fields.entry(key).or_insert(Value::Null), change);
            }
        }
        (value, change) => *value = change,
    }
}

fn decide(nodes: &[Value], pods: &[Value]) -> Vec<String> {
    let mut scheduler = Scheduler::new();
    nodes.iter().for_each(|it| scheduler.handle_node(it));
    pods.iter().for_each(|it| scheduler.handle_pod(it));
    decisions(&mut scheduler, NOW)
}

fn decisions(scheduler: &mut Scheduler, now: Timestamp) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(decision) = scheduler.poll_decision(now) {
        texts.push(match decision {
            Decision::Bind { pod, node } => format!("{} -> {node}", pod.name),
            Decision::Unschedulable { pod, message } => format!("{}: {message}", pod.name),
        });
    }
    texts
}

#[test]
fn pods_spread_over_nodes_with_room() {
    let nodes = [node("a", "2", json!({})), node("b", "2", json!({}))];
    let pods = [pod("p", "1", json!({})), pod("q", "1", json!({}))];
    assert_eq!(decide(&nodes, &pods), ["p -> a", "q -> b"]);
    // Also those that ask for nothing.
    let pods = [pod("p", "0", json!({})), pod("q", "0", json!({}))];
    assert_eq!(decide(&nodes, &pods), ["p -> a", "q -> b"]);
}

#[test]
fn higher_priority_goes_first() {
    let pods = [pod("p", "1", json!({})), pod("q", "1", json!({"spec": {"priority": 5}}))];
    assert_eq!(decide(&[node("a", "1", json!({}))], &pods)[0], "q -> a");
}

#[test]
fn the_user_is_told_why_a_pod_waits() {
    let tainted = json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}});
    let cordoned = json!({"spec": {"unschedulable": true}});
    let check = |nodes: &[Value], change: Value, expect: &str| {
        assert_eq!(decide(nodes, &[pod("p", "2", change)]), [format!("p: {expect}")]);
    };
    check(&[], json!({}), "no nodes available to schedule pods");
    check(
        &[node("a", "1", json!({})), node("b", "4", tainted.clone())],
        json!({}),
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {k: v}. \
         preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
    );
    check(
        &[node("a", "4", cordoned), node("b", "4", json!({}))],
        json!({"spec": {"nodeSelector": {"disk": "ssd"}}}),
        "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, \
         1 node(s) were unschedulable. \
         preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
    );
    check(
        &[node("a", "4", json!({"status": {"allocatable": {"pods": "0"}}}))],
        json!({"spec": {"containers": [{"resources": {"requests": {"x.io/gpu": "1"}}}]}}),
        "0/1 nodes are available: 1 Insufficient x.io/gpu, 1 Too many pods. \
         preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    );
    let toleration = json!({"spec": {"tolerations": [{"key": "k", "operator": "Exists"}]}});
    assert_eq!(decide(&[node("b", "4", tainted)], &[pod("p", "2", toleration)]), ["p -> b"]);
}

#[test]
fn host_ports_clash_by_address_protocol_and_port() {
    let on_port = |name: &str, port: Value| {
        pod(name, "0", json!({"spec": {"containers": [{"ports": [port]}]}}))
    };
    let tcp = |address: &str| json!({"hostPort": 80, "hostIP": address});
    let pods = [on_port("p", tcp("")), on_port("q", tcp("10.0.0.1"))];
    let clash = "q: 0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod \
                 ports. preemption: 0/1 nodes are available: 1 No preemption victims found for \
                 incoming pod.";
    assert_eq!(decide(&[node("a", "1", json!({}))], &pods), ["p -> a", clash]);
    let udp = json!({"hostPort": 80, "protocol": "UDP"});
    let pods = [on_port("p", tcp("10.0.0.2")), on_port("q", tcp("10.0.0.1")), on_port("r", udp)];
    assert_eq!(decide(&[node("a", "1", json!({}))], &pods), ["p -> a", "q -> a", "r -> a"]);
}

#[test]
fn preferences_decide_between_nodes_that_fit() {
    let soft = json!({"spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}});
    let nodes = [node("a", "8", soft), node("b", "2", json!({}))];
    assert_eq!(decide(&nodes, &[pod("p", "1", json!({}))]), ["p -> b"]);
    let expression = json!({"key": "zone", "operator": "In", "values": ["x"]});
    let preference = json!([{"weight": 1, "preference": {"matchExpressions": [expression]}}]);
    let affinity = json!({"spec": {"affinity": {"nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": preference,
    }}}});
    let labelled = json!({"metadata": {"labels": {"zone": "x"}}});
    let nodes = [node("a", "8", json!({})), node("b", "2", labelled)];
    assert_eq!(decide(&nodes, &[pod("p", "1", affinity)]), ["p -> b"]);
}

#[test]
fn a_waiting_pod_is_bound_as_soon_as_it_fits() {
    let mut scheduler = Scheduler::new();
    scheduler.handle_node(&node("a", "1", json!({})));
    scheduler.handle_pod(&pod("p", "1", json!({"spec": {"nodeName": "a"}})));
    scheduler.handle_pod(&pod("q", "1", json!({})));
    assert_eq!(decisions(&mut scheduler, NOW).len(), 1);
    // Said once.
    scheduler.handle_pod(&pod("q", "1", json!({})));
    assert_eq!(decisions(&mut scheduler, NOW), Vec::<String>::new());
    scheduler.handle_pod_removed("p");
    assert_eq!(decisions(&mut scheduler, NOW), ["q -> a"]);
}

#[test]
fn a_new_explanation_comes_after_back_off() {
    let mut scheduler = Scheduler::new();
    scheduler.handle_pod(&pod("p", "2", json!({})));
    assert_eq!(decisions(&mut scheduler, NOW), ["p: no nodes available to schedule pods"]);
    scheduler.handle_node(&node("a", "1", json!({})));
    assert_eq!(decisions(&mut scheduler, NOW), Vec::<String>::new());
    let later = scheduler.poll_timeout().unwrap();
    assert!(decisions(&mut scheduler, later)[0].starts_with("p: 0/1 nodes are available"));
    assert_eq!(scheduler.poll_timeout(), None);
}

#[test]
fn a_failed_bind_gives_the_room_back_and_is_tried_again() {
    let mut scheduler = Scheduler::new();
    scheduler.handle_node(&node("a", "1", json!({})));
    scheduler.handle_pod(&pod("p", "1", json!({})));
    assert_eq!(decisions(&mut scheduler, NOW), ["p -> a"]);
    scheduler.handle_bind_failed("p", NOW);
    assert_eq!(decisions(&mut scheduler, NOW), Vec::<String>::new());
    let later = scheduler.poll_timeout().unwrap();
    assert_eq!(decisions(&mut scheduler, later), ["p -> a"]);
}

#[test]
fn pods_that_are_not_ours_to_place_are_left_alone() {
    let gated = pod("g", "1", json!({"spec": {"schedulingGates": [{"name": "x"}]}}));
    let foreign = pod("f", "1", json!({"spec": {"schedulerName": "other"}}));
    let deleted = pod("d", "1", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    let nodes = [node("a", "9", json!({}))];
    assert_eq!(decide(&nodes, &[gated, foreign, deleted]), Vec::<String>::new());
}

#[derive(Clone, Debug)]
enum Step {
    AddNode(u8, u8),
    RemoveNode(u8),
    AddPod(u8, u8, u8),
    RemovePod(u8),
    FailBind(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_u8, 1..5_u8).prop_map(|(node, cpu)| Step::AddNode(node, cpu)),
        (0..4_u8).prop_map(Step::RemoveNode),
        (0..12_u8, 0..3_u8, 0..2_u8).prop_map(|(pod, cpu, port)| Step::AddPod(pod, cpu, port)),
        (0..12_u8).prop_map(Step::RemovePod),
        (0..12_u8).prop_map(Step::FailBind),
    ]
}

/// A slow and simple picture of the same cluster.
#[derive(Default)]
struct Model {
    nodes: BTreeMap<String, i64>,
    /// Node, CPU and whether it takes the port.
    placed: BTreeMap<String, (String, i64, bool)>,
}

impl Model {
    fn place(&mut self, pod: String, node: &str, cpu: i64, has_port: bool) {
        let on_node = || self.placed.values().filter(|(it, ..)| it == node);
        let used: i64 = on_node().map(|(_, cpu, _)| cpu).sum();
        assert!(used + cpu <= self.nodes[node], "{pod} does not fit on {node}");
        assert!(!(has_port && on_node().any(|(.., port)| *port)), "{pod} clashes on {node}");
        self.placed.insert(pod, (node.to_owned(), cpu, has_port));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: nothing is overbooked, and every pod that fits is bound.
    #[test]
    fn books_are_kept_right(steps in proptest::collection::vec(step(), 1..60)) {
        let mut scheduler = Scheduler::new();
        let mut model = Model::default();
        let mut specs: BTreeMap<String, (i64, bool)> = BTreeMap::new();
        let mut now = NOW;
        for step in steps {
            match step {
                Step::AddNode(name, cpu) => {
                    let name = format!("n{name}");
                    // Shrinking a node under its pods is possible, and not the point here.
                    let cpu = model.nodes.get(&name).copied().unwrap_or_default().max(cpu.into());
                    scheduler.handle_node(&node(&name, &cpu.to_string(), json!({})));
                    model.nodes.insert(name, cpu);
                }
                Step::RemoveNode(name) => {
                    let name = format!("n{name}");
                    if model.placed.values().any(|(node, ..)| *node == name) {
                        continue;
                    }
                    scheduler.handle_node_removed(&name);
                    model.nodes.remove(&name);
                }
                Step::AddPod(name, cpu, port) => {
                    let name = format!("p{name}");
                    if specs.contains_key(&name) {
                        continue;
                    }
                    let ports = if port == 1 { json!([{"hostPort": 80}]) } else { json!([]) };
                    let requests = json!({"requests": {"cpu": cpu.to_string()}});
                    let container = json!({"resources": requests, "ports": ports});
                    let change = json!({"spec": {"containers": [container]}});
                    scheduler.handle_pod(&pod(&name, "0", change));
                    specs.insert(name, (cpu.into(), port == 1));
                }
                Step::RemovePod(name) => {
                    let name = format!("p{name}");
                    scheduler.handle_pod_removed(&name);
                    model.placed.remove(&name);
                    specs.remove(&name);
                }
                Step::FailBind(name) => {
                    let name = format!("p{name}");
                    scheduler.handle_bind_failed(&name, now);
                    model.placed.remove(&name);
                }
            }
            now = scheduler.poll_timeout().map_or(now, |at| at.max(now));
            while let Some(decision) = scheduler.poll_decision(now) {
                if let Decision::Bind { pod, node } = decision {
                    let (cpu, port) = specs[&pod.name];
                    model.place(pod.name, &node, cpu, port);
                }
            }
        }
        while let Some(at) = scheduler.poll_timeout() {
            while let Some(decision) = scheduler.poll_decision(at) {
                if let Decision::Bind { pod, node } = decision {
                    let (cpu, port) = specs[&pod.name];
                    model.place(pod.name, &node, cpu, port);
                }
            }
        }
        for (pod, (cpu, port)) in specs.iter().filter(|(pod, _)| !model.placed.contains_key(*pod)) {
            for (node, allocatable) in &model.nodes {
                let on_node = || model.placed.values().filter(|(it, ..)| it == node);
                let used: i64 = on_node().map(|(_, cpu, _)| cpu).sum();
                let is_clash = *port && on_node().any(|(.., port)| *port);
                prop_assert!(used + cpu > *allocatable || is_clash, "{pod} would fit on {node}");
            }
        }
    }
}
