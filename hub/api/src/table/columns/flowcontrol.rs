//! Columns of `flowcontrol.apiserver.k8s.io`.

use super::{AGE, Column, NAME, computed, integer, text};
use crate::table::storage;

/// The columns of a resource of the group, where it has its own.
pub(super) fn of(plural: &str) -> Option<&'static [Column]> {
    match plural {
        "flowschemas" => Some(FLOW_SCHEMAS),
        "prioritylevelconfigurations" => Some(PRIORITY_LEVELS),
        _ => None,
    }
}

const FLOW_SCHEMAS: &[Column] = &[
    NAME,
    text("PriorityLevel", "/spec/priorityLevelConfiguration/name", "Priority of the requests."),
    integer("MatchingPrecedence", "/spec/matchingPrecedence", "Which schema goes first.")
        .of_type("string"),
    text("DistinguisherMethod", "/spec/distinguisherMethod/type", "What tells flows apart.")
        .or("<none>"),
    AGE,
    computed("MissingPL", storage::missing_level, "Whether the priority level does not exist."),
];

const PRIORITY_LEVELS: &[Column] = &[
    NAME,
    text("Type", "/spec/type", "Exempt or Limited."),
    text("NominalConcurrencyShares", "/spec/limited/nominalConcurrencyShares", "Its share.")
        .or("<none>"),
    text("Queues", "/spec/limited/limitResponse/queuing/queues", "How many queues.").or("<none>"),
    text("HandSize", "/spec/limited/limitResponse/queuing/handSize", "Queues of a flow.")
        .or("<none>"),
    text("QueueLengthLimit", "/spec/limited/limitResponse/queuing/queueLengthLimit", "Queue size.")
        .or("<none>"),
    AGE,
];
