//! The hub program: composition of storage, API server, controllers, scheduler and fleet.

pub mod access;
pub mod admin;
pub mod bootstrap;
mod certificates;
pub mod clock;
mod duties;
pub mod election;
mod endpoints;
pub mod fleet;
mod front_proxy;
pub mod kubeconfig;
mod legacy_tokens;
mod peers;
pub mod pki;
pub mod recovery;
mod renewal;
pub mod runner;
mod secrets;
pub mod serve;
pub mod store;
#[cfg(feature = "etcd")]
#[cfg(test)]
mod test_etcd;

/// The text of an error with all its causes, for logs and messages.
pub(crate) fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(err) = source {
        text.push_str(": ");
        text.push_str(&err.to_string());
        source = err.source();
    }
    text
}
