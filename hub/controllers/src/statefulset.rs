//! StatefulSet: pods with names that stay, made and removed one after the other.
//!
//! The first pod that is not as it should be decides what is done; unless the pods are managed in
//! parallel, everything behind it waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::history::{self, History};
use crate::object::{Kind, Name, Object, ObjectRef};
use crate::owned::claim;
use crate::value::{at, int_at, list_at, maybe_int_at, merge_diff, object_mut, str_at};
use crate::world::{Change, World};
use crate::write::{Note, Write};
use crate::{Controller, Plan, pods, selector};

mod member;

/// Pods created or deleted by one plan at most, where that is not one.
const BURST: usize = 250;

#[derive(Debug)]
pub struct StatefulSetController;

impl Controller for StatefulSetController {
    fn name(&self) -> &'static str {
        "statefulset-controller"
    }

    fn affected(&self, change: &Change<'_>, world: &World) -> Vec<ObjectRef> {
        match change.kind {
            Kind::STATEFUL_SET => change.latest().map(Object::key).into_iter().collect(),
            Kind::POD | Kind::CONTROLLER_REVISION => {
                change.sides().flat_map(|it| sets_of(it, world)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, now: Timestamp) -> Plan {
        let Some(set) = world.find(key) else { return Plan::default() };
        let is_member = |pod: &Object| member::ordinal(set, pod).is_some();
        let claim = claim(set, Kind::POD, world, is_member);
        let history = history::of(set, world);
        let mut work = Work::new(set, world, now, &history, &claim.objects);
        let mut plan = Plan::from(claim.writes);
        plan.writes.extend(history.writes.iter().cloned());
        if !set.is_deleting() {
            work.go_on();
            plan.writes.append(&mut work.writes);
            let live: BTreeSet<&str> = [work.current.as_str()]
                .into_iter()
                .chain(claim.objects.iter().map(|pod| history::of_pod(pod)))
                .collect();
            plan.writes.extend(history.forget(set, &live));
        }
        if let Some(at) = work.recheck {
            plan.recheck_by(at);
        }
        let status = work.status();
        if let Some(patch) = merge_diff(set.status(), &status) {
            plan.writes.push(Write::patch(set, Some("status"), json!({"status": patch})));
        }
        plan
    }
}

/// The sets to wake when this pod or revision changes.
fn sets_of(object: &Object, world: &World) -> Vec<ObjectRef> {
    let namespace = object.name.namespace.as_str();
    match object.controller() {
        Some(owner) if owner.kind() == "StatefulSet" => {
            vec![Kind::STATEFUL_SET.key(&Name::new(namespace, owner.name()))]
        }
        Some(_) => Vec::new(),
        None => world
            .list_in(Kind::STATEFUL_SET, namespace)
            .filter(|set| selector::matches(at(set.spec(), &["selector"]), object.labels()))
            .map(|set| set.key())
            .collect(),
    }
}

/// One look at one set.
struct Work<'a> {
    set: &'a Object,
    world: &'a World,
    now: Timestamp,
    history: &'a History,
    /// Name of the revision that pods are updated from.
    current: String,
    /// Pods by ordinal.
    pods: BTreeMap<i64, Arc<Object>>,
    first: i64,
    /// One behind the last ordinal.
    end: i64,
    writes: Vec<Write>,
    recheck: Option<Timestamp>,
}

impl<'a> Work<'a> {
    fn new(
        set: &'a Object,
        world: &'a World,
        now: Timestamp,
        history: &'a History,
        pods: &[Arc<Object>],
    ) -> Self {
        let spec = set.spec();
        let named = str_at(set.status(), &["currentRevision"]);
        let is_stored = history.stored.iter().any(|it| it.name.name == named);
        let current = if is_stored { named } else { history.name.as_str() };
        let first = int_at(spec, &["ordinals", "start"]);
        let replicas = maybe_int_at(spec, &["replicas"]).unwrap_or(1);
        let by_ordinal = |pod: &Arc<Object>| Some((member::ordinal(set, pod)?, pod.clone()));
        Self {
            set,
            world,
            now,
            history,
            current: current.to_owned(),
            pods: pods.iter().filter_map(by_ordinal).collect(),
            first,
            end: first.saturating_add(replicas),
            writes: Vec::new(),
            recheck: None,
        }
    }

    fn is_parallel(&self) -> bool {
        str_at(self.set.spec(), &["podManagementPolicy"]) == "Parallel"
    }

    fn go_on(&mut self) {
        if self.fill() && self.shrink() {
            self.update();
        }
    }

    /// Sees to the pods that should be there. Returns whether what follows may be done.
    fn fill(&mut self) -> bool {
        let parallel = self.is_parallel();
        for ordinal in self.first..self.end {
            if self.writes.len() >= BURST {
                return false;
            }
            let Some(pod) = self.pods.get(&ordinal).cloned() else {
                self.create(ordinal);
                if !parallel {
                    return false;
                }
                continue;
            };
            if pods::is_finished(&pod) {
                if !pod.is_deleting() {
                    let message = format!(
                        "StatefulSet {} is recreating failed Pod {}",
                        self.set.name, pod.name.name
                    );
                    let note = Note::warning(self.set, self.world, "RecreatingFailedPod", message);
                    self.writes.push(Write::Note(note));
                    self.delete(&pod);
                }
                if !parallel {
                    return false;
                }
                continue;
            }
            if str_at(pod.status(), &["phase"]) == "Pending" {
                // Its claims may have been removed before it could use them.
                self.writes.extend(member::missing_claims(self.set, ordinal, self.world));
            }
            if !parallel && !self.is_available(&pod) {
                return false;
            }
        }
        true
    }

    /// Removes pods that should not be there, the last first.
    fn shrink(&mut self) -> bool {
        let parallel = self.is_parallel();
        let surplus: Vec<(i64, Arc<Object>)> = self
            .pods
            .iter()
            .filter(|(ordinal, _)| !(self.first..self.end).contains(ordinal))
            .map(|(ordinal, pod)| (*ordinal, pod.clone()))
            .collect();
        let unhealthy = self.pods.values().find(|pod| !self.is_healthy(pod)).cloned();
        for (ordinal, pod) in surplus.iter().rev().take(BURST) {
            if pod.is_deleting() {
                if !parallel {
                    return false;
                }
                continue;
            }
            let waits = !self.is_healthy(pod)
                && unhealthy.as_ref().is_some_and(|first| first.name != pod.name);
            if waits && !parallel {
                return false;
            }
            self.writes.extend(member::let_claims_go(self.set, *ordinal, pod, self.world));
            self.delete(pod);
            if !parallel {
                return false;
            }
        }
        true
    }

    /// Replaces pods of another revision, the last first. What is away already, wherever it belongs, counts against
    /// `maxUnavailable`; an old pod that does not serve costs nothing more, and may never come by itself.
    fn update(&mut self) {
        let strategy = at(self.set.spec(), &["updateStrategy"]);
        if str_at(strategy, &["type"]) == "OnDelete" {
            return;
        }
        let rolling = at(strategy, &["rollingUpdate"]);
        let partition = int_at(rolling, &["partition"]);
        let mut room = member::scaled(at(rolling, &["maxUnavailable"]), self.end - self.first);
        let mut old = Vec::new();
        for ordinal in (self.first..self.end).rev() {
            let pod = self.pods.get(&ordinal).cloned();
            let is_available = pod.as_ref().is_some_and(|pod| self.is_available(pod));
            room -= i64::from(!is_available);
            let is_behind_partition = ordinal >= self.first.saturating_add(partition);
            old.extend(pod.filter(|_| is_behind_partition).map(|pod| (pod, is_available)));
        }
        for (pod, is_available) in old {
            // Finished ones are deleted before.
            let goes = pod.is_deleting() || pods::is_finished(&pod);
            // One that is ready serves, though it does not count as available yet.
            let serves = self.is_healthy(&pod);
            if goes || history::of_pod(&pod) == self.history.name || serves && room <= 0 {
                continue;
            }
            room -= i64::from(is_available);
            self.delete(&pod);
        }
    }

    fn is_healthy(&self, pod: &Object) -> bool {
        str_at(pod.status(), &["phase"]) == "Running" && pods::is_ready(pod) && !pod.is_deleting()
    }

    fn is_available(&mut self, pod: &Object) -> bool {
        if !self.is_healthy(pod) {
            return false;
        }
        let min_ready = int_at(self.set.spec(), &["minReadySeconds"]);
        match pods::available_at(pod, min_ready) {
            Some(at) if at > self.now => {
                self.recheck = Some(self.recheck.map_or(at, |it| it.min(at)));
                false
            }
            found => found.is_some(),
        }
    }

    fn create(&mut self, ordinal: i64) {
        let rolling = at(self.set.spec(), &["updateStrategy", "rollingUpdate"]);
        let partition = maybe_int_at(rolling, &["partition"])
            .unwrap_or_else(|| int_at(self.set.status(), &["currentReplicas"]));
        let is_rolling = str_at(self.set.spec(), &["updateStrategy", "type"]) != "OnDelete";
        let stays = is_rolling && ordinal < self.first.saturating_add(partition);
        let older = stays.then(|| self.history.template(&self.current)).flatten();
        let (revision, template) = match older {
            Some(template) => (self.current.clone(), template),
            None => (self.history.name.clone(), at(self.set.spec(), &["template"]).clone()),
        };
        let claims = member::missing_claims(self.set, ordinal, self.world);
        self.writes.extend(claims);
        self.writes.push(member::pod(self.set, ordinal, &revision, &template, self.world));
    }

    fn delete(&mut self, pod: &Object) {
        let (set, name) = (&self.set.name.name, &pod.name.name);
        let told = |word: &str| format!("delete Pod {name} in StatefulSet {set} {word}");
        self.writes.push(Write::delete(pod).telling(
            Note::normal(self.set, self.world, "SuccessfulDelete", told("successful")),
            Note::warning(self.set, self.world, "FailedDelete", told("failed error: {error}")),
        ));
    }

    fn status(&self) -> Value {
        let update = self.history.name.as_str();
        let min_ready = int_at(self.set.spec(), &["minReadySeconds"]);
        let count = |test: &dyn Fn(&Arc<Object>) -> bool| -> i64 {
            i64::try_from(self.pods.values().filter(|pod| test(pod)).count()).unwrap_or(i64::MAX)
        };
        let is_of = |pod: &Arc<Object>, revision: &str| {
            !pod.is_deleting() && history::of_pod(pod) == revision
        };
        let replicas = count(&|pod| !pods::is_finished(pod));
        let ready = count(&|pod| self.is_healthy(pod));
        let available = count(&|pod| {
            self.is_healthy(pod)
                && pods::available_at(pod, min_ready).is_some_and(|at| at <= self.now)
        });
        let updated = count(&|pod| is_of(pod, update));
        let mut current = count(&|pod| is_of(pod, &self.current));
        let mut current_revision = self.current.as_str();
        let rolls = str_at(self.set.spec(), &["updateStrategy", "type"]) != "OnDelete";
        // Pods that are not there are not of the new revision.
        let wanted = self.end - self.first;
        if rolls && [updated, ready, replicas].iter().all(|it| *it == wanted) {
            current_revision = update;
            current = updated;
        }
        let mut status = self.set.status().clone();
        let fields = object_mut(&mut status);
        fields.insert("observedGeneration".to_owned(), json!(self.set.generation()));
        fields.insert("replicas".to_owned(), json!(replicas));
        fields.insert("availableReplicas".to_owned(), json!(available));
        fields.insert("currentRevision".to_owned(), json!(current_revision));
        fields.insert("updateRevision".to_owned(), json!(update));
        fields.insert("collisionCount".to_owned(), json!(self.history.collisions));
        for (field, number) in
            [("readyReplicas", ready), ("currentReplicas", current), ("updatedReplicas", updated)]
        {
            match number {
                0 => fields.remove(field),
                number => fields.insert(field.to_owned(), json!(number)),
            };
        }
        status
    }
}

/// The claims of a pod: name of the volume, and the claim's own name.
fn claims(set: &Object, ordinal: i64) -> impl Iterator<Item = (&Value, String)> {
    list_at(set.spec(), &["volumeClaimTemplates"]).iter().map(move |template| {
        let volume = str_at(template, &["metadata", "name"]);
        (template, format!("{volume}-{}-{ordinal}", set.name.name))
    })
}

#[cfg(test)]
mod tests;
