//! The working copy on which a Deployment is planned, and the writes that come out of it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::arithmetic::{Limits, new_set_replicas};
use super::{REVISION, template};
use crate::object::{Kind, Name, Object};
use crate::owned::controller_ref;
use crate::replicaset::desired;
use crate::value::{at, int_at, maybe_int_at, merge_diff, object_mut, str_at};
use crate::world::World;
use crate::write::{Note, Write};
use crate::{Plan, condition};

use super::progress;

pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";

/// Annotations of a Deployment that its replica sets do not get.
const NOT_COPIED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// A replica set as it will be after the plan.
#[derive(Clone, Debug)]
pub(super) struct Set {
    pub name: String,
    /// Absent for the set that the plan creates.
    pub object: Option<Arc<Object>>,
    pub replicas: i64,
    pub annotations: BTreeMap<String, String>,
    pub min_ready_seconds: i64,
    pub created: Option<Timestamp>,
}

impl Set {
    fn of(object: Arc<Object>) -> Self {
        let annotations = at(object.meta(), &["annotations"]).as_object();
        let text =
            |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        Self {
            name: object.name.name.clone(),
            replicas: desired(&object),
            annotations: annotations.into_iter().flatten().filter_map(text).collect(),
            min_ready_seconds: int_at(object.spec(), &["minReadySeconds"]),
            created: object.created(),
            object: Some(object),
        }
    }

    pub(super) fn status(&self, field: &str) -> i64 {
        self.object.as_ref().map_or(0, |object| int_at(object.status(), &[field]))
    }

    /// Pods that there are or will be: a smaller size is not a smaller number of pods yet.
    pub(super) fn pods(&self) -> i64 {
        self.status("replicas").max(self.replicas)
    }

    /// Available pods that stay available when the replica set has followed its new size.
    pub(super) fn available(&self) -> i64 {
        self.status("availableReplicas").min(self.replicas)
    }

    pub(super) fn number(&self, annotation: &str) -> Option<i64> {
        self.annotations.get(annotation)?.parse().ok()
    }

    pub(super) fn age_order(&self) -> (Option<Timestamp>, String) {
        (self.created, self.name.clone())
    }

    fn revision(&self) -> i64 {
        self.number(REVISION).unwrap_or_default()
    }
}

/// A Deployment with its replica sets while it is being planned.
pub(super) struct Rollout<'a> {
    pub deployment: &'a Object,
    pub world: &'a World,
    pub now: Timestamp,
    pub limits: Limits,
    pub new: Option<Set>,
    pub old: Vec<Set>,
    /// As they were in the store before this plan.
    pub conditions: Vec<Value>,
    revision: Option<String>,
    collisions: Option<i64>,
    notes: Vec<Write>,
    removals: Vec<Write>,
    status: Option<Value>,
    pub recheck_at: Option<Timestamp>,
}

impl<'a> Rollout<'a> {
    pub(super) fn new(
        deployment: &'a Object,
        sets: Vec<Arc<Object>>,
        world: &'a World,
        now: Timestamp,
    ) -> Self {
        let template = at(deployment.spec(), &["template"]);
        let mut sets: Vec<Set> = sets.into_iter().map(Set::of).collect();
        sets.sort_by_key(Set::age_order);
        let is_new = |set: &Set| {
            let object = set.object.as_ref();
            object.is_some_and(|it| template::is_same(at(it.spec(), &["template"]), template))
        };
        let new = sets.iter().position(is_new).map(|place| sets.remove(place));
        Self {
            deployment,
            world,
            now,
            limits: Limits::of(deployment.spec()),
            new,
            old: sets,
            conditions: condition::list(deployment.status()),
            revision: deployment.annotation(REVISION).map(str::to_owned),
            collisions: maybe_int_at(deployment.status(), &["collisionCount"]),
            notes: Vec::new(),
            removals: Vec::new(),
            status: None,
            recheck_at: None,
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Set> {
        self.old.iter().chain(&self.new)
    }

    pub(super) fn sum(&self, count: impl Fn(&Set) -> i64) -> i64 {
        self.all().map(count).sum()
    }

    /// Whether every set reports on the size that it was given last.
    pub(super) fn is_settled(&self) -> bool {
        let objects = self.all().filter_map(|set| set.object.as_ref());
        let mut sets = objects.map(|set| (set, int_at(set.status(), &["observedGeneration"])));
        sets.all(|(set, observed)| observed >= set.generation())
    }

    /// Old sets that still have pods to lose.
    pub(super) fn active_old(&self) -> Vec<usize> {
        (0..self.old.len()).filter(|place| self.old[*place].replicas > 0).collect()
    }

    /// Brings revision and annotations of an existing new set up to date.
    pub(super) fn find_revision(&mut self) {
        let revision = 1 + self.old.iter().map(Set::revision).max().unwrap_or_default();
        let Some(set) = &mut self.new else { return };
        inherit(set, self.deployment, revision);
        self.revision = set.annotations.get(REVISION).cloned();
        let name = set.name.clone();
        if progress::has_deadline(self.deployment)
            && condition::find(&json!({"conditions": self.conditions}), "Progressing").is_none()
        {
            let message = format!("Found new replica set \"{name}\"");
            progress::set_progressing(self, "True", "FoundNewReplicaSet", message);
        }
    }

    /// Makes sure that there is a new set, with as many pods as may be started at once.
    pub(super) fn ensure_new(&mut self) {
        self.find_revision();
        if self.new.is_some() {
            return;
        }
        let template = at(self.deployment.spec(), &["template"]);
        let name = |collisions| {
            format!("{}-{}", self.deployment.name.name, template::hash(template, collisions))
        };
        let mut collisions = self.collisions;
        let is_taken = |name: &str| {
            let name = Name::new(&self.deployment.name.namespace, name);
            self.world.get(Kind::REPLICA_SET, &name).is_some()
        };
        while is_taken(&name(collisions)) {
            collisions = Some(collisions.unwrap_or_default() + 1);
        }
        self.collisions = collisions;
        let mut set = Set {
            name: name(collisions),
            object: None,
            replicas: 0,
            annotations: BTreeMap::new(),
            min_ready_seconds: int_at(self.deployment.spec(), &["minReadySeconds"]),
            created: Some(self.now),
        };
        let revision = 1 + self.old.iter().map(Set::revision).max().unwrap_or_default();
        inherit(&mut set, self.deployment, revision);
        self.revision = set.annotations.get(REVISION).cloned();
        self.mark_sizes(&mut set);
        let message = format!("Created new replica set \"{}\"", set.name);
        self.new = Some(set);
        let replicas = match self.is_recreated() {
            true => self.limits.replicas,
            false => new_set_replicas(self.limits, self.sum(Set::pods), 0),
        };
        self.scale_new(replicas);
        if progress::has_deadline(self.deployment) {
            progress::set_progressing(self, "True", "NewReplicaSetCreated", message);
        }
    }

    fn is_recreated(&self) -> bool {
        str_at(self.deployment.spec(), &["strategy", "type"]) == "Recreate"
    }

    /// Scales the new set. Tells whether that changes anything.
    pub(super) fn scale_new(&mut self, replicas: i64) -> bool {
        let Some(mut set) = self.new.take() else { return false };
        let is_change = self.scale(&mut set, replicas);
        self.new = Some(set);
        is_change
    }

    /// Scales an old set. Tells whether that changes anything.
    pub(super) fn scale_old(&mut self, place: usize, replicas: i64) -> bool {
        let mut set = self.old[place].clone();
        let is_change = self.scale(&mut set, replicas);
        self.old[place] = set;
        is_change
    }

    fn scale(&mut self, set: &mut Set, replicas: i64) -> bool {
        self.mark_sizes(set);
        if set.replicas == replicas {
            return false;
        }
        let direction = if set.replicas < replicas { "up" } else { "down" };
        let message = format!(
            "Scaled {direction} replica set {} from {} to {replicas}",
            set.name, set.replicas
        );
        let note = Note::normal(self.deployment, self.world, "ScalingReplicaSet", message);
        self.notes.push(Write::Note(note));
        set.replicas = replicas;
        true
    }

    /// Notes on a set for which size of the Deployment its own size was worked out.
    fn mark_sizes(&self, set: &mut Set) {
        set.annotations.insert(DESIRED_REPLICAS.to_owned(), self.limits.replicas.to_string());
        set.annotations.insert(MAX_REPLICAS.to_owned(), self.limits.max_total().to_string());
    }

    /// Whether the rollout has ended and the status has said so.
    pub(super) fn is_complete(&self) -> bool {
        let observed = int_at(self.deployment.status(), &["observedGeneration"]);
        self.is_complete_now() && observed >= self.deployment.generation()
    }

    /// Whether everything runs the new template and nothing else is left.
    pub(super) fn is_complete_now(&self) -> bool {
        let replicas = self.limits.replicas;
        self.new.as_ref().map_or(0, |set| set.status("replicas")) == replicas
            && self.sum(|set| set.status("replicas")) == replicas
            && self.sum(|set| set.status("availableReplicas")) == replicas
    }

    /// Deletes old sets that nobody will roll back to.
    pub(super) fn clean_up(&mut self) {
        let Some(limit) = maybe_int_at(self.deployment.spec(), &["revisionHistoryLimit"]) else {
            return;
        };
        let mut old: Vec<&Set> = self.old.iter().filter(|set| !is_deleting(set)).collect();
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
        old.sort_by_key(|set| (set.revision(), Reverse(set.age_order())));
        let doomed =
            old.into_iter().take(surplus).filter_map(|set| set.object.as_ref()).filter(|it| {
                let observed = int_at(it.status(), &["observedGeneration"]);
                let is_empty = int_at(it.status(), &["replicas"]) == 0 && desired(it) == 0;
                is_empty && observed >= it.generation()
            });
        self.removals.extend(doomed.map(|set| Write::delete(set)));
    }

    /// Works out the status from what the replica sets report and the conditions as they stand.
    pub(super) fn report(&mut self) {
        let available = self.sum(|set| set.status("availableReplicas"));
        let unavailable = (self.sum(|set| set.replicas) - available).max(0);
        let (status, reason, message) = match available >= self.limits.min_available() {
            true => ("True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
            false => (
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            ),
        };
        progress::set_condition(self, "Available", status, reason, message.to_owned());
        let mut new_status = self.deployment.status().clone();
        let fields = object_mut(&mut new_status);
        fields.insert("observedGeneration".to_owned(), json!(self.deployment.generation()));
        fields.insert("conditions".to_owned(), json!(self.conditions));
        if let Some(count) = self.collisions {
            fields.insert("collisionCount".to_owned(), json!(count));
        }
        for (field, number) in [
            ("replicas", self.sum(|set| set.status("replicas"))),
            ("updatedReplicas", self.new.as_ref().map_or(0, |set| set.status("replicas"))),
            ("readyReplicas", self.sum(|set| set.status("readyReplicas"))),
            ("availableReplicas", available),
            ("unavailableReplicas", unavailable),
        ] {
            match number {
                0 => fields.remove(field),
                number => fields.insert(field.to_owned(), json!(number)),
            };
        }
        self.status = Some(new_status);
    }

    pub(super) fn into_plan(self) -> Plan {
        let mut writes = Vec::new();
        for set in self.new.iter().chain(&self.old) {
            writes.extend(self.write_set(set));
        }
        writes.extend(self.notes.iter().cloned());
        writes.extend(self.removals.iter().cloned());
        writes.extend(self.write_status());
        Plan { writes, recheck_at: self.recheck_at }
    }

    fn write_set(&self, set: &Set) -> Option<Write> {
        let Some(object) = &set.object else { return Some(self.create(set)) };
        if is_deleting(set) {
            return None;
        }
        let old = Set::of(object.clone());
        let annotations = merge_diff(&json!(old.annotations), &json!(set.annotations));
        let mut patch = json!({});
        if let Some(annotations) = annotations {
            patch["metadata"] = json!({"annotations": annotations});
        }
        if old.replicas != set.replicas {
            patch["spec"]["replicas"] = json!(set.replicas);
        }
        if old.min_ready_seconds != set.min_ready_seconds {
            patch["spec"]["minReadySeconds"] = json!(set.min_ready_seconds);
        }
        (patch != json!({})).then(|| Write::patch(object, None, patch))
    }

    fn create(&self, set: &Set) -> Write {
        let spec = self.deployment.spec();
        let template = at(spec, &["template"]);
        let hash = template::hash(template, self.collisions);
        let template = template::with_hash(template, &hash);
        let mut object = json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": set.name,
                "namespace": self.deployment.name.namespace,
                "labels": at(&template, &["metadata", "labels"]),
                "annotations": set.annotations,
                "ownerReferences": [controller_ref(self.deployment, self.world)],
            },
            "spec": {
                "replicas": set.replicas,
                "selector": template::selector_with_hash(at(spec, &["selector"]), &hash),
                "template": template,
            },
        });
        if set.min_ready_seconds != 0 {
            object["spec"]["minReadySeconds"] = json!(set.min_ready_seconds);
        }
        let message = format!("Failed to create new replica set \"{}\": {{error}}", set.name);
        Write::Create {
            kind: Kind::REPLICA_SET,
            namespace: self.deployment.name.namespace.clone(),
            object,
            then: None,
            or_else: Some(Note::warning(
                self.deployment,
                self.world,
                "ReplicaSetCreateError",
                message,
            )),
        }
    }

    fn write_status(&self) -> Option<Write> {
        let status = merge_diff(self.deployment.status(), self.status.as_ref()?);
        let has_new_revision = self.revision.as_deref() != self.deployment.annotation(REVISION);
        let mut patch = json!({});
        if let Some(status) = status {
            patch["status"] = status;
        }
        if has_new_revision {
            patch["metadata"] = json!({"annotations": {REVISION: self.revision}});
        }
        let is_change = patch != json!({});
        is_change.then(|| Write::patch(self.deployment, Some("status"), patch))
    }
}

fn is_deleting(set: &Set) -> bool {
    set.object.as_ref().is_some_and(|object| object.is_deleting())
}

/// Gives a set the Deployment's annotations, and a revision that is not below `revision`.
fn inherit(set: &mut Set, deployment: &Object, revision: i64) {
    let annotations = at(deployment.meta(), &["annotations"]).as_object();
    for (key, value) in annotations.into_iter().flatten() {
        if let (false, Some(value)) = (NOT_COPIED.contains(&key.as_str()), value.as_str()) {
            set.annotations.insert(key.clone(), value.to_owned());
        }
    }
    set.min_ready_seconds = int_at(deployment.spec(), &["minReadySeconds"]);
    let old = set.annotations.get(REVISION).cloned();
    if set.revision() >= revision {
        return;
    }
    set.annotations.insert(REVISION.to_owned(), revision.to_string());
    if let Some(old) = old.filter(|old| !old.is_empty()) {
        let history = set.annotations.entry(REVISION_HISTORY.to_owned()).or_default();
        if !history.is_empty() {
            history.push(',');
        }
        history.push_str(&old);
    }
}
