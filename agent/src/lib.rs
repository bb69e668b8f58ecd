//! The node program: composition of decisions (`agent-core`) and effects.

pub mod program;

pub mod config;
pub mod node;
pub mod supervisor;

mod desired_pods;
#[cfg(test)]
mod fuzz;
mod host_ports;
mod pod_worker;

pub mod records;
pub mod runtime_view;

pub mod actions;
pub mod grpc;
pub mod http;
pub mod network;
pub mod probes;
pub mod services;
pub mod system_files;
pub mod termination;
pub mod volumes;

pub mod events;
pub mod logs;
pub mod machine;
pub mod node_status;
mod stats;
pub mod streams;

pub mod cli;
pub mod local_api;
pub mod reset;

pub mod clock;
pub mod desired;
pub mod join;
pub mod link;
pub mod outbox;
pub mod tokens;

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
