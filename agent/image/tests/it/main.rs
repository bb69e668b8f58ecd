//! The image store against a real registry, through a link that misbehaves on request.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod builder;
mod proxy;
mod pull;
mod registry;
