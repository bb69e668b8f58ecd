//! Kubernetes' defaults: part of the wire contract, clients rely on fields being there.
//! Every function is idempotent.

pub mod admissionregistration;
pub mod apiregistration;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod core;
pub mod discovery;
pub mod flowcontrol;
pub mod networking;
pub mod node;
pub mod pod;
pub mod rbac;
pub mod resource;
pub mod scheduling;
pub mod service;
pub mod storage;
pub mod volumes;

#[cfg(test)]
mod tests;
