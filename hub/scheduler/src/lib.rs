//! The scheduler: which node a pod goes to. Pure: nodes and pods go in, decisions come out.
//!
//! ```text
//!   handle_pod ──> queue (priority, then age) ──poll_decision──> Bind          ──handle_bind_failed──> queue
//!                    ^                                       └─> Unschedulable ──> waits ──┐
//!                    └── a node or a pod changed so that it fits, or back-off is over ─────┘
//! ```
//! Pods that may go to the same nodes share an `audience`: a ranking of these nodes that is kept up to
//! date node by node, so that one decision costs a look at the best node instead of a walk over all.
//!
//! Must never remember what a restart would miss: everything follows from the pods and nodes handed in.

mod affinity;
mod audience;
mod class;
mod fit;
mod needs;
mod node;
mod queue;
mod resources;
mod scheduler;
mod score;
mod table;
mod toleration;
mod value;

pub use crate::scheduler::{Decision, PodRef, Scheduler};
