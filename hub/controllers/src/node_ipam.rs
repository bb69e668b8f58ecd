//! Node IPAM: cuts a /24 of the cluster network for every node.
//!
//! All nodes are planned under one key, so that no two plans can give out the same network.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde_json::json;

use crate::config::Cidr;
use crate::object::{Kind, Object, ObjectRef};
use crate::value::{list_at, str_at};
use crate::world::{Change, World};
use crate::write::{Note, Write};
use crate::{Controller, Plan};

const NODE_PREFIX: u8 = 24;

#[derive(Debug)]
pub struct NodeIpamController {
    cluster_cidr: Cidr,
}

impl NodeIpamController {
    pub fn new(cluster_cidr: Cidr) -> Self {
        Self { cluster_cidr }
    }

    /// All networks there are, lowest first.
    fn networks(&self) -> impl Iterator<Item = u32> + use<> {
        let bits = NODE_PREFIX.saturating_sub(self.cluster_cidr.prefix);
        let first = u32::from(self.cluster_cidr.address);
        let count = if self.cluster_cidr.prefix > NODE_PREFIX { 0 } else { 1_u32 << bits.min(24) };
        (0..count).map(move |place| first + (place << (32 - NODE_PREFIX)))
    }
}

impl Controller for NodeIpamController {
    fn name(&self) -> &'static str {
        "node-ipam-controller"
    }

    fn affected(&self, change: &Change<'_>, _world: &World) -> Vec<ObjectRef> {
        // A removed node makes room for one that waits.
        let lacks = change.new.is_none_or(|node| pod_cidr(node).is_empty());
        if change.kind == Kind::NODE && lacks { vec![Kind::NODE.all()] } else { Vec::new() }
    }

    fn reconcile(&self, _key: &ObjectRef, world: &World, _now: Timestamp) -> Plan {
        let lacking: Vec<&Object> = world
            .list(Kind::NODE)
            .map(AsRef::as_ref)
            .filter(|node| pod_cidr(node).is_empty() && !node.is_deleting())
            .collect();
        if lacking.is_empty() {
            return Plan::default();
        }
        let used: Vec<(u32, u32)> = world.list(Kind::NODE).flat_map(|node| used_by(node)).collect();
        let is_free = |network: &u32| {
            let last = network | 0xff;
            !used.iter().any(|(from, to)| *from <= last && *network <= *to)
        };
        let mut free = self.networks().filter(is_free);
        let writes = lacking.into_iter().map(|node| match free.next() {
            Some(network) => {
                let cidr = format!("{}/{NODE_PREFIX}", Ipv4Addr::from(network));
                let patch = json!({"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}});
                Write::patch(node, None, patch)
            }
            None => Write::Note(Note::normal(
                node,
                world,
                "CIDRNotAvailable",
                format!("Node {} status is now: CIDRNotAvailable", node.name.name),
            )),
        });
        Plan::from(writes.collect::<Vec<_>>())
    }
}

fn pod_cidr(node: &Object) -> &str {
    str_at(node.spec(), &["podCIDR"])
}

/// First and last address of each IPv4 network that a node has.
fn used_by(node: &Object) -> BTreeSet<(u32, u32)> {
    let listed = list_at(node.spec(), &["podCIDRs"]).iter().filter_map(|it| it.as_str());
    listed.chain([pod_cidr(node)]).filter_map(range).collect()
}

fn range(cidr: &str) -> Option<(u32, u32)> {
    let (address, prefix) = cidr.split_once('/')?;
    let address = u32::from(address.parse::<Ipv4Addr>().ok()?);
    let host = u32::MAX.checked_shr(prefix.parse().ok()?).unwrap_or_default();
    Some((address & !host, address | host))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::object::KindRow;

    fn plan(prefix: u8, cidrs: &[&str]) -> Vec<String> {
        let row = KindRow {
            kind: Kind::NODE,
            api_version: "v1".to_owned(),
            object_kind: "Node".to_owned(),
            namespaced: false,
        };
        let mut world = World::new([row], Timestamp::UNIX_EPOCH);
        for (place, cidr) in cidrs.iter().enumerate() {
            let metadata = json!({"name": format!("n{place}"), "uid": format!("u{place}")});
            let node = json!({"metadata": metadata, "spec": {"podCIDR": cidr}});
            world.put(Object::from_value(Kind::NODE, node), Timestamp::UNIX_EPOCH);
        }
        let cluster_cidr = Cidr { address: Ipv4Addr::new(10, 42, 0, 0), prefix };
        let plan = NodeIpamController::new(cluster_cidr).reconcile(
            &Kind::NODE.all(),
            &world,
            Timestamp::UNIX_EPOCH,
        );
        let text = |write: Write| match write {
            Write::Patch { patch, target, .. } => {
                let cidr = patch["spec"]["podCIDR"].as_str().map(str::to_owned).unwrap_or_default();
                assert_eq!(patch["spec"]["podCIDRs"], Value::Array(vec![json!(cidr)]));
                format!("{} {cidr}", target.name)
            }
            Write::Note(note) => note.reason.to_owned(),
            Write::Create { .. } | Write::Replace { .. } | Write::Delete { .. } => String::new(),
        };
        plan.writes.into_iter().map(text).collect()
    }

    #[test]
    fn every_node_gets_a_network_of_its_own() {
        assert_eq!(plan(16, &["", ""]), ["n0 10.42.0.0/24", "n1 10.42.1.0/24"]);
        assert_eq!(plan(16, &["10.42.0.0/24", "", "10.42.2.0/24"]), ["n1 10.42.1.0/24"]);
        assert_eq!(plan(16, &["10.42.0.0/23", ""]), ["n1 10.42.2.0/24"]);
        assert_eq!(plan(24, &["", ""]), ["n0 10.42.0.0/24", "CIDRNotAvailable"]);
        assert_eq!(plan(16, &["10.42.0.0/24"]), Vec::<String>::new());
    }
}
