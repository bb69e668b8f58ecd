//! What a Kubernetes object is: names, quantities, selectors, schemas, defaults, validation and the
//! rules of every write. Knows objects as JSON values, takes `now` and random material as arguments.
//!
//! Must never perform: no tokio, no file system, no clock, no randomness.

pub mod resource;
pub mod resources;

pub mod admission;
pub mod catalog;
pub mod cel;
pub mod custom;

pub mod clock;
pub mod cron;
pub mod names;
pub mod object;
pub mod path;
pub mod quantity;
pub mod selector;
pub mod status;
pub mod time;

pub mod decode;
pub mod schema;

pub mod defaults;
pub mod strategy;
pub mod validation;
pub mod versions;
pub mod warnings;
pub mod write;

pub mod discovery;
pub mod managed;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod table;
pub mod usage;

pub use catalog::Catalog;
pub use clock::Clock;
pub use decode::{Decoded, FieldValidation, Media};
pub use resource::{FieldLabel, Resource, StrategyRef, Subresource};
pub use status::{FieldError, Status};
pub use strategy::Strategy;
pub use write::{DeleteOptions, Propagation, WriteContext};

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
