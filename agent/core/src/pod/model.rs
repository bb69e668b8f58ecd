//! A node that obeys: applies actions to an [`ObservedPod`] and checks what must always hold.

use std::net::Ipv4Addr;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::record::{ContainerRecord, PodRecord, SandboxRecord};

/// How long the model follows plans before it gives up.
const MAX_ROUNDS: usize = 400;

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) observed: ObservedPod,
    pub(super) now: Timestamp,
    /// Containers end when they are asked to.
    pub(super) obedient: bool,
    pub(super) forgotten: bool,
    pub(super) n_starts: usize,
    pub(super) torn_down: bool,
}

impl Model {
    pub(super) fn new(pod: &DesiredPod) -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let observed = ObservedPod::new(pod.uid, now);
        Self { observed, now, obedient: true, forgotten: false, n_starts: 0, torn_down: false }
    }

    pub(super) fn plan(&self, verdict: &Verdict) -> Plan {
        plan(verdict, &self.observed, self.now)
    }

    /// Plans and applies until nothing is left to do, letting time pass where the plan says so.
    pub(super) fn settle(&mut self, verdict: &Verdict) -> Plan {
        for _ in 0..MAX_ROUNDS {
            let plan = self.plan(verdict);
            let quiet = plan.actions.is_empty();
            for action in &plan.actions {
                self.apply(action);
            }
            let background = self.tick();
            if quiet && !background {
                match plan.recheck_at {
                    Some(at) => self.now = self.now.max(at),
                    None => return plan,
                }
            }
            if self.forgotten {
                return Plan::default();
            }
        }
        panic!("the pod does not settle: {:#?}", self.observed);
    }

    /// What goes on beside the plan: pulls end, hooks end, probes answer.
    pub(super) fn tick(&mut self) -> bool {
        let mut changed = false;
        for container in self.observed.containers.values_mut() {
            if container.image == ImageState::Pulling {
                container.image = ImageState::Present;
                changed = true;
            }
            if container.pre_stop == HookState::Running {
                container.pre_stop = HookState::Idle;
                changed = true;
            }
            if container.is_running() && !container.health.started {
                container.health.started = true;
                container.health.ready = true;
                changed = true;
            }
        }
        changed
    }

    fn container(&mut self, name: &ContainerName) -> &mut ObservedContainer {
        self.observed.containers.entry(name.clone()).or_default()
    }

    fn end(&mut self, id: &ContainerId, code: i32) {
        let finished_at = self.now;
        let container = self.container(&id.name);
        if container.is_alive() && container.record.as_ref().unwrap().attempt == id.attempt {
            container.runtime = Some(RuntimeState::Exited(exit(id.attempt, code, finished_at)));
        }
    }

    /// A container ends by itself.
    pub(super) fn crash(&mut self, name: &ContainerName, code: i32) {
        if let Some(record) = self.observed.container(name).record.clone() {
            self.end(&record.id(self.observed.uid), code);
        }
    }

    /// The agent is killed and comes back: what only it knew is gone.
    pub(super) fn restart_agent(&mut self) {
        if self.observed.volumes != VolumeState::Absent {
            self.observed.volumes = VolumeState::Unknown;
        }
        for container in self.observed.containers.values_mut() {
            container.image = ImageState::Unknown;
            container.start_failure = None;
            container.health = Health::default();
            container.post_start = HookState::Idle;
            container.pre_stop = HookState::Idle;
            container.signalled = false;
        }
    }

    /// The machine loses power: no namespace and no process survives.
    pub(super) fn reboot(&mut self) {
        self.restart_agent();
        self.observed.sandboxes.clear();
        self.observed.stray.clear();
        for container in self.observed.containers.values_mut() {
            container.runtime = None;
        }
    }

    /// The first half of an action: what is written down before the act.
    pub(super) fn apply_written_half(&mut self, action: &Action) {
        if let Action::StartContainer { id, sandbox, backoff } = action {
            self.write_attempt(id, *sandbox, *backoff);
        } else if let Action::CreateSandbox { id } = action {
            self.write_sandbox(id, false);
        }
    }

    fn write_attempt(&mut self, id: &ContainerId, sandbox: Attempt, backoff: SignedDuration) {
        let created_at = self.now;
        let container = self.container(&id.name);
        let before = container.record.take();
        let last = match &before {
            Some(it) if it.attempt == id.attempt => it.last.clone(),
            Some(it) => it.exit.clone(),
            None => None,
        };
        container.record = Some(ContainerRecord {
            name: id.name.clone(),
            attempt: id.attempt,
            sandbox,
            image: Some("image".to_owned()),
            image_id: String::new(),
            backoff_seconds: backoff.as_secs(),
            created_at,
            stop_signal: 15,
            stop: None,
            exit: None,
            last,
            ready: false,
            ready_changed_at: None,
        });
    }

    fn write_sandbox(&mut self, id: &SandboxId, ready: bool) {
        let address = Some(Ipv4Addr::new(10, 42, 0, 2));
        self.observed.address = address;
        self.observed.sandbox = Some(SandboxRecord {
            attempt: id.attempt,
            made_at: ready.then_some(self.now),
            address,
        });
    }

    pub(super) fn apply(&mut self, action: &Action) {
        match action {
            Action::BeginTeardown { reason, grace } => {
                assert_eq!(self.observed.lifecycle, Lifecycle::Syncing, "teardown begins once");
                let grace_seconds = grace.as_secs();
                self.torn_down = true;
                self.observed.lifecycle =
                    Lifecycle::Terminating { since: self.now, grace_seconds, reason: *reason };
            }
            Action::StopContainer { id, grace, .. } => {
                let stop = StopRecord { since: self.now, grace_seconds: grace.as_secs() };
                let now = self.now;
                let record = self.container(&id.name).record.as_mut().unwrap();
                let known = record.stop.take().filter(|it| it.since <= now);
                record.stop = Some(known.unwrap_or(stop));
            }
            Action::RunPreStop { id } => self.container(&id.name).pre_stop = HookState::Running,
            Action::SignalContainer { id } => {
                self.container(&id.name).signalled = true;
                if self.obedient {
                    self.end(id, 143);
                }
            }
            Action::KillContainer { id } => self.end(id, 137),
            Action::RecordExit { id, exit } => {
                let record = self.container(&id.name).record.as_mut().unwrap();
                if record.attempt == id.attempt {
                    record.exit = Some(exit.clone());
                }
            }
            Action::RemoveContainer { id } => self.remove_container(id),
            Action::RemoveLog { .. } => {}
            Action::RemoveSandbox { id } => {
                assert!(
                    !self.observed.containers.values().any(|it| {
                        it.is_alive() && it.record.as_ref().unwrap().sandbox == id.attempt
                    }),
                    "a sandbox is removed while a container lives in it"
                );
                self.observed.sandboxes.remove(id);
            }
            Action::RemoveVolumes => {
                assert!(self.observed.sandboxes.is_empty(), "volumes go after the sandbox");
                self.observed.volumes = VolumeState::Absent;
            }
            Action::ReleaseAddress => {
                assert!(self.observed.sandboxes.is_empty(), "an address in use is given away");
                self.observed.address = None;
            }
            Action::FinishTeardown { reason } => {
                assert_eq!(teardown_step(&self.observed), TeardownStep::Done);
                self.observed.lifecycle = Lifecycle::Terminated { at: self.now, reason: *reason };
            }
            Action::Forget => self.forgotten = true,
            Action::PrepareVolumes { fingerprint } => {
                self.observed.volumes = VolumeState::Ready { fingerprint: *fingerprint };
            }
            Action::PullImage { name } => self.container(name).image = ImageState::Pulling,
            Action::CreateSandbox { id } => {
                assert!(
                    self.observed.sandboxes.iter().all(|it| it == id),
                    "two sandboxes of one pod"
                );
                self.write_sandbox(id, true);
                self.observed.sandboxes.insert(id.clone());
            }
            Action::StartContainer { id, sandbox, backoff } => {
                self.start_container(id, *sandbox, *backoff);
            }
        }
    }

    fn remove_container(&mut self, id: &ContainerId) {
        self.observed.stray.remove(id);
        let container = self.container(&id.name);
        let current = container.record.as_ref().is_some_and(|it| it.attempt == id.attempt);
        if current {
            assert!(!container.is_alive(), "a living container is removed");
            container.runtime = None;
        }
    }

    fn start_container(&mut self, id: &ContainerId, sandbox: Attempt, backoff: SignedDuration) {
        assert!(!self.torn_down, "a pod is started again after its teardown began");
        assert_eq!(self.observed.ready_sandbox(), Some(sandbox), "no sandbox to start in");
        assert!(matches!(self.observed.volumes, VolumeState::Ready { .. }), "no volumes");
        if id.name.as_str().starts_with('e') {
            assert_eq!(id.attempt, Attempt::default(), "an ephemeral container is started again");
        }
        let container = self.container(&id.name);
        if let Some(record) = &container.record {
            assert!(record.attempt <= id.attempt, "attempts only grow");
            if record.attempt == id.attempt {
                if container.is_running() {
                    return;
                }
            } else {
                assert!(container.runtime.is_none(), "two attempts at once");
                assert!(record.exit.is_some(), "how the last attempt ended is not known");
            }
        }
        self.write_attempt(id, sandbox, backoff);
        self.n_starts += 1;
        let started_at = self.now;
        let container = self.container(&id.name);
        container.runtime = Some(RuntimeState::Running { started_at });
        container.health = Health::default();
        container.signalled = false;
        container.pre_stop = HookState::Idle;
    }
}

pub(super) fn exit(attempt: Attempt, code: i32, finished_at: Timestamp) -> ExitRecord {
    ExitRecord {
        attempt,
        code,
        signal: None,
        reason: if code == 0 { "Completed" } else { "Error" }.to_owned(),
        message: String::new(),
        started_at: None,
        finished_at,
        image_id: String::new(),
        lost: false,
    }
}

/// Records survive a round trip through the ledger.
#[test]
fn records_are_read_as_they_were_written() {
    let pod = tests::pod(serde_json::json!({}));
    let mut model = Model::new(&pod);
    model.settle(&Verdict::Wanted(std::sync::Arc::new(pod.clone())));
    let record = PodRecord {
        uid: pod.uid,
        pod: pod.pod_ref,
        grace_seconds: 30,
        started_at: model.now,
        lifecycle: Lifecycle::Syncing,
        sandbox: model.observed.sandbox,
        rejection: None,
    };
    assert_eq!(crate::record::decode(&crate::record::encode(&record)), Some(record));
    for container in model.observed.containers.into_values() {
        let record = container.record.unwrap();
        assert_eq!(crate::record::decode(&crate::record::encode(&record)), Some(record));
    }
    assert_eq!(crate::record::decode::<PodRecord>(br#"{"v":9,"r":{}}"#), None);
}
