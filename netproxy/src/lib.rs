//! Services for the pods and processes of one node: virtual addresses become endpoints, by nftables over netlink.
//!
//! ```text
//! Service + EndpointSlice objects -> model::ServiceTable -> elements of maps -> difference -> one atomic batch
//! ```
//!
//! The number of chains does not grow with the number of services: a chain for each *number* of endpoints draws an
//! index, and one map turns (address, protocol, port, index) into an endpoint. A change is a few elements added and
//! deleted.
//!
//! Beside it, [`Guard`] holds sandboxes to their own addresses.
//!
//! Must never touch a table other than its own, and never drop what the host would let pass, but for what is sent in
//! another's name.

mod conntrack;
mod elements;
#[cfg(test)]
mod fuzz;
mod guard;
pub mod model;
mod netlink;
mod nft;

use std::io;

use ipnet::Ipv4Net;
use nix::libc;

pub use crate::guard::Guard;
use crate::{
    conntrack::Stale,
    elements::{Difference, Elements},
    model::{ServiceTable, Warning},
    netlink::Batch,
};

/// What the proxy is told about the network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Name of the nftables table, which belongs to the proxy alone.
    pub table: String,
    /// Addresses of the pods of this node.
    pub pod_cidr: Ipv4Net,
    /// Addresses of the pods of all nodes; packets between them keep their source.
    pub cluster_cidr: Ipv4Net,
}

/// What a sync did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SyncReport {
    /// Whether the whole table was replaced, because its state was not known.
    pub replaced: bool,
    /// How many elements were added.
    pub n_added: usize,
    /// How many elements were deleted.
    pub n_deleted: usize,
    /// What the services ask for and do not get.
    pub warnings: Vec<Warning>,
}

/// Why the kernel does not have what was asked for. It has what it had before.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// No netlink socket.
    #[error("could not open a netlink socket")]
    Socket(#[source] io::Error),
    /// The batch could not be handed to the kernel, or its answer not be read.
    #[error("could not exchange messages with the kernel")]
    Exchange(#[source] io::Error),
    /// The kernel refused.
    #[error("could not {what}")]
    Refused {
        /// What was refused.
        what: &'static str,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// The kernel lacks a part of itself, such as a module that cannot be loaded.
    #[error("could not {what}: the kernel lacks a part of nftables")]
    Lacking {
        /// What needs it.
        what: &'static str,
        /// Why.
        #[source]
        err: io::Error,
    },
}

impl SyncError {
    /// Whether the kernel has no nftables, or not what this needs of it.
    pub fn is_unsupported(&self) -> bool {
        let (Self::Socket(err) | Self::Exchange(err) | Self::Refused { err, .. }) = self else {
            return true;
        };
        let unsupported = [libc::EOPNOTSUPP, libc::EAFNOSUPPORT, libc::EPROTONOSUPPORT];
        err.raw_os_error().is_some_and(|it| unsupported.contains(&it))
    }

    /// The same, of a batch that makes all that it names: nothing but a part of the kernel can be missing then.
    fn of_new_table(self) -> Self {
        if let Self::Refused { what, err } = self {
            return match err.raw_os_error() {
                Some(libc::ENOENT) => Self::Lacking { what, err },
                _ => Self::Refused { what, err },
            };
        }
        self
    }
}

/// The proxy of one node. Works in the network namespace of the thread that calls it.
#[derive(Debug)]
pub struct Proxy {
    config: Config,
    /// What the kernel has; `None` when that is not known.
    known: Option<Elements>,
}

impl Proxy {
    /// A proxy that knows nothing of the kernel's state yet: its first sync replaces its table.
    pub fn new(config: Config) -> Self {
        Self { config, known: None }
    }

    /// Makes the kernel do what the table says, in one atomic step. Blocks.
    pub fn sync(&mut self, table: &ServiceTable) -> Result<SyncReport, SyncError> {
        let wanted = Elements::of(table, self.config.pod_cidr);
        if let Some(known) = self.known.take() {
            let difference = wanted.difference(&known);
            if difference.is_empty() || self.update(&difference).is_ok() {
                forget_connections(&difference);
                let report = report(&difference, false, table);
                self.known = Some(wanted.with_balancers_of(&known));
                return Ok(report);
            }
            // Somebody else changed our table. What we know is wrong: start over.
        }
        let difference = wanted.difference(&Elements::default());
        let mut batch = Batch::ipv4();
        nft::replace_table(&self.config, &mut batch);
        nft::update(&self.config.table, &difference, &mut batch);
        batch.commit()?;
        forget_connections(&difference);
        self.known = Some(wanted);
        Ok(report(&difference, true, table))
    }

    /// Removes the proxy's table. It need not exist.
    pub fn clear(&mut self) -> Result<(), SyncError> {
        self.known = None;
        let mut batch = Batch::ipv4();
        nft::remove_table(&self.config.table, &mut batch);
        batch.commit()
    }

    fn update(&self, difference: &Difference) -> Result<(), SyncError> {
        let mut batch = Batch::ipv4();
        nft::update(&self.config.table, difference, &mut batch);
        let updated = batch.commit();
        if let Err(err) = &updated {
            tracing::warn!(error = %err, cause = ?err, "Could not update services, replacing them");
        }
        updated
    }
}

/// Lets go of UDP connections that lead elsewhere than new ones do.
fn forget_connections(difference: &Difference) {
    let (gone, live) = (difference.udp_endpoints_gone(), difference.udp_frontends_live());
    let stale = Stale { gone, live };
    if stale.is_empty() {
        return;
    }
    if let Err(err) = stale.forget() {
        tracing::warn!(error = %err, "Could not forget connections that lead elsewhere");
    }
}

fn report(difference: &Difference, replaced: bool, table: &ServiceTable) -> SyncReport {
    SyncReport {
        replaced,
        n_added: difference.add.len(),
        n_deleted: difference.delete.len(),
        warnings: table.warnings.clone(),
    }
}

#[cfg(test)]
mod tests;
