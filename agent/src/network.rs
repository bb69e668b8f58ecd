//! The node's pod network: addresses that survive a reboot, and the bridge that they live at.
//!
//! A lease belongs to a pod UID. It is written to the ledger before the address is used and given
//! back after it is not: no address is ever in two pods, and no pod sends from another's.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agent_core::ids::{PodUid, SandboxId};
use cni::{Attach, BridgeConfig, ipam::Pool};
use ipnet::Ipv4Net;
use netproxy::Guard;
use tokio::sync::watch;

/// Name of the link inside of a pod.
const IFNAME: &str = "eth0";
/// How long the kernel has to remove the link of a namespace that is gone.
const LINK_PATIENCE: Duration = Duration::from_secs(2);

/// A pod cannot have its network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("the node has no pod CIDR yet: it comes from the hub, or with --pod-cidr")]
    NoCidr,
    #[error("no address is free in {cidr}")]
    Exhausted { cidr: Ipv4Net },
    #[error("could not prepare bridge {bridge}")]
    Bridge {
        bridge: String,
        #[source]
        err: cni::BridgeError,
    },
    #[error(transparent)]
    Attach(cni::AttachError),
    #[error(transparent)]
    Detach(cni::DetachError),
    #[error("could not hold pods to their addresses")]
    Guard(#[source] netproxy::SyncError),
    #[error("could not list links")]
    Links(#[source] std::io::Error),
    #[error("a network task was cut off")]
    Cancelled,
}

/// Addresses and links of all pods.
#[derive(Debug)]
pub struct Network {
    bridge: String,
    /// Largest packet on a pod's link: what the machine's own link takes.
    mtu: u32,
    state: Mutex<State>,
    /// The bridge that was made, so that it is made once.
    made: tokio::sync::Mutex<Option<BridgeConfig>>,
    /// Sandboxes that were removed, until their links are known to be gone.
    abandoned: Mutex<BTreeSet<String>>,
    swept: tokio::sync::Notify,
    guarded: Arc<Mutex<Guarded>>,
    cidr_tx: watch::Sender<Option<Ipv4Net>>,
    leases_tx: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    cidr: Option<Ipv4Net>,
    leases: BTreeMap<PodUid, Ipv4Addr>,
    last: Option<Ipv4Addr>,
}

/// What may come from the links of pods.
#[derive(Debug)]
struct Guarded {
    /// `None` where the kernel cannot do it: there the hardware addresses are all that pods are held to.
    guard: Option<Guard>,
    /// Links of sandboxes on the host, by name, and the address of each.
    links: BTreeMap<String, Ipv4Addr>,
}

/// What is remembered of the network from the process before.
#[derive(Debug, Default)]
pub struct Remembered {
    /// Addresses that are given out.
    pub leases: BTreeMap<PodUid, Ipv4Addr>,
    /// Sandboxes that may have a link, and the address of each.
    pub sandboxes: BTreeMap<SandboxId, Ipv4Addr>,
}

impl Network {
    /// `remembered` is what the ledger has; `table` is the name of an nftables table for bridges, ours alone.
    pub fn new(
        bridge: String,
        table: String,
        mtu: u32,
        remembered: Remembered,
        cidr: Option<Ipv4Net>,
    ) -> Self {
        let Remembered { leases, sandboxes } = remembered;
        let links = sandboxes.iter().map(|(id, address)| (link(id), *address)).collect();
        let guarded = Guarded { guard: Some(Guard::new(table)), links };
        let last = leases.values().max().copied();
        let state = Mutex::new(State { cidr, leases, last });
        Self {
            bridge,
            mtu,
            state,
            made: tokio::sync::Mutex::new(None),
            abandoned: Mutex::default(),
            swept: tokio::sync::Notify::new(),
            guarded: Arc::new(Mutex::new(guarded)),
            cidr_tx: watch::Sender::new(cidr),
            leases_tx: watch::Sender::new(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hub says which addresses this node has.
    pub fn set_cidr(&self, cidr: Ipv4Net) {
        let before = self.lock().cidr.replace(cidr);
        if before != Some(cidr) {
            tracing::info!(%cidr, "The node has a pod CIDR");
            self.cidr_tx.send_replace(Some(cidr));
        }
    }

    /// Tells when the node gets another range of addresses.
    pub fn subscribe(&self) -> watch::Receiver<Option<Ipv4Net>> {
        self.cidr_tx.subscribe()
    }

    /// Tells when a pod gets an address, or gives it back.
    pub fn subscribe_leases(&self) -> watch::Receiver<()> {
        self.leases_tx.subscribe()
    }

    /// The pod's address, if it has one.
    pub fn lease(&self, uid: &PodUid) -> Option<Ipv4Addr> {
        self.lock().leases.get(uid).copied()
    }

    pub fn cidr(&self) -> Option<Ipv4Net> {
        self.lock().cidr
    }

    /// The pod's address: the one that it has, or a free one. The caller makes it durable.
    ///
    /// # Errors
    /// There is none.
    pub fn reserve(&self, uid: &PodUid) -> Result<Ipv4Addr, NetworkError> {
        let mut state = self.lock();
        if let Some(address) = state.leases.get(uid) {
            return Ok(*address);
        }
        let cidr = state.cidr.ok_or(NetworkError::NoCidr)?;
        let taken: BTreeSet<Ipv4Addr> = state.leases.values().copied().collect();
        let address = Pool::new(cidr, gateway(cidr))
            .allocate(&taken, state.last)
            .ok_or(NetworkError::Exhausted { cidr })?;
        state.leases.insert(*uid, address);
        state.last = Some(address);
        drop(state);
        self.leases_tx.send_replace(());
        Ok(address)
    }

    /// Gives an address back. The caller has made that durable.
    pub fn release(&self, uid: &PodUid) {
        self.lock().leases.remove(uid);
        self.leases_tx.send_replace(());
    }

    /// Gives a sandbox its link and address. Doing it again is fine.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn attach(
        &self,
        sandbox: &SandboxId,
        netns: OwnedFd,
        address: Ipv4Addr,
    ) -> Result<(), NetworkError> {
        let bridge = self.ensure_bridge().await?;
        let id = sandbox.to_string();
        // Should it be one that was removed and is made again.
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        // Before there is a link: not one packet must come from it unseen.
        let name = link(sandbox);
        self.guard(move |links| {
            // A link that is still there stays guarded, whoever has its address from now on.
            links.retain(|it, its| *its != address || exists(it));
            links.insert(name, address);
        })
        .await?;
        blocking(move || {
            let wanted = Attach { id: &id, netns: netns.as_fd(), ifname: IFNAME, address };
            cni::attach(&bridge, &wanted).map(drop).map_err(NetworkError::Attach)
        })
        .await
    }

    /// Takes a sandbox's link away, now: its address is needed again. It need not have one.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn detach(&self, sandbox: &SandboxId) -> Result<(), NetworkError> {
        let id = sandbox.to_string();
        blocking(move || cni::detach(&id).map_err(NetworkError::Detach)).await
    }

    /// Sees to it that the link of a sandbox that is gone goes too. The kernel does that by itself, some
    /// time after the network namespace has lost its last user; should something still hold the
    /// namespace, the link is taken away all the same.
    pub fn abandon(&self, sandbox: &SandboxId) {
        let mut abandoned = self.abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        abandoned.insert(sandbox.to_string());
        self.swept.notify_one();
    }

    /// Takes links away that stayed behind, and what the guard knows of them. Runs until it is dropped.
    pub async fn sweep(&self) {
        // Whatever the process before left, or somebody removed.
        self.guard_or_warn(|_| {}).await;
        loop {
            self.swept.notified().await;
            tokio::time::sleep(LINK_PATIENCE).await;
            let ids =
                std::mem::take(&mut *self.abandoned.lock().unwrap_or_else(PoisonError::into_inner));
            let gone = ids.clone();
            let result = blocking(move || {
                let left = cni::attached().map_err(NetworkError::Links)?;
                for id in ids.iter().filter(|id| left.contains(&cni::host_ifname(id))) {
                    cni::detach(id).map_err(NetworkError::Detach)?;
                }
                Ok(())
            });
            if let Err(err) = result.await {
                // It costs a name; the next pod with this one would take it over.
                tracing::warn!(error = crate::chain(&err), "Could not remove a link");
                self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).extend(gone);
                continue;
            }
            self.guard_or_warn(move |links| {
                for id in gone {
                    links.remove(&cni::host_ifname(&id));
                }
            })
            .await;
        }
    }

    async fn guard_or_warn(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Ipv4Addr>) + Send + 'static,
    ) {
        if let Err(err) = self.guard(change).await {
            // The next change tries again, and no pod gets a link before it succeeds.
            tracing::warn!(error = crate::chain(&err), "Could not bring the guard up to date");
        }
    }

    /// Changes what may come from the links of pods, and makes the kernel do so.
    async fn guard(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Ipv4Addr>) + Send + 'static,
    ) -> Result<(), NetworkError> {
        let guarded = Arc::clone(&self.guarded);
        blocking(move || {
            let mut guarded = guarded.lock().unwrap_or_else(PoisonError::into_inner);
            let Guarded { guard, links } = &mut *guarded;
            change(links);
            let synced = guard.as_mut().map_or(Ok(()), |it| it.sync(links));
            match synced {
                Err(err) if err.is_unsupported() => {
                    let error = crate::chain(&err);
                    tracing::warn!(error, "This kernel cannot hold pods to their addresses");
                    *guard = None;
                    Ok(())
                }
                other => other.map_err(NetworkError::Guard),
            }
        })
        .await
    }

    /// Makes the bridge, once for each address range.
    ///
    /// # Errors
    /// There is no address range yet, or the kernel refused.
    pub async fn ensure_bridge(&self) -> Result<BridgeConfig, NetworkError> {
        let wanted = self.bridge_config().ok_or(NetworkError::NoCidr)?;
        let mut made = self.made.lock().await;
        if made.as_ref() == Some(&wanted) {
            return Ok(wanted);
        }
        let config = wanted.clone();
        blocking(move || {
            let bridge = config.name.clone();
            cni::ensure_bridge(&config).map_err(|err| NetworkError::Bridge { bridge, err })
        })
        .await?;
        *made = Some(wanted.clone());
        Ok(wanted)
    }

    /// Makes service addresses routable from the machine itself.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn ensure_service_route(&self, services: Ipv4Net) -> Result<(), NetworkError> {
        let config = self.ensure_bridge().await?;
        blocking(move || {
            let bridge = config.name.clone();
            cni::ensure_route(&config, services).map_err(|err| NetworkError::Bridge { bridge, err })
        })
        .await
    }

    fn bridge_config(&self) -> Option<BridgeConfig> {
        let subnet = self.cidr()?;
        Some(BridgeConfig {
            name: self.bridge.clone(),
            subnet,
            gateway: gateway(subnet),
            mtu: self.mtu,
        })
    }
}

/// Whether there is a link of this name on the host.
fn exists(link: &str) -> bool {
    Path::new("/sys/class/net").join(link).exists()
}

/// Name of a sandbox's link on the host.
fn link(sandbox: &SandboxId) -> String {
    cni::host_ifname(&sandbox.to_string())
}

/// The first address of the range is the bridge's.
fn gateway(cidr: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(cidr.network()).saturating_add(1))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetworkError> + Send + 'static,
) -> Result<T, NetworkError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(NetworkError::Cancelled))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(n: u8) -> PodUid {
        format!("5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d{n:02x}").parse().unwrap()
    }

    #[test]
    fn a_pod_keeps_its_address_and_nobody_else_gets_it() {
        let (bridge, table) = ("b".to_owned(), "t".to_owned());
        let network = Network::new(bridge, table, 1500, Remembered::default(), None);
        assert!(matches!(network.reserve(&uid(1)), Err(NetworkError::NoCidr)));
        network.set_cidr("10.42.0.0/29".parse().unwrap());
        let first = network.reserve(&uid(1)).unwrap();
        assert_eq!(first, Ipv4Addr::new(10, 42, 0, 2));
        assert_eq!(network.reserve(&uid(1)).unwrap(), first);
        let others: BTreeSet<_> = (2..6).map(|n| network.reserve(&uid(n)).unwrap()).collect();
        assert_eq!(others.len(), 4);
        assert!(!others.contains(&first));
        assert!(matches!(network.reserve(&uid(7)), Err(NetworkError::Exhausted { .. })));
        network.release(&uid(1));
        assert_eq!(network.reserve(&uid(7)).unwrap(), first);
    }
}
