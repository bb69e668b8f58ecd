//! Deployment: moves pods from one template to the next by scaling replica sets.
//!
//! The plan is worked out on a copy of the replica sets (`rollout::Rollout`), and only then turned
//! into writes: first the new replica set, then scaling, then clean-up, then the status.

pub mod arithmetic;
mod progress;
mod rollout;
mod scaling;
mod strategy;
pub mod template;

use jiff::Timestamp;

use crate::object::{Kind, Name, Object, ObjectRef};
use crate::owned::claim;
use crate::value::{at, bool_at, str_at};
use crate::world::{Change, World};
use crate::write::Write;
use crate::{Controller, Failure, FailureKind, Plan, selector};

use self::rollout::Rollout;

/// Annotation with the revision of a Deployment's template, on it and on its replica sets.
pub const REVISION: &str = "deployment.kubernetes.io/revision";

#[derive(Debug)]
pub struct DeploymentController;

impl Controller for DeploymentController {
    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    fn affected(&self, change: &Change<'_>, world: &World) -> Vec<ObjectRef> {
        match change.kind {
            Kind::DEPLOYMENT => change.latest().map(Object::key).into_iter().collect(),
            Kind::REPLICA_SET => {
                change.sides().flat_map(|set| deployments_of(set, world)).collect()
            }
            // Recreate waits for the last pod of the old template.
            Kind::POD if change.new.is_none_or(crate::pods::is_finished) => {
                change.old.and_then(|pod| recreated_by(pod, world)).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, now: Timestamp) -> Plan {
        let Some(deployment) = world.find(key) else { return Plan::default() };
        if selector::selects_all(at(deployment.spec(), &["selector"])) {
            return Plan::default();
        }
        let claim = claim(deployment, Kind::REPLICA_SET, world, |_| true);
        let mut rollout = Rollout::new(deployment, claim.objects, world, now);
        if deployment.is_deleting() {
            rollout.report();
        } else {
            roll(&mut rollout);
        }
        let mut plan = rollout.into_plan();
        plan.writes.splice(0..0, claim.writes);
        plan
    }

    fn failed(
        &self,
        key: &ObjectRef,
        world: &World,
        failure: &Failure,
        now: Timestamp,
    ) -> Vec<Write> {
        let Some(deployment) = world.find(key) else { return Vec::new() };
        if failure.kind != FailureKind::Create {
            return Vec::new();
        }
        progress::report_failed_create(deployment, &failure.message, now)
    }
}

fn roll(rollout: &mut Rollout<'_>) {
    let spec = rollout.deployment.spec();
    progress::note_pause(rollout);
    if bool_at(spec, &["paused"]) {
        rollout.find_revision();
        scaling::scale(rollout);
        rollout.clean_up();
        rollout.report();
    } else if scaling::is_due(rollout) {
        rollout.find_revision();
        scaling::scale(rollout);
        rollout.report();
    } else {
        match str_at(spec, &["strategy", "type"]) {
            "Recreate" => strategy::recreate(rollout),
            _ => strategy::rolling(rollout),
        }
        if rollout.is_complete() {
            rollout.clean_up();
        }
        progress::report(rollout);
    }
}

fn deployments_of(set: &Object, world: &World) -> Vec<ObjectRef> {
    let namespace = set.name.namespace.as_str();
    match set.controller() {
        Some(owner) if owner.kind() == "Deployment" => {
            vec![Kind::DEPLOYMENT.key(&Name::new(namespace, owner.name()))]
        }
        Some(_) => Vec::new(),
        None => world
            .list_in(Kind::DEPLOYMENT, namespace)
            .filter(|it| selector::matches(at(it.spec(), &["selector"]), set.labels()))
            .map(|it| it.key())
            .collect(),
    }
}

fn recreated_by(pod: &Object, world: &World) -> Option<ObjectRef> {
    let set = world.by_uid(pod.controller()?.uid())?;
    let deployment = world.by_uid(set.controller()?.uid())?;
    let is_recreated = str_at(deployment.spec(), &["strategy", "type"]) == "Recreate";
    (deployment.kind == Kind::DEPLOYMENT && is_recreated).then(|| deployment.key())
}

#[cfg(test)]
mod tests;
