//! A whole server on a port of the loopback, spoken to over TLS.

#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests may fail")]

mod admission;
mod aggregation;
mod apply;
mod auth;
mod conversion;
mod custom;
mod equivalent;
mod forms;
mod harness;
mod hooks_in_pods;
mod lists;
mod node_tokens;
mod nodes;
mod objects;
mod oidc;
mod proxy;
mod registry;
mod status;
mod streams;
mod usage;
mod versions;
mod watch;
