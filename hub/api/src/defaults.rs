//! Kubernetes' defaults: part of the wire contract, clients rely on fields being there.
//! Every function is idempotent.

pub mod apps;
pub mod core;
pub mod pod;
pub mod service;

#[cfg(test)]
mod tests;
