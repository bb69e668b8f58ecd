//! What a node decides: the next step of every pod, and what it looks like from outside.
//!
//! Everything here is a function of values: desired state, observed state, and `now`. Nothing
//! performs, waits, reads a clock, draws a random number or touches a file.
//!
//! Reading order: [`ids`], [`desired`] (a Pod as we run it), [`pod`] (the planner), [`status`]
//! (the Pod's status), [`probe`], then what turns a Pod into words that the runtime understands:
//! [`mod@env`], [`volume`], [`spec`].

pub mod ids;

pub mod desired;
pub mod pod;
pub mod record;
pub mod status;

pub mod admission;
pub mod backoff;
pub mod event;
pub mod probe;

pub mod env;
pub mod field;
pub mod files;
pub mod image;
pub mod log;
pub mod node;
pub mod quantity;
pub mod resources;
pub mod security;
pub mod spec;
pub mod token;
pub mod volume;

#[cfg(test)]
mod fuzz;
