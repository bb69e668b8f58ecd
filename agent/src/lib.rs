//! The node program: composition of decisions (`agent-core`) and effects.

pub mod config;
pub mod node;
pub mod supervisor;

mod desired_pods;
mod pod_worker;
mod records;
mod runtime_view;

pub mod streams;

mod actions;
mod http;
mod network;
mod probes;
mod system_files;
mod termination;
mod volumes;

mod events;
mod logs;
mod machine;
mod node_status;

pub mod clock;
pub mod desired;
pub mod join;
pub mod link;
pub mod outbox;

/// The text of an error with all its causes, for logs and status.
pub(crate) fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(err) = source {
        text.push_str(": ");
        text.push_str(&err.to_string());
        source = err.source();
    }
    text
}
