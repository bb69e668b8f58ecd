//! Statuses by example: what a client sees in each situation.

use std::sync::Arc;

use expect_test::{Expect, expect};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::{
    desired::{References, Verdict},
    pod::{Failure, HookState, ImageState, ObservedContainer, RuntimeState, VolumeState},
    record::{ContainerRecord, ExitRecord, SandboxRecord},
};

const UID: &str = "5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e";

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn pod(spec: Value) -> DesiredPod {
    let meta = json!({"name": "p", "namespace": "ns", "uid": UID});
    let pod = serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap();
    DesiredPod::new(Arc::new(pod), Arc::new(References::default())).unwrap()
}

fn one() -> DesiredPod {
    pod(json!({"containers": [{"name": "c", "image": "img"}]}))
}

fn observed(pod: &DesiredPod) -> ObservedPod {
    let mut observed = ObservedPod::new(pod.uid, now());
    let address = Some([10, 42, 0, 7].into());
    observed.sandbox =
        Some(SandboxRecord { attempt: Default::default(), made_at: Some(now()), address });
    observed.address = address;
    let attempt = Default::default();
    observed.sandboxes.insert(crate::ids::SandboxId { pod: pod.uid, attempt });
    observed.volumes = VolumeState::Ready { fingerprint: pod.volumes_fingerprint };
    observed
}

fn record(attempt: u32) -> ContainerRecord {
    ContainerRecord {
        name: "c".parse().unwrap(),
        attempt: crate::ids::Attempt(attempt),
        sandbox: Default::default(),
        image: Some("img".to_owned()),
        image_id: "img@sha256:1".to_owned(),
        backoff_seconds: 0,
        created_at: now(),
        stop_signal: 15,
        stop: None,
        exit: None,
        last: None,
        ready: false,
        ready_changed_at: None,
    }
}

fn exit(attempt: u32, code: i32) -> ExitRecord {
    ExitRecord {
        attempt: crate::ids::Attempt(attempt),
        code,
        signal: None,
        reason: if code == 0 { "Completed" } else { "Error" }.to_owned(),
        message: String::new(),
        started_at: Some(now()),
        finished_at: now(),
        image_id: String::new(),
        lost: false,
    }
}

/// Phase, conditions that are not True with their reasons, and each container on a line.
fn show(status: &PodStatus) -> String {
    let mut out = status.phase.clone().unwrap();
    for it in status.conditions.iter().flatten().filter(|it| it.status != "True") {
        let reason = it.reason.as_deref().unwrap_or("-");
        out += &format!("\n{}: {reason} {}", it.type_, it.message.as_deref().unwrap_or_default());
    }
    let inits = status.init_container_statuses.iter().flatten();
    for it in inits.chain(status.container_statuses.iter().flatten()) {
        let state = serde_json::to_string(&it.state).unwrap();
        let last = serde_json::to_string(&it.last_state).unwrap();
        out += &format!(
            "\n{} ready={} started={:?} restarts={}\n  {state}\n  {last}",
            it.name, it.ready, it.started, it.restart_count
        );
    }
    out
}

fn check(pod: &DesiredPod, observed: &ObservedPod, want: Expect) {
    let status = pod_status(pod, observed, Some([192, 168, 1, 2].into()), None, now());
    want.assert_eq(&show(&status));
}

#[test]
fn a_new_pod_is_being_created() {
    let pod = one();
    let observed = ObservedPod::new(pod.uid, now());
    check(
        &pod,
        &observed,
        expect![[r#"
            Pending
            PodReadyToStartContainers: - 
            Ready: ContainersNotReady containers with unready status: [c]
            ContainersReady: ContainersNotReady containers with unready status: [c]
            c ready=false started=Some(false) restarts=0
              {"waiting":{"reason":"ContainerCreating"}}
              {}"#]],
    );
}

#[test]
fn a_running_pod_is_ready_and_has_its_address() {
    let pod = one();
    let mut observed = observed(&pod);
    let mut container = ObservedContainer { record: Some(record(0)), ..Default::default() };
    container.runtime = Some(RuntimeState::Running { started_at: now() });
    container.health.started = true;
    container.health.ready = true;
    observed.containers.insert("c".parse().unwrap(), container);
    check(
        &pod,
        &observed,
        expect![[r#"
            Running
            c ready=true started=Some(true) restarts=0
              {"running":{"startedAt":"2027-01-15T08:00:00Z"}}
              {}"#]],
    );
    let status = pod_status(&pod, &observed, None, None, now());
    assert_eq!(status.pod_ip.as_deref(), Some("10.42.0.7"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    let later = now() + SignedDuration::from_secs(60);
    let again = pod_status(&pod, &observed, None, Some(&status), later);
    assert_eq!(again, status, "nothing changed, so nothing may look changed");
    let unknown = pod_status(&pod, &observed, None, None, later);
    assert_eq!(unknown, status, "a new process says what the old one said");
    let id = status.container_statuses.unwrap()[0].container_id.clone();
    assert_eq!(id.unwrap(), format!("outbye://{UID}.c.0"));
}

#[test]
fn a_crashing_container_backs_off() {
    let pod = one();
    let mut observed = observed(&pod);
    let mut crashed = record(3);
    crashed.backoff_seconds = 40;
    crashed.exit = Some(exit(3, 1));
    let container = ObservedContainer { record: Some(crashed), ..Default::default() };
    observed.containers.insert("c".parse().unwrap(), container);
    check(
        &pod,
        &observed,
        expect![[r#"
            Running
            Ready: ContainersNotReady containers with unready status: [c]
            ContainersReady: ContainersNotReady containers with unready status: [c]
            c ready=false started=Some(false) restarts=3
              {"waiting":{"message":"back-off 40s restarting failed container=c pod=p_ns(5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e)","reason":"CrashLoopBackOff"}}
              {"terminated":{"containerID":"outbye://5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e.c.3","exitCode":1,"finishedAt":"2027-01-15T08:00:00Z","reason":"Error","startedAt":"2027-01-15T08:00:00Z"}}"#]],
    );
}

#[test]
fn a_missing_image_is_named() {
    let pod = one();
    let mut observed = observed(&pod);
    let failure = Failure {
        reason: "ErrImagePull".to_owned(),
        message: "not found".to_owned(),
        count: 2,
        at: now(),
    };
    let image = ImageState::Failed(failure);
    observed
        .containers
        .insert("c".parse().unwrap(), ObservedContainer { image, ..Default::default() });
    check(
        &pod,
        &observed,
        expect![[r#"
            Pending
            Ready: ContainersNotReady containers with unready status: [c]
            ContainersReady: ContainersNotReady containers with unready status: [c]
            c ready=false started=Some(false) restarts=0
              {"waiting":{"message":"Back-off pulling image \"img\": ErrImagePull: not found","reason":"ImagePullBackOff"}}
              {}"#]],
    );
}

#[test]
fn init_containers_hold_the_others() {
    let pod = pod(json!({
        "containers": [{"name": "m", "image": "img"}],
        "initContainers": [{"name": "c", "image": "img"}, {"name": "d", "image": "img"}]}));
    let mut observed = observed(&pod);
    let mut container = ObservedContainer { record: Some(record(0)), ..Default::default() };
    container.runtime = Some(RuntimeState::Running { started_at: now() });
    observed.containers.insert("c".parse().unwrap(), container);
    check(
        &pod,
        &observed,
        expect![[r#"
            Pending
            Initialized: ContainersNotInitialized containers with incomplete status: [c d]
            Ready: ContainersNotReady containers with unready status: [m]
            ContainersReady: ContainersNotReady containers with unready status: [m]
            c ready=false started=Some(false) restarts=0
              {"running":{"startedAt":"2027-01-15T08:00:00Z"}}
              {}
            d ready=false started=Some(false) restarts=0
              {"waiting":{"reason":"PodInitializing"}}
              {}
            m ready=false started=Some(false) restarts=0
              {"waiting":{"reason":"PodInitializing"}}
              {}"#]],
    );
}

#[test]
fn a_finished_job_succeeds_or_fails() {
    for (code, want) in [(0, "Succeeded PodCompleted"), (3, "Failed PodFailed")] {
        let pod = pod(json!({
            "containers": [{"name": "c", "image": "img"}], "restartPolicy": "Never"}));
        let mut observed = observed(&pod);
        let mut ended = record(0);
        ended.exit = Some(exit(0, code));
        let container = ObservedContainer { record: Some(ended), ..Default::default() };
        observed.containers.insert("c".parse().unwrap(), container);
        let reason = TeardownReason::Completed;
        observed.lifecycle = Lifecycle::Terminated { at: now(), reason };
        let status = pod_status(&pod, &observed, None, None, now());
        let ready = status.conditions.iter().flatten().find(|it| it.type_ == "Ready").unwrap();
        let reason = ready.reason.as_deref().unwrap();
        assert_eq!(format!("{} {reason}", status.phase.unwrap()), want);
    }
}

#[test]
fn bad_configuration_is_said_and_hooks_delay_running() {
    let env = json!([{"configMapRef": {"name": "none"}}]);
    let bad = pod(json!({"containers": [{"name": "c", "image": "img", "envFrom": env}]}));
    let status = pod_status(&bad, &observed(&bad), None, None, now());
    let state = status.container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!(state.reason.as_deref(), Some("CreateContainerConfigError"));
    assert_eq!(state.message.as_deref(), Some("configmap \"none\" not found"));

    let pod = one();
    let mut observed = observed(&pod);
    let mut container = ObservedContainer { record: Some(record(0)), ..Default::default() };
    container.runtime = Some(RuntimeState::Running { started_at: now() });
    container.post_start = HookState::Running;
    observed.containers.insert("c".parse().unwrap(), container);
    assert_eq!(pod_status(&pod, &observed, None, None, now()).phase.unwrap(), "Pending");
    assert!(crate::pod::plan(&Verdict::Wanted(Arc::new(pod)), &observed, now()).actions.is_empty());
}
