//! ReplicaSet: keeps as many pods of one template as asked for.
//!
//! There are no expectations to keep: the engine plans a key again only when the world shows its own
//! last creates and deletes, so that counting the cache is right.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::condition::{self, Condition};
use crate::object::{Kind, Name, Object, ObjectRef, Uid};
use crate::owned::{claim, controller_ref, selector_of};
use crate::pods::{self, Candidate};
use crate::value::{at, int_at, list_at, maybe_int_at, merge_diff, object_mut, str_at};
use crate::world::{Change, World};
use crate::write::{Note, Write};
use crate::{Controller, Failure, Plan, selector};

/// Pods created or deleted by one plan at most.
const BURST: usize = 500;
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// The controller of ReplicaSets, or of ReplicationControllers, which are the same in older words.
#[derive(Debug)]
pub struct ReplicaSetController {
    name: &'static str,
    kind: Kind,
    /// The kind as owner references say it.
    owner: &'static str,
}

impl ReplicaSetController {
    pub const OF_SETS: Self =
        Self { name: "replicaset-controller", kind: Kind::REPLICA_SET, owner: "ReplicaSet" };
    pub const OF_CONTROLLERS: Self = Self {
        name: "replication-controller",
        kind: Kind::REPLICATION_CONTROLLER,
        owner: "ReplicationController",
    };
}

impl Controller for ReplicaSetController {
    fn name(&self) -> &'static str {
        self.name
    }

    fn affected(&self, change: &Change<'_>, world: &World) -> Vec<ObjectRef> {
        match change.kind {
            kind if kind == self.kind => change.latest().map(Object::key).into_iter().collect(),
            Kind::POD => change.sides().flat_map(|pod| self.sets_of(pod, world)).collect(),
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, now: Timestamp) -> Plan {
        let Some(set) = world.find(key) else { return Plan::default() };
        let claim = claim(set, Kind::POD, world, pods::is_active);
        let mut plan = Plan::from(claim.writes);
        if !set.is_deleting() {
            plan.writes.extend(plan_pods(set, &claim.objects, world, now));
        }
        let (status, recheck) = status_of(set, &claim.objects, now);
        if let Some(at) = recheck {
            plan.recheck_by(at);
        }
        if let Some(patch) = merge_diff(set.status(), &status) {
            plan.writes.push(Write::patch(set, Some("status"), json!({"status": patch})));
        }
        plan
    }

    fn failed(
        &self,
        key: &ObjectRef,
        world: &World,
        failure: &Failure,
        now: Timestamp,
    ) -> Vec<Write> {
        let Some(set) = world.find(key) else { return Vec::new() };
        if set.is_deleting() {
            return Vec::new();
        }
        let pods = claim(set, Kind::POD, world, pods::is_active).objects;
        let (mut status, _) = status_of(set, &pods, now);
        if let Some(reason) = failure.reason_of_replica_failure() {
            let mut conditions = condition::list(set.status());
            let message = failure.message.clone();
            let new = Condition { kind: REPLICA_FAILURE, status: "True", reason, message };
            // Told once: the same words again are no news.
            if condition::find(set.status(), REPLICA_FAILURE).is_none() {
                condition::set(&mut conditions, &new, None, now);
            }
            status["conditions"] = json!(conditions);
        }
        let patch = merge_diff(set.status(), &status).map(|patch| json!({"status": patch}));
        patch.map(|patch| Write::patch(set, Some("status"), patch)).into_iter().collect()
    }
}

impl ReplicaSetController {
    /// The replica sets to wake when this pod changes.
    fn sets_of(&self, pod: &Object, world: &World) -> Vec<ObjectRef> {
        let namespace = pod.name.namespace.as_str();
        match pod.controller() {
            Some(owner) if owner.kind() == self.owner => {
                vec![self.kind.key(&Name::new(namespace, owner.name()))]
            }
            Some(_) => Vec::new(),
            None => world
                .list_in(self.kind, namespace)
                .filter(|set| selector::matches(&selector_of(set), pod.labels()))
                .map(|set| set.key())
                .collect(),
        }
    }
}

/// `spec.replicas`, which is 1 unless it is said.
pub fn desired(set: &Object) -> i64 {
    maybe_int_at(set.spec(), &["replicas"]).unwrap_or(1)
}

fn plan_pods(set: &Object, active: &[Arc<Object>], world: &World, now: Timestamp) -> Vec<Write> {
    let desired = usize::try_from(desired(set)).unwrap_or_default();
    if active.len() < desired {
        let missing = (desired - active.len()).min(BURST);
        return vec![create_pod(set, world); missing];
    }
    let surplus = (active.len() - desired).min(BURST);
    if surplus == 0 {
        return Vec::new();
    }
    let mut candidates = candidates(set, active, world);
    candidates.sort_by(|a, b| pods::deletion_order(a, b, now));
    candidates.iter().take(surplus).map(|it| delete_pod(set, it.pod, world)).collect()
}

fn create_pod(set: &Object, world: &World) -> Write {
    let template = at(set.spec(), &["template"]);
    let mut metadata = json!({
        "generateName": format!("{}-", set.name.name),
        "namespace": set.name.namespace,
        "ownerReferences": [controller_ref(set, world)],
    });
    for field in ["labels", "annotations", "finalizers"] {
        let value = at(template, &["metadata", field]);
        if !value.is_null() {
            metadata[field] = value.clone();
        }
    }
    Write::Create {
        kind: Kind::POD,
        namespace: set.name.namespace.clone(),
        object: json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": at(template, &["spec"]),
        }),
        then: None,
        or_else: None,
    }
    .telling(
        Note::normal(set, world, "SuccessfulCreate", "Created pod: {name}".to_owned()),
        Note::warning(set, world, "FailedCreate", "Error creating: {error}".to_owned()),
    )
}

fn delete_pod(set: &Object, pod: &Object, world: &World) -> Write {
    let name = &pod.name.name;
    Write::delete(pod).telling(
        Note::normal(set, world, "SuccessfulDelete", format!("Deleted pod: {name}")),
        Note::warning(set, world, "FailedDelete", "Error deleting: {error}".to_owned()),
    )
}

/// The pods with the number of pods of the same Deployment on their node.
fn candidates<'a>(set: &Object, active: &'a [Arc<Object>], world: &World) -> Vec<Candidate<'a>> {
    let mut on_node: BTreeMap<&str, usize> = BTreeMap::new();
    let owner = set.controller().map(|owner| Uid(owner.uid().to_owned()));
    let siblings: Vec<&Arc<Object>> = match &owner {
        Some(uid) => world.managed_by(uid, Kind::REPLICA_SET).collect(),
        None => Vec::new(),
    };
    let is_alone = siblings.is_empty();
    let related = siblings.iter().flat_map(|sibling| world.managed_by(&sibling.uid, Kind::POD));
    let own = active.iter().filter(|_| is_alone);
    for pod in related.filter(|pod| pods::is_active(pod)).chain(own) {
        *on_node.entry(node_of(pod)).or_default() += 1;
    }
    active
        .iter()
        .map(|pod| Candidate {
            pod,
            relatives_on_node: match node_of(pod) {
                "" => 0,
                node => on_node.get(node).copied().unwrap_or_default(),
            },
        })
        .collect()
}

fn node_of(pod: &Object) -> &str {
    str_at(pod.spec(), &["nodeName"])
}

/// The status as it is to be, and when a ready pod becomes available.
fn status_of(set: &Object, active: &[Arc<Object>], now: Timestamp) -> (Value, Option<Timestamp>) {
    let template_labels = at(set.spec(), &["template", "metadata", "labels"]);
    let min_ready = int_at(set.spec(), &["minReadySeconds"]);
    let available_at = |pod: &Arc<Object>| pods::available_at(pod, min_ready);
    let count = |test: &dyn Fn(&Arc<Object>) -> bool| active.iter().filter(|pod| test(pod)).count();

    let labelled = count(&|pod| selector::map_matches(template_labels, pod.labels()));
    let ready = count(&|pod| pods::is_ready(pod));
    let available = count(&|pod| available_at(pod).is_some_and(|at| at <= now));
    let recheck = active.iter().filter_map(available_at).filter(|at| *at > now).min();

    let mut status = set.status().clone();
    let fields = object_mut(&mut status);
    fields.insert("replicas".to_owned(), json!(active.len()));
    fields.insert("observedGeneration".to_owned(), json!(set.generation()));
    for (field, number) in [
        ("fullyLabeledReplicas", labelled),
        ("readyReplicas", ready),
        ("availableReplicas", available),
    ] {
        match number {
            0 => fields.remove(field),
            number => fields.insert(field.to_owned(), json!(number)),
        };
    }
    if condition::find(set.status(), REPLICA_FAILURE).is_some() {
        let mut conditions = list_at(set.status(), &["conditions"]).to_vec();
        condition::remove(&mut conditions, REPLICA_FAILURE);
        match conditions.is_empty() {
            true => fields.remove("conditions"),
            false => fields.insert("conditions".to_owned(), Value::Array(conditions)),
        };
    }
    (status, recheck)
}
