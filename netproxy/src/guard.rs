//! Sandboxes send from their own addresses only.
//!
//! A sandbox may make any frame it likes. Which hardware address may come from its link is settled where the link is
//! made; here it is which IPv4 address may: of packets, and of the senders in ARP. Nothing else may come from there at
//! all, so no IPv6 either, whose addresses every link gives itself: sandboxes have none.

use std::{collections::BTreeMap, net::Ipv4Addr};

use crate::{SyncError, netlink::Batch, nft};

/// The guard of one node. Works in the network namespace of the thread that calls it.
#[derive(Debug)]
pub struct Guard {
    table: String,
    /// What the kernel has; `None` when that is not known.
    known: Option<BTreeMap<String, Ipv4Addr>>,
}

impl Guard {
    /// A guard that knows nothing of the kernel's state yet: its first sync replaces its table. `table` is the name of
    /// an nftables table for bridges, which belongs to the guard alone.
    pub fn new(table: String) -> Self {
        Self { table, known: None }
    }

    /// Makes the kernel drop what comes from these links, by name, unless it comes from the address that each has; in
    /// one atomic step. A link need not exist yet, or any more. Blocks.
    ///
    /// # Errors
    /// The kernel refused; it does what it did before. [Perhaps it cannot do this at all](SyncError::is_unsupported).
    pub fn sync(&mut self, links: &BTreeMap<String, Ipv4Addr>) -> Result<(), SyncError> {
        if let Some(known) = self.known.take() {
            let (delete, add) = (missing(&known, links), missing(links, &known));
            let mut batch = Batch::bridge();
            nft::guard::update(&self.table, &delete, &add, &mut batch);
            match batch.commit() {
                Ok(()) => {
                    self.known = Some(links.clone());
                    return Ok(());
                }
                // Somebody else changed our table. What we know is wrong: start over.
                Err(err) => tracing::warn!(
                    error = %err, cause = ?err, "Could not update the guard of pods, replacing it"
                ),
            }
        }
        let mut batch = Batch::bridge();
        nft::guard::replace_table(&self.table, &mut batch);
        nft::guard::update(&self.table, &[], &links.iter().collect::<Vec<_>>(), &mut batch);
        batch.commit().map_err(SyncError::of_new_table)?;
        self.known = Some(links.clone());
        Ok(())
    }

    /// Removes the guard's table. It need not exist.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn clear(&mut self) -> Result<(), SyncError> {
        self.known = None;
        let mut batch = Batch::bridge();
        nft::remove_table(&self.table, &mut batch);
        batch.commit()
    }
}

/// What of `from` is not in `of`, or is there with another address.
fn missing<'a>(
    from: &'a BTreeMap<String, Ipv4Addr>,
    of: &BTreeMap<String, Ipv4Addr>,
) -> Vec<(&'a String, &'a Ipv4Addr)> {
    from.iter().filter(|(link, address)| of.get(*link) != Some(*address)).collect()
}
