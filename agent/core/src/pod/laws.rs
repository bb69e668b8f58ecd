//! The laws of the planner, for any pod and any history of mishaps.

use std::sync::Arc;

use proptest::{collection, prelude::*, sample};
use serde_json::{Value, json};

use super::{model::Model, tests::pod_of, *};

/// Something that happens to a node.
#[derive(Clone, Debug)]
enum Mishap {
    /// A container ends by itself.
    Crash { container: usize, code: i32 },
    /// The agent is killed and started again.
    AgentKilled,
    /// The machine loses power.
    PowerCut,
    /// Only this many actions of the next plan are done; the next is written down, not done.
    Cut { actions: usize },
    /// Time passes.
    Wait { seconds: i64 },
    /// The next plan is applied twice.
    Twice,
    /// A probe gives up on a container.
    Unhealthy { container: usize },
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        (0_usize..4, sample::select(vec![0, 1, 137]))
            .prop_map(|(container, code)| Mishap::Crash { container, code }),
        Just(Mishap::AgentKilled),
        Just(Mishap::PowerCut),
        (0_usize..6).prop_map(|actions| Mishap::Cut { actions }),
        (0_i64..900).prop_map(|seconds| Mishap::Wait { seconds }),
        Just(Mishap::Twice),
        (0_usize..4).prop_map(|container| Mishap::Unhealthy { container }),
    ]
}

prop_compose! {
    fn any_pod()(
        policy in sample::select(vec!["Always", "OnFailure", "Never"]),
        inits in collection::vec(any::<bool>(), 0..3),
        n_mains in 1_usize..3,
        n_ephemeral in 0_usize..3,
        hook in any::<bool>(),
    ) -> Value {
        let container = |name: String| {
            let mut it = json!({"name": name, "image": "image"});
            if hook {
                it["lifecycle"] = json!({"preStop": {"exec": {"command": ["true"]}}});
            }
            it
        };
        let mains: Vec<_> = (0..n_mains).map(|at| container(format!("m{at}"))).collect();
        let inits: Vec<_> = inits.iter().enumerate().map(|(at, sidecar)| {
            let mut it = container(format!("i{at}"));
            if *sidecar {
                it["restartPolicy"] = json!("Always");
            }
            it
        }).collect();
        let ephemeral: Vec<_> =
            (0..n_ephemeral).map(|at| json!({"name": format!("e{at}"), "image": "image"})).collect();
        json!({"containers": mains, "initContainers": inits, "restartPolicy": policy,
            "ephemeralContainers": ephemeral})
    }
}

fn happen(model: &mut Model, pod: &DesiredPod, verdict: &Verdict, mishap: &Mishap) {
    let name = |at: usize| pod.containers[at % pod.containers.len()].name.clone();
    match mishap {
        Mishap::Crash { container, code } => model.crash(&name(*container), *code),
        Mishap::AgentKilled => model.restart_agent(),
        Mishap::PowerCut => model.reboot(),
        Mishap::Cut { actions } => {
            let plan = model.plan(verdict);
            for action in plan.actions.iter().take(*actions) {
                model.apply(action);
            }
            if let Some(next) = plan.actions.get(*actions) {
                model.apply_written_half(next);
            }
            model.restart_agent();
        }
        Mishap::Wait { seconds } => model.now += SignedDuration::from_secs(*seconds),
        Mishap::Twice => {
            let plan = model.plan(verdict);
            plan.actions.iter().for_each(|it| model.apply(it));
            let once = format!("{:?}", model.observed);
            for action in plan.actions.iter().filter(|it| is_repeatable(it)) {
                model.apply(action);
            }
            assert_eq!(format!("{:?}", model.observed), once, "a plan done twice is done once");
            model.tick();
        }
        Mishap::Unhealthy { container } => {
            let container = model.observed.containers.get_mut(&name(*container));
            if let Some(it) = container.filter(|it| it.is_running()) {
                it.health.unhealthy = Some(Unhealthy { probe: "liveness", grace: None });
            }
        }
    }
}

/// A pull is not an `ensure`: it starts what ends by itself. The lifecycle moves once.
fn is_repeatable(action: &Action) -> bool {
    !matches!(action, Action::BeginTeardown { .. } | Action::FinishTeardown { .. })
}

/// Lets containers that are meant to end do so.
fn finish_inits(model: &mut Model, pod: &DesiredPod, verdict: &Verdict) {
    for _ in 0..20 {
        model.settle(verdict);
        let running =
            pod.of_role(Role::Init).find(|it| model.observed.container(&it.name).is_running());
        let Some(init) = running else { return };
        model.crash(&init.name, 0);
    }
    panic!("init containers do not end");
}

fn check_goal(model: &Model, pod: &DesiredPod) {
    match &model.observed.lifecycle {
        Lifecycle::Syncing => {
            assert!(model.observed.ready_sandbox().is_some(), "no sandbox");
            for main in pod.of_role(Role::Main) {
                let container = model.observed.container(&main.name);
                let done =
                    container.ended(&model.observed).is_some_and(|it| !main.restarts_after(&it));
                assert!(container.is_running() || done, "{} does not run", main.name);
            }
            for ephemeral in pod.of_role(Role::Ephemeral) {
                let container = model.observed.container(&ephemeral.name);
                assert!(container.record.is_some(), "{} never ran", ephemeral.name);
            }
        }
        Lifecycle::Terminating { .. } => panic!("stuck in its teardown"),
        Lifecycle::Terminated { .. } => {
            assert_eq!(teardown_step(&model.observed), TeardownStep::Done);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Convergence, idempotence, prefix safety, order (asserted by the model at every action),
    /// level-triggering and quiet, in one walk.
    #[test]
    fn a_pod_converges_whatever_happens(
        spec in any_pod(),
        mishaps in collection::vec(mishap(), 0..12),
        settled_before in any::<bool>(),
        obedient in any::<bool>(),
    ) {
        let pod = pod_of(spec, None);
        let verdict = Verdict::Wanted(Arc::new(pod.clone()));
        let mut model = Model::new(&pod);
        model.obedient = obedient;
        if settled_before {
            finish_inits(&mut model, &pod, &verdict);
        }
        for mishap in &mishaps {
            happen(&mut model, &pod, &verdict, mishap);
        }
        finish_inits(&mut model, &pod, &verdict);
        check_goal(&model, &pod);
        let quiet = model.plan(&verdict);
        prop_assert_eq!(quiet, Plan::default());
    }

    /// A deleted pod leaves nothing, and is never started again.
    #[test]
    fn a_teardown_ends_whatever_happens(
        spec in any_pod(),
        before in collection::vec(mishap(), 0..6),
        mishaps in collection::vec(mishap(), 0..8),
        obedient in any::<bool>(),
        grace in 0_i64..60,
        removed in any::<bool>(),
    ) {
        let pod = pod_of(spec.clone(), None);
        let wanted = Verdict::Wanted(Arc::new(pod.clone()));
        let mut model = Model::new(&pod);
        model.obedient = obedient;
        for mishap in &before {
            happen(&mut model, &pod, &wanted, mishap);
        }
        let deleted = Verdict::Wanted(Arc::new(pod_of(spec, Some(grace))));
        let verdict = if removed { Verdict::Unwanted { last: None } } else { deleted };
        for mishap in &mishaps {
            happen(&mut model, &pod, &verdict, mishap);
            if model.forgotten {
                return Ok(());
            }
        }
        model.settle(&verdict);
        check_goal(&model, &pod);
        prop_assert!(model.torn_down);
        let n_starts = model.n_starts;
        // Even if the API changed its mind, the UID is used up.
        model.settle(&wanted);
        prop_assert_eq!(model.n_starts, n_starts);
        model.settle(&Verdict::Unwanted { last: None });
        prop_assert!(model.forgotten);
    }

    /// While the desired set has holes, a pod that it does not name is left alone.
    #[test]
    fn absence_proves_nothing_in_a_partial_set(
        spec in any_pod(),
        mishaps in collection::vec(mishap(), 0..6),
    ) {
        let pod = pod_of(spec, None);
        let wanted = Verdict::Wanted(Arc::new(pod.clone()));
        let mut model = Model::new(&pod);
        for mishap in &mishaps {
            happen(&mut model, &pod, &wanted, mishap);
        }
        let plan = model.plan(&Verdict::Unknown);
        if model.observed.lifecycle == Lifecycle::Syncing {
            prop_assert_eq!(plan, Plan::default());
        }
    }
}
