//! DaemonSet: one pod on every node that fits, and new pods for old ones a few at a time.
//!
//! Which node a pod is for is said by its affinity: the scheduler binds it, this controller only
//! counts. A node that is merely out of reach keeps its pod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::history::{self, History};
use crate::object::{Kind, Name, Object, ObjectRef};
use crate::owned::{claim, controller_ref};
use crate::value::{at, bool_at, int_at, list_at, merge_diff, object_mut, str_at};
use crate::world::{Change, World};
use crate::write::{Note, Write};
use crate::{Controller, Plan, placement, pods, selector};

/// Pods created or deleted by one plan at most.
const BURST: usize = 250;
/// How long a failed pod is kept before another takes its place.
const PAUSE: SignedDuration = SignedDuration::from_secs(15);
const GENERATION: &str = "pod-template-generation";

#[derive(Debug)]
pub struct DaemonSetController;

impl Controller for DaemonSetController {
    fn name(&self) -> &'static str {
        "daemon-set-controller"
    }

    fn affected(&self, change: &Change<'_>, world: &World) -> Vec<ObjectRef> {
        match change.kind {
            Kind::DAEMON_SET => change.latest().map(Object::key).into_iter().collect(),
            Kind::POD | Kind::CONTROLLER_REVISION => {
                change.sides().flat_map(|it| sets_of(it, world)).collect()
            }
            Kind::NODE => {
                let facts = |it: Option<&Object>| {
                    it.map(|it| (it.labels().clone(), at(it.spec(), &["taints"]).clone()))
                };
                if facts(change.old) == facts(change.new) {
                    return Vec::new();
                }
                world.list(Kind::DAEMON_SET).map(|set| set.key()).collect()
            }
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, now: Timestamp) -> Plan {
        let Some(set) = world.find(key) else { return Plan::default() };
        if set.is_deleting() {
            return Plan::default();
        }
        if selector::selects_all(at(set.spec(), &["selector"])) {
            let message =
                "This daemon set is selecting all pods. A non-empty selector is required.";
            let note = Note::warning(set, world, "SelectingAll", message.to_owned());
            return Plan::from(vec![Write::Note(note)]);
        }
        let claim = claim(set, Kind::POD, world, |_| true);
        let history = history::of(set, world);
        let mut plan = Plan::from(claim.writes);
        plan.writes.extend(history.writes.iter().cloned());
        let mut work = Work {
            set,
            world,
            now,
            nodes: nodes(set, world),
            by_node: by_node(&claim.objects),
            history: &history,
            recheck: None,
            create: BTreeSet::new(),
            delete: Vec::new(),
            notes: Vec::new(),
        };
        work.place();
        work.roll();
        plan.writes.extend(work.writes());
        if let Some(at) = work.recheck {
            plan.recheck_by(at);
        }
        plan.writes.extend(forget(set, &history, &claim.objects));
        let (status, recheck) = work.status();
        if let Some(at) = recheck {
            plan.recheck_by(at);
        }
        if let Some(patch) = merge_diff(set.status(), &status) {
            plan.writes.push(Write::patch(set, Some("status"), json!({"status": patch})));
        }
        plan
    }
}

fn forget(set: &Object, history: &History, pods: &[Arc<Object>]) -> Vec<Write> {
    let live: BTreeSet<&str> = pods.iter().map(|pod| history::of_pod(pod)).collect();
    history.forget(set, &live)
}

/// The sets to wake when this pod or revision changes.
fn sets_of(object: &Object, world: &World) -> Vec<ObjectRef> {
    let namespace = object.name.namespace.as_str();
    match object.controller() {
        Some(owner) if owner.kind() == "DaemonSet" => {
            vec![Kind::DAEMON_SET.key(&Name::new(namespace, owner.name()))]
        }
        Some(_) => Vec::new(),
        None => world
            .list_in(Kind::DAEMON_SET, namespace)
            .filter(|set| selector::matches(at(set.spec(), &["selector"]), object.labels()))
            .map(|set| set.key())
            .collect(),
    }
}

/// What a node is to a set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Fit {
    /// It should get a pod.
    should_run: bool,
    /// It may keep the pod that it has.
    may_keep: bool,
}

fn nodes(set: &Object, world: &World) -> BTreeMap<String, Fit> {
    let tolerations = tolerations(set);
    let spec = at(set.spec(), &["template", "spec"]);
    let fit = |node: &Object| {
        let named = str_at(spec, &["nodeName"]);
        let chosen =
            (named.is_empty() || named == node.name.name) && placement::is_chosen(spec, node);
        let welcome = |effects: &[&str]| placement::is_welcome(&tolerations, node, effects);
        Fit {
            should_run: chosen && welcome(&["NoSchedule", "NoExecute"]),
            may_keep: chosen && welcome(&["NoExecute"]),
        }
    };
    world.list(Kind::NODE).map(|node| (node.name.name.clone(), fit(node))).collect()
}

/// What pods of DaemonSets always tolerate, after what the template says.
fn tolerations(set: &Object) -> Vec<Value> {
    let spec = at(set.spec(), &["template", "spec"]);
    let mut list = list_at(spec, &["tolerations"]).to_vec();
    let mut always = vec![
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    ];
    if bool_at(spec, &["hostNetwork"]) {
        always.push(("network-unavailable", "NoSchedule"));
    }
    for (key, effect) in always {
        let key = format!("node.kubernetes.io/{key}");
        let toleration = json!({"key": key, "operator": "Exists", "effect": effect});
        let is_known = list.iter().any(|it| {
            ["key", "operator", "effect", "value"]
                .iter()
                .all(|field| str_at(it, &[field]) == str_at(&toleration, &[field]))
        });
        if !is_known {
            list.push(toleration);
        }
    }
    list
}

/// The node that a pod is on, or is for.
fn node_of(pod: &Object) -> Option<&str> {
    let bound = str_at(pod.spec(), &["nodeName"]);
    if !bound.is_empty() {
        return Some(bound);
    }
    let path = ["affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"];
    let terms = list_at(at(pod.spec(), &path), &["nodeSelectorTerms"]);
    let mut fields = terms.iter().flat_map(|term| list_at(term, &["matchFields"]));
    let field = fields.find(|it| str_at(it, &["key"]) == "metadata.name")?;
    list_at(field, &["values"]).first()?.as_str()
}

fn by_node(pods: &[Arc<Object>]) -> BTreeMap<String, Vec<Arc<Object>>> {
    let mut by_node: BTreeMap<String, Vec<Arc<Object>>> = BTreeMap::new();
    for pod in pods {
        if let Some(node) = node_of(pod) {
            by_node.entry(node.to_owned()).or_default().push(pod.clone());
        }
    }
    for pods in by_node.values_mut() {
        pods.sort_by_key(|pod| (pod.created(), pod.name.clone()));
    }
    by_node
}

/// One look at one set.
struct Work<'a> {
    set: &'a Object,
    world: &'a World,
    now: Timestamp,
    nodes: BTreeMap<String, Fit>,
    by_node: BTreeMap<String, Vec<Arc<Object>>>,
    history: &'a History,
    recheck: Option<Timestamp>,
    /// Nodes that get a pod.
    create: BTreeSet<String>,
    delete: Vec<Arc<Object>>,
    notes: Vec<Write>,
}

impl Work<'_> {
    /// Sees to it that there is one pod where there should be one, and none elsewhere.
    fn place(&mut self) {
        let none = Vec::new();
        let names: BTreeSet<String> =
            self.nodes.keys().chain(self.by_node.keys()).cloned().collect();
        for name in names {
            let gone = Fit { should_run: false, may_keep: false };
            let fit = self.nodes.get(&name).copied().unwrap_or(gone);
            let pods = self.by_node.get(&name).unwrap_or(&none).clone();
            if fit.should_run && pods.is_empty() {
                self.create.insert(name);
            } else if fit.may_keep {
                self.keep_one(&pods, &name);
            } else if self.nodes.contains_key(&name) {
                self.delete.extend(pods.into_iter().filter(|pod| !pod.is_deleting()));
            }
            // Pods of nodes that are gone are removed by who looks after pods.
        }
    }

    fn keep_one(&mut self, pods: &[Arc<Object>], node: &str) {
        let mut running = Vec::new();
        for pod in pods.iter().filter(|pod| !pod.is_deleting()) {
            let name = &pod.name;
            let (reason, message) = match str_at(pod.status(), &["phase"]) {
                "Failed" => (
                    "FailedDaemonPod",
                    format!("Found failed daemon pod {name} on node {node}, will try to kill it"),
                ),
                "Succeeded" => (
                    "SucceededDaemonPod",
                    format!(
                        "Found succeeded daemon pod {name} on node {node}, will try to delete it"
                    ),
                ),
                _ => {
                    running.push(pod.clone());
                    continue;
                }
            };
            let due = pod.created().and_then(|it| it.checked_add(PAUSE).ok());
            match due.filter(|at| *at > self.now) {
                Some(at) => self.recheck = Some(self.recheck.map_or(at, |it| it.min(at))),
                None => {
                    let note = match reason {
                        "FailedDaemonPod" => Note::warning(self.set, self.world, reason, message),
                        _ => Note::normal(self.set, self.world, reason, message),
                    };
                    self.notes.push(Write::Note(note));
                    self.delete.push(pod.clone());
                }
            }
        }
        if self.max_surge() == 0 {
            self.delete.extend(running.into_iter().skip(1));
        }
    }

    fn rolling(&self) -> &Value {
        at(self.set.spec(), &["updateStrategy", "rollingUpdate"])
    }

    fn desired(&self) -> i64 {
        count(self.nodes.values().filter(|it| it.should_run).count())
    }

    fn max_surge(&self) -> i64 {
        scaled(at(self.rolling(), &["maxSurge"]), 0, self.desired())
    }

    /// Replaces pods of an older template, if that is to be done.
    fn roll(&mut self) {
        if str_at(self.set.spec(), &["updateStrategy", "type"]) == "OnDelete" {
            return;
        }
        match self.max_surge() {
            0 => self.roll_in_place(),
            surge => self.roll_beside(surge),
        }
    }

    /// The newest pods of a node that live: of this template, and of another.
    fn updated(&self, pods: &[Arc<Object>]) -> (Option<Arc<Object>>, Option<Arc<Object>>) {
        let (mut new, mut old) = (None, None);
        for pod in pods.iter().filter(|pod| pods::is_active(pod)) {
            let slot = if history::of_pod(pod) == self.history.hash { &mut new } else { &mut old };
            *slot = Some(pod.clone());
        }
        (new, old)
    }

    fn is_available(&self, pod: &Object) -> bool {
        let min_ready = int_at(self.set.spec(), &["minReadySeconds"]);
        pods::available_at(pod, min_ready).is_some_and(|at| at <= self.now)
    }

    fn roll_in_place(&mut self) {
        let unavailable = at(self.rolling(), &["maxUnavailable"]);
        // Without surge something must be allowed to be away.
        let limit = scaled(unavailable, 1, self.desired()).max(1);
        let mut away = 0;
        let (mut replace, mut candidates) = (Vec::new(), Vec::new());
        for (node, pods) in &self.by_node {
            if !self.nodes.get(node).is_some_and(|it| it.may_keep) {
                continue;
            }
            match self.updated(pods) {
                (Some(new), None) => away += i64::from(!self.is_available(&new)),
                (None, Some(old)) if !self.is_available(&old) => {
                    away += 1;
                    replace.push(old);
                }
                (None, Some(old)) => candidates.push(old),
                (None, None) | (Some(_), Some(_)) => away += 1,
            }
        }
        let room = usize::try_from(limit - away).unwrap_or_default();
        self.delete.extend(replace);
        self.delete.extend(candidates.into_iter().take(room));
    }

    fn roll_beside(&mut self, surge: i64) {
        let mut beside = 0;
        let (mut now, mut later) = (Vec::new(), Vec::new());
        for (node, pods) in &self.by_node {
            if !self.nodes.get(node).is_some_and(|it| it.should_run) {
                continue;
            }
            match self.updated(pods) {
                (None, Some(old)) if !self.is_available(&old) => now.push(node.clone()),
                (None, Some(_)) => later.push(node.clone()),
                (Some(new), Some(old)) if self.is_available(&new) => self.delete.push(old),
                (Some(_), Some(_)) => beside += 1,
                (_, None) => {}
            }
        }
        let room = usize::try_from(surge - beside).unwrap_or_default();
        self.create.extend(now);
        self.create.extend(later.into_iter().take(room));
    }

    fn writes(&mut self) -> Vec<Write> {
        let mut writes = std::mem::take(&mut self.notes);
        let mut seen = BTreeSet::new();
        let dead: Vec<Arc<Object>> = self.delete.drain(..).collect();
        for pod in dead.iter().filter(|pod| seen.insert(pod.name.clone())).take(BURST) {
            let name = &pod.name.name;
            writes.push(Write::delete(pod).telling(
                Note::normal(
                    self.set,
                    self.world,
                    "SuccessfulDelete",
                    format!("Deleted pod: {name}"),
                ),
                Note::warning(
                    self.set,
                    self.world,
                    "FailedDelete",
                    "Error deleting: {error}".to_owned(),
                ),
            ));
        }
        writes.extend(self.create.iter().take(BURST).map(|node| self.create_pod(node)));
        writes
    }

    fn create_pod(&self, node: &str) -> Write {
        let set = self.set;
        let template = at(set.spec(), &["template"]);
        let mut labels = at(template, &["metadata", "labels"]).clone();
        let fields = object_mut(&mut labels);
        fields.insert(history::HASH.to_owned(), json!(self.history.hash));
        if let Some(generation) = set.annotation("deprecated.daemonset.template.generation") {
            fields.insert(GENERATION.to_owned(), json!(generation));
        }
        let mut metadata = json!({
            "generateName": format!("{}-", set.name.name),
            "namespace": set.name.namespace,
            "labels": labels,
            "ownerReferences": [controller_ref(set, self.world)],
        });
        for field in ["annotations", "finalizers"] {
            let value = at(template, &["metadata", field]);
            if !value.is_null() {
                metadata[field] = value.clone();
            }
        }
        let mut spec = at(template, &["spec"]).clone();
        spec["tolerations"] = json!(tolerations(set));
        let place = json!({"nodeSelectorTerms": [{
            "matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}],
        }]});
        crate::value::set(
            &mut spec,
            &["affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"],
            place,
        );
        Write::Create {
            kind: Kind::POD,
            namespace: set.name.namespace.clone(),
            object: json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}),
            then: None,
            or_else: None,
        }
        .telling(
            Note::normal(set, self.world, "SuccessfulCreate", "Created pod: {name}".to_owned()),
            Note::warning(set, self.world, "FailedCreate", "Error creating: {error}".to_owned()),
        )
    }

    /// The status as it is to be, and when a ready pod becomes available.
    fn status(&self) -> (Value, Option<Timestamp>) {
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        let mut count = |field: &'static str, holds: bool| {
            *counts.entry(field).or_default() += i64::from(holds);
        };
        let min_ready = int_at(self.set.spec(), &["minReadySeconds"]);
        let mut recheck: Option<Timestamp> = None;
        for (node, fit) in &self.nodes {
            let first = self.by_node.get(node).and_then(|it| it.first());
            count("desiredNumberScheduled", fit.should_run);
            count("currentNumberScheduled", fit.should_run && first.is_some());
            count("numberMisscheduled", !fit.should_run && first.is_some());
            let Some(pod) = first.filter(|_| fit.should_run) else { continue };
            count("numberReady", pods::is_ready(pod));
            count("numberAvailable", self.is_available(pod));
            count("updatedNumberScheduled", history::of_pod(pod) == self.history.hash);
            let due = pods::available_at(pod, min_ready).filter(|at| *at > self.now);
            recheck = recheck.into_iter().chain(due).min();
        }
        let get = |field: &str| counts.get(field).copied().unwrap_or_default();
        let away = get("desiredNumberScheduled") - get("numberAvailable");
        let mut status = self.set.status().clone();
        let fields = object_mut(&mut status);
        fields.insert("observedGeneration".to_owned(), json!(self.set.generation()));
        for field in [
            "desiredNumberScheduled",
            "currentNumberScheduled",
            "numberMisscheduled",
            "numberReady",
        ] {
            fields.insert(field.to_owned(), json!(get(field)));
        }
        if self.history.collisions > 0 {
            fields.insert("collisionCount".to_owned(), json!(self.history.collisions));
        }
        for (field, number) in [
            ("updatedNumberScheduled", get("updatedNumberScheduled")),
            ("numberAvailable", get("numberAvailable")),
            ("numberUnavailable", away),
        ] {
            match number {
                0 => fields.remove(field),
                number => fields.insert(field.to_owned(), json!(number)),
            };
        }
        (status, recheck)
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count, or a percentage of `total`, rounded up.
fn scaled(value: &Value, default: i64, total: i64) -> i64 {
    let percent = |text: &str| text.strip_suffix('%')?.parse::<i64>().ok();
    match value.as_str().and_then(percent) {
        Some(percent) => total.saturating_mul(percent).saturating_add(99) / 100,
        None => value.as_i64().unwrap_or(default),
    }
}

#[cfg(test)]
mod tests;
