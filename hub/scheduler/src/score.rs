//! Scores: which of the nodes that would take a pod is the best.

use crate::needs::Needs;
use crate::node::Node;
use crate::toleration::n_unwelcome;

/// The best score of one view.
const SCALE: i64 = 10_000;
const WEIGHT_OF_ROOM: i64 = 1;
const WEIGHT_OF_AFFINITY: i64 = 2;
const WEIGHT_OF_TAINTS: i64 = 3;

/// How good a node is for a pod; more is better. Depends on nothing but the two, so that a ranking can
/// be kept when other nodes change.
pub(crate) fn score(needs: &Needs, node: &Node) -> i64 {
    let unwelcome = i64::try_from(n_unwelcome(&needs.tolerations, &node.taints)).unwrap_or(SCALE);
    WEIGHT_OF_ROOM * room(needs, node)
        + WEIGHT_OF_AFFINITY * needs.affinity.preference(node, SCALE)
        + WEIGHT_OF_TAINTS * (SCALE / (1 + unwelcome))
}

/// The share of CPU and memory that stays free with the pod on the node.
fn room(needs: &Needs, node: &Node) -> i64 {
    let free = |used: i64, wanted: i64, offered: i64| match offered {
        0 => 0,
        offered => share((offered - used - wanted).max(0), offered),
    };
    let request = &needs.request;
    let cpu =
        free(node.used.scored_milli_cpu, request.scored_milli_cpu, node.allocatable.milli_cpu);
    let memory = free(node.used.scored_memory, request.scored_memory, node.allocatable.memory);
    (cpu + memory) / 2
}

fn share(part: i64, whole: i64) -> i64 {
    let share = i128::from(part) * i128::from(SCALE) / i128::from(whole);
    i64::try_from(share).unwrap_or(SCALE)
}
