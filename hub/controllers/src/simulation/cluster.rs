//! A cluster in which everything happens in an order drawn from a seed.

use std::collections::{BTreeMap, VecDeque};

use hub_scheduler::{Decision, Scheduler};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::store::{Event, Store};
use crate::object::{Kind, Name, Object, ObjectRef};
use crate::value::{at, object_mut, set, str_at, time_text};
use crate::{
    Cidr, Config, Engine, Failure, Outcome, Propagation, Work, World, Write, all, testing,
};

/// Annotation of pods that start and never get ready.
pub(super) const BROKEN: &str = "broken";

/// A small generator of choices.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let bound = u64::try_from(bound.max(1)).unwrap_or(1);
        usize::try_from((self.0 >> 11) % bound).unwrap_or_default()
    }
}

/// The part that a crash of the hub loses.
struct Hub {
    engine: Engine,
    scheduler: Scheduler,
    /// What each informer has not delivered yet.
    news: BTreeMap<Kind, VecDeque<Event>>,
    /// Plans under way, with the number of writes done.
    works: Vec<(Work, usize, Outcome)>,
    n_logged: usize,
}

pub(super) struct Cluster {
    pub store: Store,
    pub now: Timestamp,
    pub dice: Dice,
    hub: Hub,
    next_ip: u32,
}

impl Cluster {
    pub(super) fn new(seed: u64) -> Self {
        let now: Timestamp = "2026-11-20T08:00:00Z".parse().unwrap();
        let store = Store::default();
        let hub = Hub::new(&store, now);
        let mut cluster = Self { store, now, dice: Dice::new(seed), hub, next_ip: 0 };
        for node in ["a", "b"] {
            cluster.create(Kind::NODE, "", node_object(node, now));
        }
        for namespace in ["default", "other"] {
            cluster.create(
                Kind::NAMESPACE,
                "",
                json!({
                    "metadata": {"name": namespace},
                    "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
                }),
            );
        }
        cluster
    }

    pub(super) fn create(&mut self, kind: Kind, namespace: &str, object: Value) {
        self.store.create(kind, namespace, object, self.now).unwrap();
    }

    pub(super) fn patch(&mut self, kind: Kind, name: &Name, patch: &Value) {
        self.store.patch(&kind.key(name), None, patch, self.now).unwrap();
    }

    pub(super) fn delete(&mut self, key: &ObjectRef, propagation: Propagation) {
        let uid = self.store.objects[key]["metadata"]["uid"].as_str().unwrap().to_owned();
        self.store.delete(key, &uid, propagation, None, self.now);
    }

    /// The hub dies in the middle of whatever it does, and starts again.
    pub(super) fn crash(&mut self) {
        self.hub = Hub::new(&self.store, self.now);
    }

    /// One thing happens. Tells whether there was anything to happen.
    pub(super) fn step(&mut self) -> bool {
        self.now += SignedDuration::from_millis(1);
        self.hub.read_log(&self.store);
        let first = self.dice.below(4);
        (0..4).any(|turn| match (first + turn) % 4 {
            0 => self.deliver(),
            1 => self.plan(),
            2 => self.write(),
            _ => self.kubelet(),
        })
    }

    /// Runs until nothing is left to do now or soon. `check` sees every state on the way.
    pub(super) fn settle(&mut self, mut check: impl FnMut(&Self)) {
        for _ in 0..200_000 {
            if self.step() {
                check(self);
                continue;
            }
            let timers = [self.hub.engine.poll_timeout(), self.hub.scheduler.poll_timeout()];
            let soon = self.now + SignedDuration::from_secs(20);
            match timers.into_iter().flatten().min() {
                Some(at) if at < soon => self.now = self.now.max(at),
                _ => return,
            }
        }
        panic!("the cluster does not come to rest: {:?}", self.hub.engine);
    }

    fn deliver(&mut self) -> bool {
        let kinds: Vec<Kind> = self.hub.news.keys().copied().collect();
        let waiting: Vec<Kind> =
            kinds.into_iter().filter(|kind| !self.hub.news[kind].is_empty()).collect();
        if waiting.is_empty() {
            return self.bookmark();
        }
        let kind = waiting[self.dice.below(waiting.len())];
        let event = self.hub.news.get_mut(&kind).and_then(VecDeque::pop_front);
        self.hub.take(event.unwrap(), self.now);
        true
    }

    /// An informer that has nothing to tell says so.
    fn bookmark(&mut self) -> bool {
        let revision = self.store.revision;
        let world = self.hub.engine.world();
        let behind: Vec<Kind> = testing::rows()
            .into_iter()
            .map(|row| row.kind)
            .filter(|kind| world.seen(*kind).is_some_and(|seen| seen < revision))
            .collect();
        let kind = behind.get(self.dice.below(behind.len())).copied();
        if let Some(kind) = kind {
            self.hub.engine.handle_synced(kind, revision);
        }
        kind.is_some()
    }

    fn plan(&mut self) -> bool {
        if let Some(work) = self.hub.engine.poll_work(self.now) {
            self.hub.works.push((work, 0, Outcome::default()));
            return true;
        }
        match self.hub.scheduler.poll_decision(self.now) {
            Some(Decision::Bind { pod, node }) => {
                let key = Kind::POD.key(&Name::new(&pod.namespace, &pod.name));
                let patch = json!({"metadata": {"uid": pod.uid}, "spec": {"nodeName": node}});
                if self.store.patch(&key, None, &patch, self.now).is_err() {
                    self.hub.scheduler.handle_bind_failed(&pod.uid, self.now);
                }
                true
            }
            Some(Decision::Unschedulable { .. }) => true,
            None => false,
        }
    }

    fn write(&mut self) -> bool {
        if self.hub.works.is_empty() {
            return false;
        }
        let place = self.dice.below(self.hub.works.len());
        let (work, done, outcome) = &mut self.hub.works[place];
        let write: &Write = &work.writes[*done];
        *done += 1;
        match self.store.perform(write, self.now) {
            Ok(awaited) => outcome.awaits.extend(awaited),
            Err(failure) => outcome.failure = Some::<Failure>(failure),
        }
        if outcome.failure.is_some() || *done == work.writes.len() {
            let (work, _, outcome) = self.hub.works.swap_remove(place);
            if let Some(report) = self.hub.engine.handle_done(work.ticket, outcome, self.now) {
                self.hub.works.push((report, 0, Outcome::default()));
            }
        }
        true
    }

    /// Some node brings one of its pods on.
    fn kubelet(&mut self) -> bool {
        let pods: Vec<ObjectRef> = self
            .store
            .list(Kind::POD)
            .filter(|(_, pod)| {
                let is_deleted = !at(pod, &["metadata", "deletionTimestamp"]).is_null();
                let is_new = at(pod, &["status", "phase"]).is_null();
                !str_at(pod, &["spec", "nodeName"]).is_empty() && (is_deleted || is_new)
            })
            .map(|(key, _)| key.clone())
            .collect();
        if pods.is_empty() {
            return false;
        }
        let key = pods[self.dice.below(pods.len())].clone();
        let mut pod = self.store.objects[&key].clone();
        if !at(&pod, &["metadata", "deletionTimestamp"]).is_null() {
            self.store.remove(&key);
            return true;
        }
        self.next_ip += 1;
        let is_broken = !at(&pod, &["metadata", "annotations", BROKEN]).is_null();
        let ready = json!({
            "type": "Ready",
            "status": if is_broken { "False" } else { "True" },
            "lastTransitionTime": time_text(self.now),
        });
        let ip = std::net::Ipv4Addr::from(0x0a00_0000 + self.next_ip).to_string();
        pod["status"] = json!({"phase": "Running", "podIP": ip, "conditions": [ready]});
        self.store.put(key, pod);
        true
    }
}

impl Hub {
    fn new(store: &Store, now: Timestamp) -> Self {
        let cluster_cidr = Cidr { address: [10, 42, 0, 0].into(), prefix: 16 };
        let config = Config { cluster_cidr, ca_pem: "CA".to_owned() };
        let engine = Engine::new(World::new(testing::rows(), now), all(&config), 8);
        let mut hub = Self {
            engine,
            scheduler: Scheduler::new(),
            news: BTreeMap::new(),
            works: Vec::new(),
            n_logged: store.log.len(),
        };
        for (key, value) in &store.objects {
            hub.take(Event::Put { kind: key.kind, value: value.clone() }, now);
        }
        for row in testing::rows() {
            hub.engine.handle_synced(row.kind, store.revision);
        }
        hub
    }

    fn read_log(&mut self, store: &Store) {
        for event in &store.log[self.n_logged..] {
            let kind = match event {
                Event::Put { kind, .. } => *kind,
                Event::Removed { key, .. } => key.kind,
            };
            self.news.entry(kind).or_default().push_back(event.clone());
        }
        self.n_logged = store.log.len();
    }

    fn take(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Put { kind, value, .. } => {
                match kind {
                    Kind::NODE => self.scheduler.handle_node(&value),
                    Kind::POD => self.scheduler.handle_pod(&value),
                    _ => {}
                }
                self.engine.handle_put(Object::from_value(kind, value), now);
            }
            Event::Removed { key, revision } => {
                let applied = self.engine.handle_removed(&key, revision, now);
                match key.kind {
                    Kind::NODE => self.scheduler.handle_node_removed(&key.name.name),
                    Kind::POD => {
                        let old = applied.and_then(|applied| applied.old);
                        self.scheduler.handle_pod_removed(&old.unwrap().uid.0);
                    }
                    _ => {}
                }
            }
        }
    }
}

fn node_object(name: &str, now: Timestamp) -> Value {
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
        "lastTransitionTime": time_text(now),
    });
    json!({
        "metadata": {"name": name},
        "spec": {},
        "status": {
            "allocatable": {"cpu": "64", "memory": "64Gi", "pods": "500"}, "conditions": [ready],
        },
    })
}

/// A Deployment of `app` that runs `version` of its template.
pub(super) fn deployment(app: &str, replicas: i64, version: &str, rolling: Value) -> Value {
    json!({
        "metadata": {"name": app},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": app}},
            "template": template(app, version),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": 600,
        },
    })
}

pub(super) fn template(app: &str, version: &str) -> Value {
    let mut template = json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "main", "image": version, "ports": [{
            "name": "http", "containerPort": 8080,
        }]}]},
    });
    if version == BROKEN {
        set(&mut template, &["metadata", "annotations", BROKEN], json!("yes"));
    }
    object_mut(&mut template);
    template
}
