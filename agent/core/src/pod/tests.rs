//! The planner by example: one situation, one line of actions.

use std::sync::Arc;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{model::Model, *};
use crate::desired::References;

const UID: &str = "5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e";

/// A pod with one container `c`, changed by a merge of top-level fields of its spec.
pub(crate) fn pod(changes: Value) -> DesiredPod {
    let mut spec = json!({"containers": [{"name": "c", "image": "image"}]});
    for (key, value) in changes.as_object().unwrap() {
        spec[key] = value.clone();
    }
    pod_of(spec, None)
}

pub(crate) fn pod_of(spec: Value, deletion_grace: Option<i64>) -> DesiredPod {
    let mut meta = json!({"name": "p", "namespace": "ns", "uid": UID});
    if let Some(grace) = deletion_grace {
        meta["deletionTimestamp"] = json!("2027-01-15T08:00:00Z");
        meta["deletionGracePeriodSeconds"] = json!(grace);
    }
    let pod = serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap();
    DesiredPod::new(Arc::new(pod), Arc::new(References::default())).unwrap()
}

fn wanted(pod: &DesiredPod) -> Verdict {
    Verdict::Wanted(Arc::new(pod.clone()))
}

/// Actions in short words, and what is waited for.
fn show(plan: &Plan, now: Timestamp) -> String {
    let mut words: Vec<String> = plan
        .actions
        .iter()
        .map(|action| match action {
            Action::BeginTeardown { reason, grace } => {
                format!("begin {reason:?} {}s", grace.as_secs())
            }
            Action::StopContainer { id, grace, reason } => {
                format!("stop {}#{} {}s {reason:?}", id.name, id.attempt, grace.as_secs())
            }
            Action::RunPreStop { id } => format!("prestop {}", id.name),
            Action::SignalContainer { id } => format!("signal {}", id.name),
            Action::KillContainer { id } => format!("kill {}", id.name),
            Action::RecordExit { id, exit } => {
                format!("exit {}#{} {}", id.name, id.attempt, exit.code)
            }
            Action::RemoveContainer { id } => format!("remove {}#{}", id.name, id.attempt),
            Action::RemoveLog { id } => format!("rmlog {}#{}", id.name, id.attempt),
            Action::RemoveSandbox { id } => format!("rmsandbox {}", id.attempt),
            Action::RemoveVolumes => "rmvolumes".to_owned(),
            Action::ReleaseAddress => "release".to_owned(),
            Action::FinishTeardown { reason } => format!("finish {reason:?}"),
            Action::Forget => "forget".to_owned(),
            Action::PrepareVolumes { .. } => "volumes".to_owned(),
            Action::PullImage { name } => format!("pull {name}"),
            Action::CreateSandbox { id } => format!("sandbox {}", id.attempt),
            Action::StartContainer { id, sandbox, backoff } => {
                let backoff = backoff.as_secs();
                format!("start {}#{} in {sandbox} then {backoff}s", id.name, id.attempt)
            }
        })
        .collect();
    if let Some(at) = plan.recheck_at {
        words.push(format!("look in {}s", at.duration_since(now).as_secs()));
    }
    words.join("; ")
}

fn check(model: &Model, verdict: &Verdict, want: Expect) {
    want.assert_eq(&show(&model.plan(verdict), model.now));
}

fn name(text: &str) -> ContainerName {
    text.parse().unwrap()
}

#[test]
fn a_new_pod_comes_up_in_two_looks() {
    let pod = pod(json!({}));
    let (verdict, mut model) = (wanted(&pod), Model::new(&pod));
    check(&model, &verdict, expect!["volumes; pull c; sandbox 0"]);
    let image = ImageState::Present;
    model.observed.containers.insert(name("c"), ObservedContainer { image, ..Default::default() });
    check(&model, &verdict, expect!["volumes; sandbox 0; start c#0 in 0 then 0s"]);
    model.settle(&verdict);
    check(&model, &verdict, expect![""]);
}

#[test]
fn restarts_back_off_and_start_over_after_ten_minutes() {
    let pod = pod(json!({}));
    let (verdict, mut model) = (wanted(&pod), Model::new(&pod));
    model.settle(&verdict);
    model.crash(&name("c"), 1);
    check(&model, &verdict, expect!["exit c#0 1; remove c#0; start c#1 in 0 then 10s"]);
    model.settle(&verdict);
    model.crash(&name("c"), 1);
    check(&model, &verdict, expect!["exit c#1 1; remove c#1; look in 10s"]);
    model.settle(&verdict);
    model.crash(&name("c"), 0);
    check(&model, &verdict, expect!["exit c#2 0; remove c#2; look in 20s"]);
    model.settle(&verdict);
    model.now += SignedDuration::from_secs(601);
    model.crash(&name("c"), 0);
    check(&model, &verdict, expect!["exit c#3 0; remove c#3; rmlog c#2; start c#4 in 0 then 10s"]);
}

#[test]
fn init_containers_run_one_after_another() {
    let inits = json!([{"name": "a", "image": "image"},
        {"name": "s", "image": "image", "restartPolicy": "Always"}]);
    let pod = pod(json!({"initContainers": inits}));
    let (verdict, mut model) = (wanted(&pod), Model::new(&pod));
    model.settle(&verdict);
    assert!(model.observed.container(&name("a")).is_running());
    assert_eq!(model.n_starts, 1);
    model.crash(&name("a"), 1);
    check(&model, &verdict, expect!["exit a#0 1; remove a#0; start a#1 in 0 then 10s"]);
    model.settle(&verdict);
    model.crash(&name("a"), 0);
    check(&model, &verdict, expect!["exit a#1 0; remove a#1; pull s"]);
    model.settle(&verdict);
    assert!(model.observed.container(&name("c")).is_running());
}

#[test]
fn a_deleted_pod_is_stopped_with_grace_and_leaves_nothing() {
    let spec = json!({"containers": [{"name": "c", "image": "image"}]});
    let (pod, deleted) = (pod_of(spec.clone(), None), pod_of(spec.clone(), Some(30)));
    let mut model = Model::new(&pod);
    model.settle(&wanted(&pod));
    model.obedient = false;
    check(
        &model,
        &wanted(&deleted),
        expect!["begin Deleted 30s; stop c#0 30s Teardown; signal c; look in 30s"],
    );
    model.plan(&wanted(&deleted)).actions.iter().for_each(|it| model.apply(it));
    check(&model, &wanted(&deleted), expect!["look in 30s"]);
    let hurried = wanted(&pod_of(spec, Some(5)));
    model.now += SignedDuration::from_secs(4);
    check(&model, &hurried, expect!["look in 1s"]);
    model.now += SignedDuration::from_secs(1);
    check(&model, &hurried, expect!["kill c; look in 1s"]);
    model.apply(&model.plan(&hurried).actions[0].clone());
    check(
        &model,
        &hurried,
        expect!["exit c#0 137; remove c#0; rmsandbox 0; rmvolumes; release; finish Deleted"],
    );
    model.settle(&hurried);
    check(&model, &Verdict::Unwanted { last: None }, expect!["forget"]);
}

#[test]
fn a_clock_set_back_neither_cuts_the_grace_short_nor_makes_it_endless() {
    let pod = pod(json!({}));
    let mut model = Model::new(&pod);
    model.settle(&wanted(&pod));
    model.obedient = false;
    let unwanted = Verdict::Unwanted { last: None };
    model.plan(&unwanted).actions.iter().for_each(|it| model.apply(it));
    model.now -= SignedDuration::from_hours(10);
    check(&model, &unwanted, expect!["stop c#0 30s Teardown; look in 30s"]);
    model.plan(&unwanted).actions.iter().for_each(|it| model.apply(it));
    check(&model, &unwanted, expect!["look in 30s"]);
    model.now += SignedDuration::from_secs(30);
    check(&model, &unwanted, expect!["kill c; look in 1s"]);
}

#[test]
fn a_clock_set_back_ends_a_back_off() {
    let pod = pod(json!({}));
    let (verdict, mut model) = (wanted(&pod), Model::new(&pod));
    for _ in 0..2 {
        model.settle(&verdict);
        model.crash(&name("c"), 1);
    }
    check(&model, &verdict, expect!["exit c#1 1; remove c#1; look in 10s"]);
    model.plan(&verdict).actions.iter().for_each(|it| model.apply(it));
    model.now -= SignedDuration::from_hours(10);
    check(&model, &verdict, expect!["rmlog c#0; start c#2 in 0 then 20s"]);
}

#[test]
fn hooks_run_before_the_signal() {
    let hook = json!({"preStop": {"exec": {"command": ["sleep", "1"]}}});
    let pod = pod(json!({"containers": [{"name": "c", "image": "image", "lifecycle": hook}]}));
    let mut model = Model::new(&pod);
    model.settle(&wanted(&pod));
    let unwanted = Verdict::Unwanted { last: Some(Arc::new(pod)) };
    check(
        &model,
        &unwanted,
        expect!["begin Removed 30s; stop c#0 30s Teardown; prestop c; look in 30s"],
    );
    model.plan(&unwanted).actions.iter().for_each(|it| model.apply(it));
    check(&model, &unwanted, expect!["look in 30s"]);
    model.tick();
    check(&model, &unwanted, expect!["signal c; look in 30s"]);
}

#[test]
fn a_power_cut_brings_everything_back_at_once() {
    let inits = json!([{"name": "i", "image": "image"}]);
    let pod = pod(json!({"initContainers": inits}));
    let (verdict, mut model) = (wanted(&pod), Model::new(&pod));
    model.settle(&verdict);
    model.crash(&name("i"), 0);
    model.settle(&verdict);
    model.reboot();
    check(&model, &verdict, expect!["exit c#0 255; volumes; pull i; sandbox 1"]);
    model.settle(&verdict);
    model.crash(&name("i"), 0);
    model.settle(&verdict);
    assert_eq!(model.observed.container(&name("c")).record.as_ref().unwrap().attempt, Attempt(1));
}

#[test]
fn a_pod_that_never_restarts_does_not_survive_a_power_cut() {
    let pod = pod(json!({"restartPolicy": "Never"}));
    let (verdict, mut model) = (wanted(&pod), Model::new(&pod));
    model.settle(&verdict);
    model.reboot();
    check(
        &model,
        &verdict,
        expect!["begin Completed 30s; exit c#0 255; rmvolumes; release; finish Completed"],
    );
}

#[test]
fn a_changed_image_replaces_the_container() {
    let (old, mut new) = (pod(json!({})), pod(json!({})));
    let mut model = Model::new(&old);
    model.settle(&wanted(&old));
    new.containers[0].image = "other".to_owned();
    check(&model, &wanted(&new), expect!["stop c#0 30s ImageChanged; signal c; look in 30s"]);
}

#[test]
fn bad_configuration_waits_for_a_better_one() {
    let from = json!([{"secretRef": {"name": "none"}}]);
    let pod = pod(json!({"containers": [{"name": "c", "image": "image", "envFrom": from}]}));
    let model = Model::new(&pod);
    check(&model, &wanted(&pod), expect!["volumes; sandbox 0"]);
    let volumes = json!([{"name": "v", "configMap": {"name": "none"}}]);
    let pod =
        pod_of(json!({"containers": [{"name": "c", "image": "image"}], "volumes": volumes}), None);
    check(&model, &wanted(&pod), expect!["pull c"]);
}

#[test]
fn failures_are_retried_with_back_off() {
    let pod = pod(json!({}));
    let (verdict, mut model) = (wanted(&pod), Model::new(&pod));
    let failure = |count| Failure {
        reason: "ErrImagePull".to_owned(),
        message: String::new(),
        count,
        at: model.now,
    };
    let image = ImageState::Failed(failure(3));
    model.observed.containers.insert(name("c"), ObservedContainer { image, ..Default::default() });
    check(&model, &verdict, expect!["volumes; sandbox 0; look in 40s"]);
    model.now += SignedDuration::from_secs(40);
    check(&model, &verdict, expect!["volumes; pull c; sandbox 0"]);
}

#[test]
fn an_unhealthy_container_is_restarted() {
    let pod = pod(json!({}));
    let (verdict, mut model) = (wanted(&pod), Model::new(&pod));
    model.settle(&verdict);
    let grace = Some(SignedDuration::from_secs(7));
    let unhealthy = Some(Unhealthy { probe: "liveness", grace });
    model.observed.containers.get_mut(&name("c")).unwrap().health.unhealthy = unhealthy;
    check(
        &model,
        &verdict,
        expect![[r#"stop c#0 7s Unhealthy { probe: "liveness" }; signal c; look in 7s"#]],
    );
    model.settle(&verdict);
    assert_eq!(model.n_starts, 2);
}

#[test]
fn a_power_cut_is_no_crash_and_waits_for_nothing() {
    let pod = pod(json!({}));
    let (verdict, mut model) = (wanted(&pod), Model::new(&pod));
    for _ in 0..3 {
        model.settle(&verdict);
        model.crash(&name("c"), 1);
    }
    model.settle(&verdict);
    model.reboot();
    model.plan(&verdict).actions.iter().for_each(|it| model.apply(it));
    model.tick();
    check(&model, &verdict, expect!["rmlog c#2; start c#4 in 1 then 40s"]);
}

#[test]
fn a_sandbox_in_use_stays_until_its_containers_moved() {
    let pod = pod(json!({}));
    let (verdict, mut model) = (wanted(&pod), Model::new(&pod));
    model.settle(&verdict);
    let next = SandboxId { pod: pod.uid, attempt: Attempt(1) };
    model.observed.sandboxes.insert(next);
    model.observed.sandbox.as_mut().unwrap().attempt = Attempt(1);
    check(&model, &verdict, expect!["stop c#0 30s SandboxChanged; signal c; look in 30s"]);
    model.plan(&verdict).actions.iter().for_each(|it| model.apply(it));
    check(
        &model,
        &verdict,
        expect!["exit c#0 143; remove c#0; rmsandbox 0; start c#1 in 1 then 10s"],
    );
}

#[test]
fn an_ephemeral_container_runs_once_and_waits_for_nobody() {
    let pod = pod(json!({
        "initContainers": [{"name": "i", "image": "image"}],
        "ephemeralContainers": [{"name": "e", "image": "image", "targetContainerName": "c"}],
    }));
    assert_eq!(pod.container(&name("e")).unwrap().target, Some(name("c")));
    let (verdict, mut model) = (wanted(&pod), Model::new(&pod));
    check(&model, &verdict, expect!["volumes; pull e; pull i; sandbox 0"]);
    model.settle(&verdict);
    let running = |model: &Model| {
        let all = model.observed.containers.iter();
        let names = all.filter(|(_, it)| it.is_running()).map(|(name, _)| name.to_string());
        names.collect::<Vec<_>>().join(" ")
    };
    // It looks at a pod whose initialisation hangs.
    assert_eq!(running(&model), "e i");
    model.crash(&name("e"), 0);
    check(&model, &verdict, expect!["exit e#0 0; remove e#0"]);
    model.settle(&verdict);
    check(&model, &verdict, expect![""]);
    model.reboot();
    model.settle(&verdict);
    assert_eq!(running(&model), "i");
}
