//! Node lifecycle: notices nodes that fell silent, taints them, and moves pods that do not want to wait.
//!
//! A node is lost when its lease was not seen to change for 40 s, by the clock of this process: `renewTime` is of the
//! clock of the hub that the node is connected to, which may be another one. This hub itself may have been away, so that
//! nothing is held against a node in the first 40 s of this process. Pods of a lost node stop being ready, so
//! that Services drop them. When the node is heard again, everything is as it said last, until it says
//! otherwise: it does not know that it was out of sight, and need not repeat itself over a thin link.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::condition::{self, Condition};
use crate::object::{Kind, Name, Object, ObjectRef};
use crate::taint::{Leave, leave};
use crate::value::{at, bool_at, list_at, str_at, time_text};
use crate::world::{Change, World};
use crate::write::{Note, Write};
use crate::{Controller, Plan, pods};

/// Namespace of the leases that nodes renew.
pub const LEASES: &str = "kube-node-lease";
/// How long a node may be silent.
pub const GRACE: SignedDuration = SignedDuration::from_secs(40);
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Reason of a Ready condition that is false only because the node is out of sight.
const OUT_OF_SIGHT: &str = "NodeUnreachable";

/// Annotation of a node out of sight: its conditions as it told them last.
const LAST_TOLD: &str = "outbye.io/last-told-conditions";
/// Conditions that nodes tell, and that nobody knows while the node is out of sight.
const TOLD: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Conditions that keep new pods away, with their taints.
const PRESSURES: &[(&str, &str)] = &[
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

#[derive(Debug)]
pub struct NodeLifecycleController;

impl Controller for NodeLifecycleController {
    fn name(&self) -> &'static str {
        "node-controller"
    }

    fn affected(&self, change: &Change<'_>, _world: &World) -> Vec<ObjectRef> {
        let Some(object) = change.latest() else { return Vec::new() };
        match change.kind {
            Kind::NODE => vec![object.key()],
            Kind::LEASE if object.name.namespace == LEASES => {
                vec![Kind::NODE.key(&Name::cluster(&object.name.name))]
            }
            Kind::POD => match str_at(object.spec(), &["nodeName"]) {
                "" => Vec::new(),
                node => vec![Kind::NODE.key(&Name::cluster(node))],
            },
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, now: Timestamp) -> Plan {
        let Some(node) = world.find(key) else { return Plan::default() };
        let mut plan = Plan::default();
        let silent_at = last_heard(node, world).checked_add(GRACE).unwrap_or(Timestamp::MAX);
        let sight = match silent_at <= now {
            true => Sight::Lost,
            false if condition::state(node.status(), "Ready") == "True" => Sight::Ready,
            false => Sight::Known,
        };
        if sight != Sight::Lost {
            plan.recheck_by(silent_at);
        }
        let taints = taints(node, sight, now);
        // Taints come first, since they hold for the very revision that was looked at.
        if taints != list_at(node.spec(), &["taints"]) {
            let taints = if taints.is_empty() { Value::Null } else { json!(taints) };
            let patch = json!({"spec": {"taints": taints}});
            plan.writes.push(Write::patch_exactly(node, None, patch));
        }
        match sight {
            Sight::Lost => plan.writes.extend(mark_lost(node, world, now)),
            Sight::Known | Sight::Ready if is_heard(node, world, now) => {
                plan.writes.extend(restore(node, now));
            }
            // Nothing is held against it yet, but nothing speaks for it either.
            Sight::Known | Sight::Ready => {}
        }
        for pod in world.pods_on(&node.name.name).filter(|pod| !pods::is_finished(pod)) {
            plan.writes.extend(mark_pod(pod, sight, now));
            match leave(pod, &taints, now) {
                Leave::At(at) if at > now => plan.recheck_by(at),
                Leave::At(_) if !pod.is_deleting() => plan.writes.extend(evict(pod, world, now)),
                Leave::At(_) | Leave::Never => {}
            }
        }
        plan
    }
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sight {
    /// It says that it is ready.
    Ready,
    /// It talks to us, and is not ready.
    Known,
    /// It has been silent for too long.
    Lost,
}

/// Whether the node itself was heard lately.
fn is_heard(node: &Object, world: &World, now: Timestamp) -> bool {
    world.node_heard_at(&node.name.name).is_some_and(|at| now.duration_since(at) < GRACE)
}

/// When the node was heard last, or could not have been heard.
fn last_heard(node: &Object, world: &World) -> Timestamp {
    let since = world.node_known_since(&node.name.name);
    world.node_heard_at(&node.name.name).map_or(since, |at| at.max(since))
}

/// The taints that a node is to have: its own, and those that follow from its state.
fn taints(node: &Object, sight: Sight, now: Timestamp) -> Vec<Value> {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match (sight, condition::state(node.status(), "Ready")) {
        (Sight::Lost, _) | (_, "Unknown") => {
            wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]);
        }
        (_, "False") => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        // It has joined and not said anything yet.
        (_, "") => wanted.push((NOT_READY, "NoSchedule")),
        _ => {}
    }
    let has = |condition: &str| condition::state(node.status(), condition) == "True";
    let pressures = PRESSURES.iter().filter(|(condition, _)| has(condition));
    wanted.extend(pressures.map(|(_, taint)| (*taint, "NoSchedule")));
    if bool_at(node.spec(), &["unschedulable"]) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let mut taints = Vec::new();
    for taint in list_at(node.spec(), &["taints"]) {
        let name = (str_at(taint, &["key"]), str_at(taint, &["effect"]));
        let place = wanted.iter().position(|it| *it == name);
        if place.is_none() && is_ours(name) {
            continue;
        }
        if let Some(place) = place {
            wanted.remove(place);
        }
        taints.push(dated(taint.clone(), now));
    }
    let new = wanted.into_iter().map(|(key, effect)| json!({"key": key, "effect": effect}));
    taints.extend(new.map(|taint| dated(taint, now)));
    taints
}

fn is_ours((key, effect): (&str, &str)) -> bool {
    match effect {
        "NoExecute" => key == NOT_READY || key == UNREACHABLE,
        "NoSchedule" => {
            [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&key)
                || PRESSURES.iter().any(|(_, taint)| *taint == key)
        }
        _ => false,
    }
}

/// A taint that drives pods away says since when, so that a restart of the hub gives no new patience.
fn dated(mut taint: Value, now: Timestamp) -> Value {
    if str_at(&taint, &["effect"]) == "NoExecute" && at(&taint, &["timeAdded"]).is_null() {
        taint["timeAdded"] = json!(time_text(now));
    }
    taint
}

fn mark_lost(node: &Object, world: &World, now: Timestamp) -> Vec<Write> {
    let mut conditions = condition::list(node.status());
    let mut is_change = false;
    for kind in TOLD {
        let is_known = condition::find(node.status(), kind).is_some();
        if is_known && condition::state(node.status(), kind) == "Unknown" {
            continue;
        }
        let (reason, message) = match is_known {
            true => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            false => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        let heartbeat = condition::find(node.status(), kind)
            .and_then(|it| it.get("lastHeartbeatTime"))
            .cloned();
        let message = message.to_owned();
        let new = Condition { kind, status: "Unknown", reason, message };
        is_change |= condition::set(&mut conditions, &new, None, now);
        let place = conditions.iter_mut().find(|it| str_at(it, &["type"]) == kind);
        if let (Some(condition), Some(heartbeat)) = (place, heartbeat) {
            condition["lastHeartbeatTime"] = heartbeat;
        }
    }
    if !is_change {
        return Vec::new();
    }
    let mut patch = json!({"status": {"conditions": conditions}});
    if node.annotation(LAST_TOLD).is_none() {
        let told = TOLD.iter().filter_map(|kind| condition::find(node.status(), kind));
        let told = told.cloned().collect::<Value>().to_string();
        patch["metadata"] = json!({"annotations": {LAST_TOLD: told}});
    }
    let mut writes = vec![Write::patch(node, Some("status"), patch)];
    if condition::state(node.status(), "Ready") == "True" {
        let message = format!("Node {} status is now: NodeNotReady", node.name.name);
        writes.push(Write::Note(Note::normal(node, world, "NodeNotReady", message)));
    }
    writes
}

/// Brings back what a node said before it was out of sight, unless it has spoken since.
fn restore(node: &Object, now: Timestamp) -> Option<Write> {
    let told: Vec<Value> = serde_json::from_str(node.annotation(LAST_TOLD)?).unwrap_or_default();
    let mut conditions = condition::list(node.status());
    conditions.retain(|it| str_at(it, &["reason"]) != "NodeStatusNeverUpdated");
    for condition in &mut conditions {
        let kind = str_at(condition, &["type"]);
        let old = told.iter().find(|it| str_at(it, &["type"]) == kind);
        if let (Some(old), "NodeStatusUnknown") = (old, str_at(condition, &["reason"])) {
            *condition = old.clone();
            condition["lastTransitionTime"] = json!(time_text(now));
        }
    }
    let patch = json!({
        "metadata": {"annotations": {LAST_TOLD: null}}, "status": {"conditions": conditions},
    });
    Some(Write::patch_exactly(node, Some("status"), patch))
}

/// Takes readiness from a pod that is out of sight, and gives it back.
fn mark_pod(pod: &Object, sight: Sight, now: Timestamp) -> Option<Write> {
    let ready = condition::find(pod.status(), "Ready")?;
    let new = match (sight, str_at(ready, &["status"])) {
        (Sight::Lost, "True") => Condition {
            kind: "Ready",
            status: "False",
            reason: OUT_OF_SIGHT,
            message: "The node of this pod is unreachable.".to_owned(),
        },
        (Sight::Ready, "False") if str_at(ready, &["reason"]) == OUT_OF_SIGHT => {
            Condition { kind: "Ready", status: "True", reason: "", message: String::new() }
        }
        _ => return None,
    };
    let mut conditions = condition::list(pod.status());
    condition::set(&mut conditions, &new, None, now);
    for condition in &mut conditions {
        crate::value::object_mut(condition).retain(|_, value| value != "");
    }
    let patch = json!({"status": {"conditions": conditions}});
    Some(Write::patch_exactly(pod, Some("status"), patch))
}

fn evict(pod: &Object, world: &World, now: Timestamp) -> Vec<Write> {
    let new = Condition {
        kind: "DisruptionTarget",
        status: "True",
        reason: "DeletionByTaintManager",
        message: "Taint manager: deleting due to NoExecute taint".to_owned(),
    };
    let mut conditions = condition::list(pod.status());
    let is_change = condition::set(&mut conditions, &new, None, now);
    let patch = json!({"status": {"conditions": conditions}});
    let mark = is_change.then(|| Write::patch(pod, Some("status"), patch));
    let message = format!("Marking for deletion Pod {}", pod.name);
    let note = Write::Note(Note::normal(pod, world, "TaintManagerEviction", message));
    mark.into_iter().chain([Write::delete(pod), note]).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing;
    use crate::value::time_at;

    fn node(ready: &str, taints: Value) -> (Kind, Value) {
        let condition = json!({
            "type": "Ready", "status": ready, "reason": "R", "message": "m",
            "lastTransitionTime": "2026-11-20T07:00:00Z",
        });
        let conditions = if ready.is_empty() { json!([]) } else { json!([condition]) };
        let spec = if taints == json!([]) { json!({}) } else { json!({"taints": taints}) };
        let status = json!({"conditions": conditions});
        (Kind::NODE, json!({"metadata": {"name": "n"}, "spec": spec, "status": status}))
    }

    fn lease(renewed: &str) -> (Kind, Value) {
        let metadata = json!({"name": "n", "namespace": LEASES});
        (Kind::LEASE, json!({"metadata": metadata, "spec": {"renewTime": renewed}}))
    }

    fn pod(ready: &str, reason: &str, tolerations: Value) -> (Kind, Value) {
        let mut condition = json!({"type": "Ready", "status": ready});
        if !reason.is_empty() {
            condition["reason"] = json!(reason);
        }
        let spec = json!({"nodeName": "n", "tolerations": tolerations});
        let status = json!({"phase": "Running", "conditions": [condition]});
        (Kind::POD, json!({"metadata": {"name": "p"}, "spec": spec, "status": status}))
    }

    fn check(objects: Vec<(Kind, Value)>, expect: Expect) {
        let key = Kind::NODE.key(&Name::cluster("n"));
        let (leases, others): (Vec<_>, Vec<_>) =
            objects.into_iter().partition(|(kind, _)| *kind == Kind::LEASE);
        let mut world = testing::world(others);
        for (_, lease) in leases {
            let at = time_at(&lease, &["spec", "renewTime"]).unwrap();
            show(&mut world, lease, at);
        }
        expect.assert_eq(&testing::plan(&NodeLifecycleController, &key, &world));
    }

    /// Hands in a Lease, after the first list.
    fn show(world: &mut World, lease: Value, at: Timestamp) {
        world.mark_synced(Kind::LEASE, 0);
        world.put(Object::from_value(Kind::LEASE, lease), at);
    }

    const FRESH: &str = "2026-11-20T07:59:50.000000Z";
    const STALE: &str = "2026-11-20T07:59:20.000000Z";

    #[test]
    fn a_silent_node_is_marked_and_tainted() {
        check(
            vec![node("True", json!([])), lease(FRESH)],
            expect![[r#"
            recheck at 2026-11-20T08:00:30Z
        "#]],
        );
        check(
            vec![node("True", json!([])), lease(STALE)],
            expect![[r#"
                patch nodes n {"metadata":{"resourceVersion":"7","uid":"n"},"spec":{"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/unreachable"},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","timeAdded":"2026-11-20T08:00:00Z"}]}}
                patch nodes n/status {"metadata":{"annotations":{"outbye.io/last-told-conditions":"[{\"lastTransitionTime\":\"2026-11-20T07:00:00Z\",\"message\":\"m\",\"reason\":\"R\",\"status\":\"True\",\"type\":\"Ready\"}]"},"uid":"n"},"status":{"conditions":[{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"Kubelet stopped posting node status.","reason":"NodeStatusUnknown","status":"Unknown","type":"Ready"},{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"MemoryPressure"},{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"DiskPressure"},{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"PIDPressure"}]}}
                note NodeNotReady: Node n status is now: NodeNotReady
            "#]],
        );
        check(
            vec![node("False", json!([])), lease(FRESH)],
            expect![[r#"
            patch nodes n {"metadata":{"resourceVersion":"7","uid":"n"},"spec":{"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/not-ready"},{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","timeAdded":"2026-11-20T08:00:00Z"}]}}
            recheck at 2026-11-20T08:00:30Z
        "#]],
        );
        check(
            vec![node("", json!([])), lease(FRESH)],
            expect![[r#"
            patch nodes n {"metadata":{"resourceVersion":"7","uid":"n"},"spec":{"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/not-ready"}]}}
            recheck at 2026-11-20T08:00:30Z
        "#]],
        );
    }

    #[test]
    fn a_node_that_is_heard_again_is_as_it_said_last() {
        let (kind, mut lost) = node("True", json!([]));
        let key = Kind::NODE.key(&Name::cluster("n"));
        let world = testing::world([(kind, lost.clone()), lease(STALE)]);
        let plan = NodeLifecycleController.reconcile(&key, &world, testing::now());
        let patch = plan.writes.iter().find_map(|write| match write {
            Write::Patch { subresource: Some("status"), patch, .. } => Some(patch.clone()),
            Write::Create { .. }
            | Write::Patch { .. }
            | Write::Replace { .. }
            | Write::Delete { .. }
            | Write::Note(_) => None,
        });
        let patch = patch.unwrap();
        lost["status"] = patch["status"].clone();
        lost["metadata"]["annotations"] = patch["metadata"]["annotations"].clone();
        check(
            vec![(kind, lost.clone()), lease(FRESH)],
            expect![[r#"
            patch nodes n {"metadata":{"resourceVersion":"7","uid":"n"},"spec":{"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/unreachable"},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","timeAdded":"2026-11-20T08:00:00Z"}]}}
            patch nodes n/status {"metadata":{"annotations":{"outbye.io/last-told-conditions":null},"resourceVersion":"7","uid":"n"},"status":{"conditions":[{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"m","reason":"R","status":"True","type":"Ready"}]}}
            recheck at 2026-11-20T08:00:30Z
        "#]],
        );
        // A hub that has just started waits for the node itself.
        let mut started = World::new(testing::rows(), testing::now());
        for (kind, object) in [(kind, lost.clone()), lease(STALE)] {
            let mut object = object;
            object["metadata"]["uid"] = json!("n");
            started.put(Object::from_value(kind, object), testing::now());
        }
        let plan = testing::plan(&NodeLifecycleController, &key, &started);
        assert!(!plan.contains("/status"), "{plan}");
        // What it has said meanwhile counts.
        lost["status"]["conditions"] = json!([{"type": "Ready", "status": "False", "reason": "R"}]);
        check(
            vec![(kind, lost), lease(FRESH)],
            expect![[r#"
            patch nodes n {"metadata":{"resourceVersion":"7","uid":"n"},"spec":{"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/not-ready"},{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","timeAdded":"2026-11-20T08:00:00Z"}]}}
            patch nodes n/status {"metadata":{"annotations":{"outbye.io/last-told-conditions":null},"resourceVersion":"7","uid":"n"},"status":{"conditions":[{"reason":"R","status":"False","type":"Ready"}]}}
            recheck at 2026-11-20T08:00:30Z
        "#]],
        );
    }

    #[test]
    fn a_node_is_heard_when_its_lease_changes_whatever_the_clock_that_wrote_it() {
        const STARTED: &str = "2026-11-20T07:00:00Z";
        const BEHIND: &str = "2026-11-20T06:00:00Z";
        const AHEAD: &str = "2026-11-20T09:00:00Z";
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let check = |listed: &[&str], shown: &[(&str, &str)], expect: &str, is_known: bool| {
            let mut world = World::new(testing::rows(), time(STARTED));
            let (kind, node) = node("True", json!([]));
            world.put(Object::from_value(kind, node), time(STARTED));
            for renewed in listed {
                world.put(Object::from_value(Kind::LEASE, lease(renewed).1), time(STARTED));
            }
            for (renewed, at) in shown {
                show(&mut world, lease(renewed).1, time(at));
            }
            let node = world.get(Kind::NODE, &Name::cluster("n")).unwrap();
            let last = last_heard(node, &world);
            assert_eq!(last, time(expect), "{listed:?} {shown:?}");
            let heard = is_heard(node, &world, last);
            assert_eq!(heard, is_known, "{listed:?} {shown:?}");
        };
        let at = "2026-11-20T07:59:10Z";
        check(&[], &[(BEHIND, at)], at, true);
        check(&[], &[(AHEAD, at)], at, true);
        // A clock that was set back.
        check(&[], &[(AHEAD, "2026-11-20T07:59:00Z"), (BEHIND, at)], at, true);
        // A change of something else is not the node's.
        check(&[], &[(AHEAD, at), (AHEAD, "2026-11-20T07:59:50Z")], at, true);
        // What was there at the start may be of last year.
        check(&[AHEAD], &[], STARTED, false);
        check(&[FRESH], &[(FRESH, at)], STARTED, false);
        check(&[FRESH], &[(BEHIND, at)], at, true);
    }

    #[test]
    fn a_node_that_is_new_or_lost_its_lease_has_time_to_be_heard() {
        let key = Kind::NODE.key(&Name::cluster("n"));
        let at = |seconds: i64| testing::now() + SignedDuration::from_secs(seconds);
        let mut world = testing::world([]);
        world.mark_synced(Kind::NODE, 0);
        let (kind, mut object) = node("True", json!([]));
        // The clock of the hub that it joined is a day behind.
        object["metadata"]["creationTimestamp"] = json!("2026-11-19T08:00:00Z");
        world.put(Object::from_value(kind, object), at(-30));
        let recheck = |world: &World| {
            NodeLifecycleController.reconcile(&key, world, testing::now()).recheck_at
        };
        assert_eq!(recheck(&world), Some(at(10)));
        show(&mut world, lease(FRESH).1, at(-20));
        assert_eq!(recheck(&world), Some(at(20)));
        let lease = Kind::LEASE.key(&Name::new(LEASES, "n"));
        world.remove(&lease, 0, at(-5));
        assert_eq!(recheck(&world), Some(at(20)));
        world.remove(&key, 0, at(-1));
        assert_eq!(world.node_heard_at("n"), None);
    }

    #[test]
    fn taints_of_others_stay_and_ours_go() {
        let theirs = json!({"key": "mine", "effect": "NoExecute"});
        let ours = json!({"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": "t"});
        check(
            vec![node("True", json!([theirs, ours])), lease(FRESH)],
            expect![[r#"
            patch nodes n {"metadata":{"resourceVersion":"7","uid":"n"},"spec":{"taints":[{"effect":"NoExecute","key":"mine","timeAdded":"2026-11-20T08:00:00Z"}]}}
            recheck at 2026-11-20T08:00:30Z
        "#]],
        );
    }

    #[test]
    fn pods_out_of_sight_are_not_ready_until_the_node_is_back() {
        let forever = json!([{"operator": "Exists"}]);
        let gone = json!([
            {"key": UNREACHABLE, "effect": "NoSchedule"},
            {"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": "2026-11-20T07:00:00Z"},
        ]);
        let unknown = || node("Unknown", gone.clone());
        check(
            vec![unknown(), lease(STALE), pod("True", "", forever.clone())],
            expect![[r#"
                patch nodes n/status {"metadata":{"annotations":{"outbye.io/last-told-conditions":"[{\"lastTransitionTime\":\"2026-11-20T07:00:00Z\",\"message\":\"m\",\"reason\":\"R\",\"status\":\"Unknown\",\"type\":\"Ready\"}]"},"uid":"n"},"status":{"conditions":[{"lastTransitionTime":"2026-11-20T07:00:00Z","message":"m","reason":"R","status":"Unknown","type":"Ready"},{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"MemoryPressure"},{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"DiskPressure"},{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"PIDPressure"}]}}
                patch pods default/p/status {"metadata":{"resourceVersion":"7","uid":"p"},"status":{"conditions":[{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"The node of this pod is unreachable.","reason":"NodeUnreachable","status":"False","type":"Ready"}]}}
            "#]],
        );
        let hidden = || pod("False", OUT_OF_SIGHT, forever.clone());
        check(
            vec![unknown(), lease(STALE), hidden()],
            expect![[r#"
                patch nodes n/status {"metadata":{"annotations":{"outbye.io/last-told-conditions":"[{\"lastTransitionTime\":\"2026-11-20T07:00:00Z\",\"message\":\"m\",\"reason\":\"R\",\"status\":\"Unknown\",\"type\":\"Ready\"}]"},"uid":"n"},"status":{"conditions":[{"lastTransitionTime":"2026-11-20T07:00:00Z","message":"m","reason":"R","status":"Unknown","type":"Ready"},{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"MemoryPressure"},{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"DiskPressure"},{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"PIDPressure"}]}}
            "#]],
        );
        check(
            vec![node("True", json!([])), lease(FRESH), hidden()],
            expect![[r#"
            patch pods default/p/status {"metadata":{"resourceVersion":"7","uid":"p"},"status":{"conditions":[{"lastTransitionTime":"2026-11-20T08:00:00Z","status":"True","type":"Ready"}]}}
            recheck at 2026-11-20T08:00:30Z
        "#]],
        );
        // Not ready for a reason of its own.
        check(
            vec![node("True", json!([])), lease(FRESH), pod("False", "Other", forever)],
            expect![[r#"
                recheck at 2026-11-20T08:00:30Z
            "#]],
        );
    }

    #[test]
    fn pods_leave_when_they_do_not_want_to_wait() {
        let taint = json!({
            "key": UNREACHABLE, "effect": "NoExecute", "timeAdded": "2026-11-20T07:58:00Z",
        });
        let soft = json!({"key": UNREACHABLE, "effect": "NoSchedule"});
        let tolerates = |seconds: i64| json!([{"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": seconds}]);
        let unknown = || node("Unknown", json!([soft, taint]));
        let objects = |seconds| vec![unknown(), lease(STALE), pod("False", "", tolerates(seconds))];
        check(
            objects(300),
            expect![[r#"
                patch nodes n/status {"metadata":{"annotations":{"outbye.io/last-told-conditions":"[{\"lastTransitionTime\":\"2026-11-20T07:00:00Z\",\"message\":\"m\",\"reason\":\"R\",\"status\":\"Unknown\",\"type\":\"Ready\"}]"},"uid":"n"},"status":{"conditions":[{"lastTransitionTime":"2026-11-20T07:00:00Z","message":"m","reason":"R","status":"Unknown","type":"Ready"},{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"MemoryPressure"},{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"DiskPressure"},{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"PIDPressure"}]}}
                recheck at 2026-11-20T08:03:00Z
            "#]],
        );
        check(
            objects(60),
            expect![[r#"
                patch nodes n/status {"metadata":{"annotations":{"outbye.io/last-told-conditions":"[{\"lastTransitionTime\":\"2026-11-20T07:00:00Z\",\"message\":\"m\",\"reason\":\"R\",\"status\":\"Unknown\",\"type\":\"Ready\"}]"},"uid":"n"},"status":{"conditions":[{"lastTransitionTime":"2026-11-20T07:00:00Z","message":"m","reason":"R","status":"Unknown","type":"Ready"},{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"MemoryPressure"},{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"DiskPressure"},{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"PIDPressure"}]}}
                patch pods default/p/status {"metadata":{"uid":"p"},"status":{"conditions":[{"status":"False","type":"Ready"},{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"Taint manager: deleting due to NoExecute taint","reason":"DeletionByTaintManager","status":"True","type":"DisruptionTarget"}]}}
                delete pods default/p Background
                note TaintManagerEviction: Marking for deletion Pod default/p
            "#]],
        );
    }
}
