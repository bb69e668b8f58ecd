//! The controllers of the hub: one module each, each a pure function from a cached world to writes.
//!
//! [`World`] is what the informers have seen. A [`Controller`] says which keys a change touches and
//! plans the writes for one key. [`Engine`] owns queues, back-off and the rule that a key is planned
//! again only after the world shows its own last writes. Nothing here performs, waits or reads a clock.

pub mod condition;
pub mod config;
pub mod cronjob;
pub mod daemonset;
pub mod definition;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod engine;
pub mod event_expiry;
pub mod flow_schema;
pub mod garbage;
mod heartbeats;
pub mod history;
pub mod job;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod object;
pub mod owned;
pub mod placement;
pub mod pod_gc;
pub mod pods;
pub mod replicaset;
pub mod role_aggregation;
pub mod selector;
pub mod serviceaccount;
pub mod statefulset;
pub mod storage_migration;
pub mod taint;
pub mod value;
pub mod world;
pub mod write;

use jiff::Timestamp;

pub use crate::config::{Cidr, Config};
pub use crate::engine::{Await, Engine, Failure, FailureKind, Outcome, Ticket, Work};
pub use crate::object::{Body, Kind, KindRow, Name, Object, ObjectRef, Uid};
pub use crate::world::{Change, World};
pub use crate::write::{Note, Propagation, Regarding, Write};

/// What to write for one key, in order, and when to look again without being asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Neighbouring creates, and neighbouring deletes, are independent of each other; everything else
    /// happens in order. The first failure ends the plan.
    pub writes: Vec<Write>,
    pub recheck_at: Option<Timestamp>,
}

impl Plan {
    /// A plan that only looks again.
    pub fn recheck(at: Timestamp) -> Self {
        Self { writes: Vec::new(), recheck_at: Some(at) }
    }

    /// Looks again at the earlier of the planned time and `at`.
    pub fn recheck_by(&mut self, at: Timestamp) {
        self.recheck_at = Some(self.recheck_at.map_or(at, |planned| planned.min(at)));
    }
}

impl From<Vec<Write>> for Plan {
    fn from(writes: Vec<Write>) -> Self {
        Self { writes, recheck_at: None }
    }
}

/// One controller. It holds configuration, never state: a restart must miss nothing.
pub trait Controller: Send + Sync {
    /// Stable name, as in `system:serviceaccount:kube-system:<name>`.
    fn name(&self) -> &'static str;

    /// Keys that have to be looked at again after `change`. The world already shows the change.
    fn affected(&self, change: &Change<'_>, world: &World) -> Vec<ObjectRef>;

    /// Keys to look at once when everything is known for the first time, beyond those of `affected`.
    fn initial(&self) -> Vec<ObjectRef> {
        Vec::new()
    }

    fn reconcile(&self, key: &ObjectRef, world: &World, now: Timestamp) -> Plan;

    /// Writes that report a failed plan, such as a condition. Best effort.
    fn failed(
        &self,
        _key: &ObjectRef,
        _world: &World,
        _failure: &Failure,
        _now: Timestamp,
    ) -> Vec<Write> {
        Vec::new()
    }
}

/// All controllers, in the order in which their queues are served.
pub fn all(config: &Config) -> Vec<Box<dyn Controller>> {
    vec![
        Box::new(deployment::DeploymentController),
        Box::new(replicaset::ReplicaSetController::OF_SETS),
        Box::new(replicaset::ReplicaSetController::OF_CONTROLLERS),
        Box::new(endpoints::slice::EndpointSliceController),
        Box::new(endpoints::classic::EndpointsController),
        Box::new(node_ipam::NodeIpamController::new(config.cluster_cidr)),
        Box::new(node_lifecycle::NodeLifecycleController),
        Box::new(namespace::NamespaceController),
        Box::new(definition::DefinitionController),
        Box::new(serviceaccount::ServiceAccountController::new(config.ca_pem.clone())),
        Box::new(role_aggregation::RoleAggregationController),
        Box::new(garbage::GarbageCollector),
        Box::new(pod_gc::PodGcController),
        Box::new(disruption::DisruptionController),
        Box::new(job::JobController),
        Box::new(cronjob::CronJobController),
        Box::new(daemonset::DaemonSetController),
        Box::new(statefulset::StatefulSetController),
        Box::new(event_expiry::EventExpiryController),
        Box::new(flow_schema::FlowSchemaController),
        Box::new(storage_migration::StorageMigrationController),
    ]
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;
