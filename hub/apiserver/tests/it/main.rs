//! A whole server on a port of the loopback, spoken to over TLS.

mod auth;
mod harness;
mod objects;
mod registry;
mod status;
mod streams;
mod watch;
