//! Validation, with Kubernetes' messages. Every function returns all that is wrong.

pub mod apps;
pub mod config;
pub mod endpoints;
pub mod event;
pub mod lease;
pub mod meta;
pub mod node;
pub mod pod;
pub mod selector;
pub mod service;

#[cfg(test)]
mod tests;
