//! Scores: which of the nodes that would take a pod is the best.
//!
//! A score depends on nothing but the pod and the node, so that it need not be worked out anew when
//! other nodes change.

use crate::needs::{Choice, Needs};
use crate::node::Node;
use crate::toleration::n_unwelcome;

/// The best score of one view.
const SCALE: i64 = 10_000;
const WEIGHT_OF_AFFINITY: i64 = 2;
const WEIGHT_OF_TAINTS: i64 = 3;

/// More room than this is not possible.
pub(crate) const MAX_ROOM: i64 = SCALE;

/// How much a pod likes a node, whatever is on it: its preferences, and taints that only discourage.
pub(crate) fn liking(choice: &Choice, node: &Node) -> i64 {
    let unwelcome = i64::try_from(n_unwelcome(&choice.tolerations, &node.taints)).unwrap_or(SCALE);
    WEIGHT_OF_AFFINITY * choice.affinity.preference(node, SCALE)
        + WEIGHT_OF_TAINTS * (SCALE / (1 + unwelcome))
}

/// The share of CPU and memory that stays free with the pod on the node.
pub(crate) fn room(needs: &Needs, node: &Node) -> i64 {
    let request = &needs.request;
    room_beside(request.scored_milli_cpu, request.scored_memory, node)
}

/// The share of CPU and memory that is free.
pub(crate) fn free(node: &Node) -> i64 {
    room_beside(0, 0, node)
}

fn room_beside(milli_cpu: i64, memory: i64, node: &Node) -> i64 {
    let (used, offered) = (&node.used, &node.allocatable);
    let cpu = share(offered.milli_cpu - used.scored_milli_cpu - milli_cpu, offered.milli_cpu);
    let memory = share(offered.memory - used.scored_memory - memory, offered.memory);
    (cpu + memory) / 2
}

fn share(free: i64, offered: i64) -> i64 {
    match offered {
        0 => 0,
        // Dividing first loses nothing that matters, and cannot overflow.
        offered if offered > i64::MAX / SCALE => free.max(0) / (offered / SCALE),
        offered => free.clamp(0, offered) * SCALE / offered,
    }
}
