//! What is planned for a Job: by hand, and against a model that ends its pods.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::testing::{now, rows};
use crate::value::set;

/// A store of one Job and its pods that carries out plans.
struct Model {
    job: Value,
    pods: BTreeMap<String, Value>,
    revision: u64,
    made: usize,
    now: Timestamp,
    notes: Vec<String>,
}

impl Model {
    fn new(spec: Value) -> Self {
        let mut spec = spec;
        spec["selector"] = json!({"matchLabels": {"job": "j"}});
        if spec["template"].is_null() {
            spec["template"] =
                json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}});
        }
        set(&mut spec, &["template", "metadata", "labels"], json!({"job": "j"}));
        let job = json!({
            "metadata": {"name": "j", "namespace": "default", "uid": "j"}, "spec": spec, "status": {},
        });
        Self { job, pods: BTreeMap::new(), revision: 1, made: 0, now: now(), notes: Vec::new() }
    }

    fn world(&self) -> World {
        let mut world = World::new(rows(), Timestamp::UNIX_EPOCH);
        let mut put = |kind: Kind, object: &Value| {
            let mut object = object.clone();
            set(&mut object, &["metadata", "resourceVersion"], json!(self.revision.to_string()));
            world.put(Object::from_value(kind, object), self.now);
        };
        put(Kind::JOB, &self.job);
        self.pods.values().for_each(|pod| put(Kind::POD, pod));
        world
    }

    /// Plans once, and carries out at most so many writes. Says whether there were any.
    fn step(&mut self, at_most: usize) -> bool {
        let key = Kind::JOB.key(&Name::new("default", "j"));
        let plan = JobController.reconcile(&key, &self.world(), self.now);
        let writes: Vec<Write> =
            plan.writes.into_iter().filter(|it| !matches!(it, Write::Note(note) if { self.notes.push(note.message.clone()); true })).collect();
        if writes.is_empty() {
            return false;
        }
        for write in writes.into_iter().take(at_most) {
            self.revision += 1;
            self.perform(write);
        }
        true
    }

    fn perform(&mut self, write: Write) {
        match write {
            Write::Create { mut object, .. } => {
                let base = object["metadata"]["generateName"].as_str().unwrap().to_owned();
                let name = format!("{base}{}", self.made);
                self.made += 1;
                object["metadata"]["name"] = json!(name);
                object["metadata"]["uid"] = json!(name);
                object["status"] = json!({"phase": "Running"});
                self.pods.insert(name, object);
            }
            Write::Patch { target, mut patch, .. } => {
                patch["metadata"].as_object_mut().unwrap().remove("resourceVersion");
                let object = match target.kind == Kind::JOB {
                    true => &mut self.job,
                    false => self.pods.get_mut(&target.name.name).unwrap(),
                };
                merge(object, &patch);
                self.collect();
            }
            Write::Delete { target, .. } => {
                let pod = self.pods.get_mut(&target.name.name).unwrap();
                pod["metadata"]["deletionTimestamp"] = json!("2026-11-20T08:00:00Z");
                self.collect();
            }
            Write::Replace { .. } | Write::Note(_) => unreachable!("no Job does that"),
        }
    }

    /// Removes what is deleted, has ended and is held by nothing.
    fn collect(&mut self) {
        self.pods.retain(|_, pod| {
            let deleted = pod["metadata"]["deletionTimestamp"].is_string();
            !deleted
                || pod["metadata"]["finalizers"].is_array()
                || pod["status"]["phase"] == "Running"
        });
    }

    fn settle(&mut self) {
        for _ in 0..50 {
            if !self.step(usize::MAX) {
                return;
            }
        }
        panic!("does not come to rest: {}", self.job);
    }

    /// Ends every pod that runs.
    fn end_all(&mut self, phase: &str, code: i64) -> usize {
        let at = time_text(self.now);
        let mut n_ended = 0;
        for pod in self.pods.values_mut().filter(|pod| pod["status"]["phase"] == "Running") {
            let phase =
                if pod["metadata"]["deletionTimestamp"].is_string() { "Failed" } else { phase };
            pod["status"] = json!({"phase": phase, "containerStatuses": [{
                "name": "c", "state": {"terminated": {"exitCode": code, "finishedAt": at}},
            }]});
            n_ended += 1;
        }
        self.revision += 1;
        self.collect();
        n_ended
    }

    /// Ends the pod that works on an index.
    fn end(&mut self, index: &str, phase: &str) {
        let at = time_text(self.now);
        let running = self.pods.values_mut().filter(|pod| pod["status"]["phase"] == "Running");
        for pod in running.filter(|pod| pod["metadata"]["labels"][indexes::INDEX] == index) {
            pod["status"] = json!({"phase": phase, "containerStatuses": [{
                "name": "c", "state": {"terminated": {"exitCode": 1, "finishedAt": at}},
            }]});
        }
        self.revision += 1;
        self.collect();
    }

    /// Indexes that are worked on, and how often each had failed before.
    fn running(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let pods = self.pods.values().filter(|pod| pod["status"]["phase"] == "Running");
        let mut running: Vec<_> = pods
            .map(|pod| {
                let annotations = &pod["metadata"]["annotations"];
                (text(&annotations[indexes::INDEX]), text(&annotations[tally::FAILURES]))
            })
            .collect();
        running.sort();
        running
    }

    fn status(&self, field: &str) -> Value {
        self.job["status"][field].clone()
    }

    /// Types and reasons of the true conditions.
    fn conditions(&self) -> Vec<String> {
        let list = self.job["status"]["conditions"].as_array().cloned().unwrap_or_default();
        list.iter()
            .filter(|it| it["status"] == "True")
            .map(|it| {
                format!("{} {}", it["type"].as_str().unwrap(), it["reason"].as_str().unwrap())
            })
            .collect()
    }
}

fn merge(into: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    object_mut(into);
    for (key, value) in fields {
        if value.is_null() {
            object_mut(into).remove(key);
        } else {
            let slot = object_mut(into).entry(key.clone()).or_insert(Value::Null);
            merge(slot, value);
        }
    }
}

#[test]
fn a_job_runs_until_enough_pods_have_succeeded() {
    let mut model = Model::new(json!({"completions": 5, "parallelism": 2}));
    model.settle();
    assert_eq!(model.pods.len(), 2);
    assert_eq!(
        (model.status("active"), model.status("startTime")),
        (json!(2), json!("2026-11-20T08:00:00Z"))
    );
    let mut rounds = 0;
    while model.end_all("Succeeded", 0) > 0 {
        model.settle();
        rounds += 1;
    }
    assert_eq!(rounds, 3);
    assert_eq!(model.status("succeeded"), 5);
    assert_eq!(model.status("uncountedTerminatedPods"), json!({}));
    assert_eq!(
        model.conditions(),
        ["SuccessCriteriaMet CompletionsReached", "Complete CompletionsReached"]
    );
    assert_eq!(model.status("completionTime"), "2026-11-20T08:00:00Z");
    assert!(model.pods.values().all(|pod| pod["metadata"]["finalizers"].is_null()));
    assert!(model.notes.contains(&"Job completed".to_owned()));
}

/// However the plan is cut, every pod is counted once.
#[test]
fn no_crash_loses_or_doubles_a_pod() {
    for cut in 1..6 {
        let mut model = Model::new(json!({"completions": 4, "parallelism": 3, "backoffLimit": 9}));
        for round in 0..60 {
            if model.step(cut) {
                continue;
            }
            let phase = if round % 7 == 3 { "Failed" } else { "Succeeded" };
            if model.end_all(phase, 1) == 0 {
                model.now = model.now.checked_add(SignedDuration::from_secs(700)).unwrap();
            }
        }
        assert_eq!(
            model.conditions().last().unwrap(),
            "Complete CompletionsReached",
            "cut at {cut}"
        );
        let ended =
            |phase: &str| model.pods.values().filter(|it| it["status"]["phase"] == phase).count();
        assert_eq!(model.status("succeeded"), ended("Succeeded"), "cut at {cut}");
        assert_eq!(
            model.status("failed").as_u64().unwrap_or(0),
            ended("Failed") as u64,
            "cut at {cut}"
        );
    }
}

#[test]
fn failures_wait_and_then_end_the_job() {
    let mut model = Model::new(json!({"completions": 1, "parallelism": 1, "backoffLimit": 1}));
    model.settle();
    model.end_all("Failed", 1);
    model.settle();
    assert_eq!(model.status("active"), Value::Null, "waits ten seconds");
    model.now = model.now.checked_add(SignedDuration::from_secs(10)).unwrap();
    model.settle();
    assert_eq!(model.status("active"), 1);
    model.end_all("Failed", 1);
    model.settle();
    assert_eq!(
        model.conditions(),
        ["FailureTarget BackoffLimitExceeded", "Failed BackoffLimitExceeded"]
    );
    assert_eq!((model.status("failed"), model.status("completionTime")), (json!(2), Value::Null));
}

/// A pod that is held to be counted, of the Job with this uid or of none.
fn held(owner: Option<&str>) -> Value {
    let mut pod = json!({
        "metadata": {
            "name": "held", "namespace": "default", "uid": "held", "labels": {"job": "other"},
            "finalizers": [tally::FINALIZER],
        },
        "status": {"phase": "Running"},
    });
    if let Some(uid) = owner {
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": uid, "controller": true,
        }]);
    }
    pod
}

/// Whether a pod that is held is looked after by itself, and how many writes let it go.
fn let_go(model: &Model) -> (bool, usize) {
    let key = Kind::POD.key(&Name::new("default", "held"));
    let world = model.world();
    let change = Change { kind: Kind::POD, old: None, new: world.find(&key).map(AsRef::as_ref) };
    let is_woken = JobController.affected(&change, &world).contains(&key);
    let plan = JobController.reconcile(&key, &world, model.now);
    (is_woken, plan.writes.len())
}

#[test]
fn pods_of_an_earlier_job_of_the_name_are_let_go() {
    let mut model = Model::new(json!({"completions": 1, "parallelism": 1}));
    model.pods.insert("held".to_owned(), held(Some("j")));
    assert_eq!(let_go(&model), (false, 0));
    model.pods.insert("held".to_owned(), held(Some("before")));
    assert_eq!(let_go(&model), (true, 1));

    // They are woken when their Job goes, also if another is there at once.
    let world = model.world();
    let job: &Object = world.get(Kind::JOB, &Name::new("default", "j")).unwrap();
    let mut old = model.job.clone();
    old["metadata"]["uid"] = json!("before");
    let old = Object::from_value(Kind::JOB, old);
    let pod = Kind::POD.key(&Name::new("default", "held"));
    for new in [None, Some(job)] {
        let change = Change { kind: Kind::JOB, old: Some(&old), new };
        assert_eq!(JobController.affected(&change, &world), [job.key(), pod.clone()]);
    }
    let change = Change { kind: Kind::JOB, old: Some(job), new: Some(job) };
    assert_eq!(JobController.affected(&change, &world), [job.key()]);
}

#[test]
fn a_pod_is_not_let_go_while_its_job_may_be_on_its_way() {
    let mut pod = held(Some("j"));
    pod["metadata"]["resourceVersion"] = json!("9");
    let mut world = crate::testing::world([(Kind::POD, pod)]);
    let key = Kind::POD.key(&Name::new("default", "held"));
    world.mark_synced(Kind::JOB, 8);
    let plan = |world: &World| crate::testing::plan(&JobController, &key, world);
    assert_eq!(plan(&world), "recheck at 2026-11-20T08:00:00.1Z\n");
    world.mark_synced(Kind::JOB, 9);
    assert!(plan(&world).starts_with("patch pods default/held "));
}

#[test]
fn a_pod_without_a_job_is_let_go() {
    let mut model = Model::new(json!({"completions": 1, "parallelism": 1}));
    model.pods.insert("held".to_owned(), held(None));
    assert_eq!(let_go(&model), (true, 1));
    // A Job will adopt it.
    model.pods.get_mut("held").unwrap()["metadata"]["labels"]["job"] = json!("j");
    assert_eq!(let_go(&model), (true, 0));
    model.job["metadata"]["deletionTimestamp"] = json!("2026-11-20T08:00:00Z");
    assert_eq!(let_go(&model), (true, 1));
}

#[test]
fn a_pod_that_is_adopted_counts() {
    let mut model = Model::new(json!({"completions": 1, "parallelism": 1}));
    let stray = json!({
        "metadata": {"name": "stray", "namespace": "default", "uid": "stray", "labels": {"job": "j"}},
        "status": {"phase": "Running"},
    });
    model.pods.insert("stray".to_owned(), stray);
    model.settle();
    assert_eq!(model.pods.len(), 1);
    model.end_all("Succeeded", 0);
    model.settle();
    assert_eq!((model.status("succeeded"), model.pods.len()), (json!(1), 1));
}

#[test]
fn indexes_are_each_completed_once() {
    let mut model = Model::new(
        json!({"completions": 4, "parallelism": 3, "completionMode": "Indexed", "backoffLimit": 6}),
    );
    model.settle();
    let first = model.pods.values().next().unwrap();
    assert_eq!(first["metadata"]["labels"][indexes::INDEX], "0");
    assert_eq!(first["spec"]["hostname"], "j-0");
    assert_eq!(first["spec"]["containers"][0]["env"][0]["name"], "JOB_COMPLETION_INDEX");
    model.end_all("Succeeded", 0);
    model.settle();
    assert_eq!(
        (model.status("completedIndexes"), model.status("active")),
        (json!("0-2"), json!(1))
    );
    model.end_all("Succeeded", 0);
    model.settle();
    assert_eq!(
        (model.status("completedIndexes"), model.status("succeeded")),
        (json!("0-3"), json!(4))
    );
    assert_eq!(model.conditions().last().unwrap(), "Complete CompletionsReached");
}

#[test]
fn an_index_fails_alone() {
    let mut model = Model::new(json!({
        "completions": 2, "parallelism": 2, "completionMode": "Indexed",
        "backoffLimit": 2_147_483_647_i64, "backoffLimitPerIndex": 1, "maxFailedIndexes": 2,
    }));
    for _ in 0..2 {
        model.settle();
        model.end_all("Failed", 1);
        model.settle();
        model.now = model.now.checked_add(SignedDuration::from_secs(700)).unwrap();
    }
    model.settle();
    assert_eq!((model.status("failedIndexes"), model.status("failed")), (json!("0,1"), json!(4)));
    assert_eq!(model.conditions(), ["FailureTarget FailedIndexes", "Failed FailedIndexes"]);
}

#[test]
fn an_index_waits_alone_and_its_failures_are_remembered() {
    let mut model = Model::new(json!({
        "completions": 3, "parallelism": 2, "completionMode": "Indexed",
        "backoffLimit": 2_147_483_647_i64, "backoffLimitPerIndex": 3,
    }));
    let pairs = |model: &Model| -> Vec<String> {
        model
            .running()
            .iter()
            .map(|(index, failures)| format!("{index} after {failures}"))
            .collect()
    };
    model.settle();
    assert_eq!(pairs(&model), ["0 after 0", "1 after 0"]);
    model.end("0", "Failed");
    model.settle();
    assert_eq!(pairs(&model), ["1 after 0", "2 after 0"], "another index need not wait");
    // Whoever deletes the failed pod meanwhile does not make its failure undone.
    for pod in model.pods.values_mut().filter(|pod| pod["status"]["phase"] == "Failed") {
        pod["metadata"]["deletionTimestamp"] = json!("2026-11-20T08:00:00Z");
    }
    model.collect();
    model.settle();
    assert_eq!((model.pods.len(), model.status("failed")), (3, Value::Null));

    model.now = model.now.checked_add(SignedDuration::from_secs(10)).unwrap();
    model.end("1", "Succeeded");
    model.settle();
    assert_eq!(pairs(&model), ["0 after 1", "2 after 0"]);
    assert_eq!((model.pods.len(), model.status("failed")), (3, json!(1)), "counted now");

    model.end("0", "Failed");
    model.settle();
    assert_eq!(pairs(&model), ["2 after 0"]);
    let key = Kind::JOB.key(&Name::new("default", "j"));
    let plan = JobController.reconcile(&key, &model.world(), model.now);
    let twice = model.now.checked_add(SignedDuration::from_secs(20)).unwrap();
    assert_eq!(plan.recheck_at, Some(twice), "each failure doubles the wait of the index");
    model.now = twice;
    model.settle();
    assert_eq!(pairs(&model), ["0 after 2", "2 after 0"]);

    // A Job that ends keeps nothing.
    model.end("0", "Failed");
    model.job["spec"]["activeDeadlineSeconds"] = json!(1);
    for _ in 0..2 {
        model.settle();
        model.end("2", "Failed");
    }
    assert_eq!(model.conditions().last().unwrap(), "Failed DeadlineExceeded");
    assert!(model.pods.values().all(|pod| pod["metadata"]["finalizers"].is_null()));
    assert_eq!(model.status("failed"), 4);
}

#[test]
fn rules_decide_what_a_failure_means() {
    let with = |action: &str| {
        json!({"completions": 1, "parallelism": 1, "backoffLimit": 3, "podFailurePolicy": {"rules": [
            {"action": action, "onExitCodes": {"operator": "In", "values": [42]}},
        ]}})
    };
    let mut fails = Model::new(with("FailJob"));
    fails.settle();
    fails.end_all("Failed", 42);
    fails.settle();
    assert_eq!(fails.conditions(), ["FailureTarget PodFailurePolicy", "Failed PodFailurePolicy"]);
    let message = fails.job["status"]["conditions"][0]["message"].as_str().unwrap();
    assert_eq!(
        message,
        "Container c for pod default/j-0 failed with exit code 42 matching FailJob rule at index 0"
    );
    let mut ignores = Model::new(with("Ignore"));
    ignores.settle();
    ignores.end_all("Failed", 42);
    ignores.settle();
    assert_eq!((ignores.status("failed"), ignores.conditions().len()), (Value::Null, 0));
}

#[test]
fn a_suspended_job_has_no_pods_and_counts_none_as_failed() {
    let mut model = Model::new(json!({"completions": 2, "parallelism": 2, "backoffLimit": 0}));
    model.settle();
    model.job["spec"]["suspend"] = json!(true);
    model.settle();
    model.end_all("Failed", 0);
    model.settle();
    assert_eq!(model.conditions(), ["Suspended JobSuspended"]);
    assert_eq!((model.status("failed"), model.status("startTime")), (Value::Null, Value::Null));
    assert!(model.pods.is_empty());
    model.job["spec"]["suspend"] = json!(false);
    model.settle();
    assert_eq!((model.conditions(), model.pods.len()), (Vec::new(), 2));
}

#[test]
fn deadlines_and_the_time_to_live_pass() {
    let mut model = Model::new(
        json!({"completions": 1, "parallelism": 1, "activeDeadlineSeconds": 30, "ttlSecondsAfterFinished": 60}),
    );
    model.settle();
    model.now = model.now.checked_add(SignedDuration::from_secs(30)).unwrap();
    model.settle();
    assert_eq!(model.conditions(), ["FailureTarget DeadlineExceeded"], "its pod still ends");
    model.end_all("Failed", 137);
    model.settle();
    assert_eq!(model.conditions().last().unwrap(), "Failed DeadlineExceeded");
    let key = Kind::JOB.key(&Name::new("default", "j"));
    let plan = JobController.reconcile(&key, &model.world(), model.now);
    assert_eq!(plan.recheck_at, model.now.checked_add(SignedDuration::from_secs(60)).ok());
    let later = plan.recheck_at.unwrap();
    let plan = JobController.reconcile(&key, &model.world(), later);
    assert_eq!(crate::testing::text(&plan), "delete jobs.batch default/j Foreground\n");
}
