//! Order, back-off and holding back, with a controller that writes what it is told.

use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::object::{KindRow, Name};
use crate::testing;
use crate::world::Change;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// Wants every pod to have a label, and asks for it as often as it looks.
struct Labeller {
    looks: std::sync::Arc<Mutex<usize>>,
}

impl Controller for Labeller {
    fn name(&self) -> &'static str {
        "labeller"
    }

    fn affected(&self, change: &Change<'_>, _world: &World) -> Vec<ObjectRef> {
        change.latest().map(Object::key).into_iter().collect()
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, _now: Timestamp) -> Plan {
        *self.looks.lock().unwrap() += 1;
        match world.find(key) {
            Some(pod) if pod.labels().is_null() => {
                let patch = json!({"metadata": {"labels": {"seen": "yes"}}});
                Plan::from(vec![Write::patch(pod, None, patch)])
            }
            _ => Plan::default(),
        }
    }
}

struct Fixture {
    engine: Engine,
    looks: std::sync::Arc<Mutex<usize>>,
}

impl Fixture {
    fn new() -> Self {
        let looks = std::sync::Arc::new(Mutex::new(0));
        let pods = |row: &KindRow| row.kind == Kind::POD;
        let world = World::new(testing::rows().into_iter().filter(pods), NOW);
        let controllers: Vec<Box<dyn Controller>> =
            vec![Box::new(Labeller { looks: looks.clone() })];
        Self { engine: Engine::new(world, controllers, 2), looks }
    }

    fn put(&mut self, name: &str, revision: u64, labels: serde_json::Value) {
        let metadata = json!({
            "name": name, "namespace": "default", "uid": name, "labels": labels,
            "resourceVersion": revision.to_string(),
        });
        let object = Object::from_value(Kind::POD, json!({"metadata": metadata}));
        self.engine.handle_put(object, NOW);
    }

    fn looks(&self) -> usize {
        *self.looks.lock().unwrap()
    }
}

fn written(revision: u64) -> Outcome {
    Outcome { awaits: vec![Await::Revision(Kind::POD, revision)], failure: None }
}

fn failed(kind: FailureKind) -> Outcome {
    Outcome { awaits: Vec::new(), failure: Some(Failure { kind, message: String::new() }) }
}

#[test]
fn nothing_is_planned_before_everything_is_known() {
    let mut fixture = Fixture::new();
    fixture.put("p", 1, json!(null));
    assert_eq!(fixture.engine.poll_work(NOW), None);
    fixture.engine.handle_synced(Kind::POD, 1);
    assert!(fixture.engine.poll_work(NOW).is_some());
}

#[test]
fn a_key_waits_until_the_world_shows_its_own_writes() {
    let mut fixture = Fixture::new();
    fixture.engine.handle_synced(Kind::POD, 1);
    fixture.put("p", 2, json!(null));
    let work = fixture.engine.poll_work(NOW).unwrap();
    // News of others while the plan is under way, and after it.
    fixture.put("p", 3, json!(null));
    assert_eq!(fixture.engine.poll_work(NOW), None);
    assert_eq!(fixture.engine.handle_done(work.ticket, written(5), NOW), None);
    fixture.put("p", 4, json!(null));
    assert_eq!((fixture.engine.poll_work(NOW), fixture.looks()), (None, 1));
    fixture.put("p", 5, json!({"seen": "yes"}));
    assert_eq!((fixture.engine.poll_work(NOW), fixture.looks()), (None, 2));
    assert!(fixture.engine.is_idle());
}

#[test]
fn many_changes_of_one_key_are_one_look() {
    let mut fixture = Fixture::new();
    fixture.engine.handle_synced(Kind::POD, 1);
    for revision in 2..10 {
        fixture.put("p", revision, json!({"seen": "yes"}));
    }
    assert_eq!((fixture.engine.poll_work(NOW), fixture.looks()), (None, 1));
}

#[test]
fn failures_back_off_and_news_does_not_wait_for_it() {
    let mut fixture = Fixture::new();
    fixture.engine.handle_synced(Kind::POD, 1);
    fixture.put("p", 2, json!(null));
    let mut now = NOW;
    for expect in [5, 10, 20, 40] {
        let work = fixture.engine.poll_work(now).unwrap();
        fixture.engine.handle_done(work.ticket, failed(FailureKind::Other), now);
        assert_eq!(fixture.engine.poll_work(now), None);
        let at = fixture.engine.poll_timeout().unwrap();
        assert_eq!(at, now + SignedDuration::from_millis(expect));
        now = at;
    }
    let work = fixture.engine.poll_work(now).unwrap();
    fixture.engine.handle_done(work.ticket, failed(FailureKind::Conflict), now);
    fixture.put("p", 3, json!(null));
    let work = fixture.engine.poll_work(now).unwrap();
    fixture.engine.handle_done(work.ticket, written(4), now);
    fixture.put("p", 4, json!({"seen": "yes"}));
    assert_eq!(fixture.engine.poll_work(now), None);
    assert_eq!(fixture.engine.poll_timeout(), None);
}

#[test]
fn the_number_of_plans_under_way_is_bounded() {
    let mut fixture = Fixture::new();
    fixture.engine.handle_synced(Kind::POD, 1);
    for name in ["p", "q", "r"] {
        fixture.put(name, 2, json!(null));
    }
    let works = [fixture.engine.poll_work(NOW), fixture.engine.poll_work(NOW)];
    assert_eq!(fixture.engine.poll_work(NOW), None);
    let first = works[0].as_ref().unwrap();
    assert_eq!(first.key, Kind::POD.key(&Name::new("default", "p")));
    fixture.engine.handle_done(first.ticket, written(2), NOW);
    assert!(fixture.engine.poll_work(NOW).is_some());
}
