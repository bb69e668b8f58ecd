//! Pod GC: removes pods that no node will ever confirm as gone.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::condition::{self, Condition};
use crate::object::{Kind, Name, Object, ObjectRef, Uid};
use crate::value::str_at;
use crate::world::{Change, World};
use crate::write::Write;
use crate::{Controller, Plan, pods};

/// A node that was removed may come back under its name.
const QUARANTINE: SignedDuration = SignedDuration::from_secs(40);

#[derive(Debug)]
pub struct PodGcController;

impl Controller for PodGcController {
    fn name(&self) -> &'static str {
        "pod-garbage-collector"
    }

    fn affected(&self, change: &Change<'_>, world: &World) -> Vec<ObjectRef> {
        match (change.kind, change.latest()) {
            (Kind::NODE, Some(node)) if change.is_removal() => {
                world.pods_on(&node.name.name).map(|pod| pod.key()).collect()
            }
            (Kind::POD, Some(pod)) if !change.is_removal() => vec![pod.key()],
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, now: Timestamp) -> Plan {
        let Some(pod) = world.find(key) else { return Plan::default() };
        let node = str_at(pod.spec(), &["nodeName"]);
        if node.is_empty() {
            return match pod.is_deleting() {
                true => Plan::from(vec![force_delete(pod, Vec::new())]),
                false => Plan::default(),
            };
        }
        if world.get(Kind::NODE, &Name::cluster(node)).is_some() {
            return Plan::default();
        }
        let due = world.node_gone_at(node).checked_add(QUARANTINE).unwrap_or(Timestamp::MAX);
        if due > now {
            return Plan::recheck(due);
        }
        let nobody = (Kind::NODE.key(&Name::cluster(node)), None);
        let delete = force_delete(pod, vec![nobody]);
        Plan::from(fail(pod, now).into_iter().chain([delete]).collect::<Vec<_>>())
    }
}

fn force_delete(pod: &Object, without: Vec<(ObjectRef, Option<Uid>)>) -> Write {
    let mut write = Write::delete(pod);
    if let Write::Delete { grace_seconds, only_without, .. } = &mut write {
        *grace_seconds = Some(0);
        *only_without = without;
    }
    write
}

/// Says that the pod has ended, for those who watch it.
fn fail(pod: &Object, now: Timestamp) -> Option<Write> {
    if pods::is_finished(pod) {
        return None;
    }
    let new = Condition {
        kind: "DisruptionTarget",
        status: "True",
        reason: "DeletionByPodGC",
        message: "PodGC: node no longer exists".to_owned(),
    };
    let mut conditions = condition::list(pod.status());
    condition::set(&mut conditions, &new, None, now);
    let patch = json!({"status": {"phase": "Failed", "conditions": conditions}});
    Some(Write::patch(pod, Some("status"), patch))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing;

    #[test]
    fn pods_that_nobody_confirms_are_removed() {
        let check = |node: &str, deleting: bool, expect: Expect| {
            let mut metadata = json!({"name": "p"});
            if deleting {
                metadata["deletionTimestamp"] = json!("2026-11-20T08:00:00Z");
            }
            let spec = if node.is_empty() { json!({}) } else { json!({"nodeName": node}) };
            let pod = json!({"metadata": metadata, "spec": spec, "status": {"phase": "Running"}});
            let known = json!({"metadata": {"name": "known"}});
            let world = testing::world([(Kind::POD, pod), (Kind::NODE, known)]);
            let key = Kind::POD.key(&Name::new("default", "p"));
            expect.assert_eq(&testing::plan(&PodGcController, &key, &world));
        };
        check("known", false, expect![[""]]);
        check("known", true, expect![[""]]);
        check("", false, expect![[""]]);
        check(
            "",
            true,
            expect![[r#"
            delete pods default/p Background grace 0
        "#]],
        );
        check(
            "gone",
            false,
            expect![[r#"
            patch pods default/p/status {"metadata":{"uid":"p"},"status":{"conditions":[{"lastTransitionTime":"2026-11-20T08:00:00Z","message":"PodGC: node no longer exists","reason":"DeletionByPodGC","status":"True","type":"DisruptionTarget"}],"phase":"Failed"}}
            delete pods default/p Background grace 0 unless nodes gone
        "#]],
        );
    }
}
