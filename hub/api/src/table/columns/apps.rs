//! Columns of `apps`.

use super::{AGE, CONTAINERS, Column, IMAGES, NAME, SELECTOR, computed, integer};
use crate::table::workload;

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "controllerrevisions" => Some(CONTROLLER_REVISIONS),
        "daemonsets" => Some(DAEMON_SETS),
        "deployments" => Some(DEPLOYMENTS),
        "replicasets" => Some(REPLICA_SETS),
        "statefulsets" => Some(STATEFUL_SETS),
        _ => None,
    }
}

const CONTROLLER_REVISIONS: &[Column] = &[
    NAME,
    computed("Controller", workload::revision_controller, "What the revision belongs to."),
    integer("Revision", "/revision", "Number of the revision.").of_type("string"),
    AGE,
];

const DAEMON_SETS: &[Column] = &[
    NAME,
    integer("Desired", "/status/desiredNumberScheduled", "How many nodes should run the pod."),
    integer("Current", "/status/currentNumberScheduled", "How many of these nodes run the pod."),
    integer("Ready", "/status/numberReady", "On how many of these nodes it is ready."),
    integer("Up-to-date", "/status/updatedNumberScheduled", "How many run the newest template."),
    integer("Available", "/status/numberAvailable", "How many have been ready long enough."),
    computed("Node Selector", workload::node_selector, "Which nodes should run the pod."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

const DEPLOYMENTS: &[Column] = &[
    NAME,
    computed("Ready", workload::ready, "How many of the desired pods are ready."),
    integer("Up-to-date", "/status/updatedReplicas", "How many pods are of the newest template.")
        .of_type("string"),
    integer("Available", "/status/availableReplicas", "How many pods have been ready long enough.")
        .of_type("string"),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

const REPLICA_SETS: &[Column] = &[
    NAME,
    integer("Desired", "/spec/replicas", "How many pods there should be."),
    integer("Current", "/status/replicas", "How many pods there are."),
    integer("Ready", "/status/readyReplicas", "How many pods are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

const STATEFUL_SETS: &[Column] = &[
    NAME,
    computed("Ready", workload::ready, "How many of the desired pods are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
];
