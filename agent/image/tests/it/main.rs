//! The image store against a real registry, through a link that misbehaves on request.

mod builder;
mod proxy;
mod pull;
mod registry;
