//! Whole programs against the real kernel, with a real registry and a real kubectl.
//!
//! Each test builds a world of network namespaces with a hub and its nodes, and takes it down
//! again. Worlds are built one at a time: they share the machine's cgroups and its two cores.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests")]

mod autonomy;
mod bad_input;
mod clients;
mod crashes;
mod helm;
mod history;
mod hubs;
mod identity;
mod kube_rs;
mod libraries;
mod manifests;
mod metrics;
mod two_nodes;
mod world;
