//! Keeps the kernel's service table as the Services and EndpointSlices say, and the host ports of
//! pods, from the ledger at boot and from the hub's changes after it.

use std::{sync::Arc, time::Duration};

use netproxy::{Config, Proxy, SyncError, model};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    chain,
    desired::{Body, DesiredObjects},
    host_ports::{self, HostPort, HostPorts},
    node::Node,
};

/// First pause after a failed sync; doubled up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Changes that come within this time are one sync.
const SETTLE: Duration = Duration::from_millis(5);

/// Objects of one sync, by identity.
#[derive(Clone, Default)]
struct Inputs {
    services: Vec<Arc<Body>>,
    slices: Vec<Arc<Body>>,
    host_ports: Vec<HostPort>,
}

impl Inputs {
    fn of(view: &DesiredObjects, host_ports: Vec<HostPort>) -> Self {
        let all = |kind| view.of_kind(kind).map(|(_, it)| Arc::clone(&it.body)).collect();
        Self { services: all("Service"), slices: all("EndpointSlice"), host_ports }
    }

    fn same(&self, other: &Self) -> bool {
        let same = |a: &[Arc<Body>], b: &[Arc<Body>]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        same(&self.services, &other.services)
            && same(&self.slices, &other.slices)
            && self.host_ports == other.host_ports
    }
}

/// Runs until the agent stops. What the kernel has stays.
pub async fn run(node: Arc<Node>, shutdown: CancellationToken) {
    let mut generation_rx = node.desired.subscribe();
    // Nothing in the view changes when the network comes up at a boot without hub.
    let mut cidr_rx = node.network.subscribe();
    let mut leases_rx = node.network.subscribe_leases();
    let mut host_ports = HostPorts::default();
    let mut proxy: Option<(Config, Proxy)> = None;
    let mut done: Option<Inputs> = None;
    let mut n_failures: u32 = 0;
    loop {
        generation_rx.mark_unchanged();
        cidr_rx.mark_unchanged();
        leases_rx.mark_unchanged();
        let view = node.desired.snapshot();
        let ports = host_ports.of(&view, |uid| node.network.lease(uid));
        let inputs = Inputs::of(&view, ports);
        let config = config(&node);
        let stale = done.as_ref().is_none_or(|it| !it.same(&inputs))
            || proxy.as_ref().map(|(it, _)| it) != config.as_ref();
        if let (true, Some(config)) = (stale, config) {
            let current = match proxy.take() {
                Some((known, proxy)) if known == config => proxy,
                _ => Proxy::new(config.clone()),
            };
            let (current, result) = sync(&node, current, inputs.clone()).await;
            proxy = current.map(|it| (config, it));
            match result {
                Ok(()) => (done, n_failures) = (Some(inputs), 0),
                Err(message) => {
                    tracing::warn!(error = message, "Could not bring services up to date");
                    (done, n_failures) = (None, n_failures.saturating_add(1));
                }
            }
        }
        let pause = match n_failures {
            0 => None,
            n => Some(MIN_PAUSE.saturating_mul(1 << (n - 1).min(10)).min(MAX_PAUSE)),
        };
        // All are cancel-safe.
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = generation_rx.changed() => if changed.is_err() {
                return;
            },
            changed = cidr_rx.changed() => if changed.is_err() {
                return;
            },
            changed = leases_rx.changed() => if changed.is_err() {
                return;
            },
            () = sleep_or_never(pause) => {}
        }
        tokio::time::sleep(SETTLE).await;
    }
}

async fn sleep_or_never(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

fn values(list: &[Arc<Body>]) -> Vec<&Value> {
    list.iter().map(|it| it.value()).collect()
}

fn config(node: &Node) -> Option<Config> {
    Some(Config {
        table: node.config.nft_table.clone(),
        pod_cidr: node.network.cidr()?,
        cluster_cidr: node.config.cluster_cidr,
    })
}

async fn sync(
    node: &Node,
    mut proxy: Proxy,
    inputs: Inputs,
) -> (Option<Proxy>, Result<(), String>) {
    if let Err(err) = node.network.ensure_service_route(node.config.service_cidr).await {
        return (Some(proxy), Err(chain(&err)));
    }
    let synced = tokio::task::spawn_blocking(move || {
        let mut table = model::from_objects(&values(&inputs.services), &values(&inputs.slices));
        host_ports::add(&inputs.host_ports, &mut table);
        let result: Result<_, SyncError> = proxy.sync(&table);
        (proxy, result)
    });
    match synced.await {
        Ok((proxy, Ok(report))) => {
            for warning in &report.warnings {
                tracing::warn!(%warning, "A service asks for what this node cannot do");
            }
            tracing::debug!(
                n_added = report.n_added,
                n_deleted = report.n_deleted,
                replaced = report.replaced,
                "Brought services up to date"
            );
            (Some(proxy), Ok(()))
        }
        Ok((proxy, Err(err))) => (Some(proxy), Err(chain(&err))),
        Err(err) => (None, Err(err.to_string())),
    }
}
