//! Between the table and the kernel: elements of maps and sets, and the difference between two states. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use crate::model::{Endpoint, Frontend, Protocol, ServiceTable};

/// Identity of an element: the set it is in, and its key.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Key {
    /// An address that exists only as a frontend.
    ClusterIp(Ipv4Addr),
    /// A node port without endpoints.
    Closed(Frontend),
    /// A pod of this node that may meet itself through a service.
    Hairpin(Ipv4Addr),
    /// A frontend with endpoints.
    Service(Frontend),
    /// One of the endpoints of a frontend.
    Endpoint(Frontend, u32),
}

/// What an element leads to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Data {
    None,
    /// The chain that draws one of so many.
    Balancer(Balancer),
    Endpoint(Endpoint),
}

/// A chain that draws an index, for frontends with an address or for node ports.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Balancer {
    pub(crate) n_endpoints: u32,
    pub(crate) node_port: bool,
}

/// Everything in the maps of the proxy, and the chains that were made for it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Elements {
    pub(crate) elements: BTreeMap<Key, Data>,
    /// Chains stay when the last frontend with so many endpoints is gone: it will come again.
    pub(crate) balancers: BTreeSet<Balancer>,
}

/// How to come from one state to another: deletions first.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Difference {
    pub(crate) balancers: Vec<Balancer>,
    pub(crate) delete: Vec<(Key, Data)>,
    pub(crate) add: Vec<(Key, Data)>,
}

impl Elements {
    pub(crate) fn of(table: &ServiceTable, pod_cidr: Ipv4Net) -> Self {
        let mut this = Self::default();
        for address in &table.cluster_ips {
            this.elements.insert(Key::ClusterIp(*address), Data::None);
        }
        for (frontend, endpoints) in &table.frontends {
            let node_port = frontend.address.is_none();
            if endpoints.is_empty() {
                if node_port {
                    this.elements.insert(Key::Closed(*frontend), Data::None);
                }
                continue;
            }
            let n_endpoints = u32::try_from(endpoints.len()).unwrap_or(u32::MAX);
            let balancer = Balancer { n_endpoints, node_port };
            this.balancers.insert(balancer);
            this.elements.insert(Key::Service(*frontend), Data::Balancer(balancer));
            for (index, endpoint) in (0..).zip(endpoints) {
                let key = Key::Endpoint(*frontend, index);
                this.elements.insert(key, Data::Endpoint(*endpoint));
                if pod_cidr.contains(&endpoint.address) {
                    this.elements.insert(Key::Hairpin(endpoint.address), Data::None);
                }
            }
        }
        this
    }

    /// How to come here from `known`.
    pub(crate) fn difference(&self, known: &Self) -> Difference {
        let missing = |of: &Self, key: &Key, data: &Data| of.elements.get(key) != Some(data);
        let pick = |from: &Self, of: &Self| {
            let picked = from.elements.iter().filter(|(key, data)| missing(of, key, data));
            picked.map(|(key, data)| (*key, *data)).collect()
        };
        Difference {
            balancers: self.balancers.difference(&known.balancers).copied().collect(),
            delete: pick(known, self),
            add: pick(self, known),
        }
    }

    pub(crate) fn with_balancers_of(mut self, known: &Self) -> Self {
        self.balancers.extend(&known.balancers);
        self
    }
}

impl Difference {
    pub(crate) fn is_empty(&self) -> bool {
        self.delete.is_empty() && self.add.is_empty() && self.balancers.is_empty()
    }

    /// Endpoints that a UDP frontend has no more.
    pub(crate) fn udp_endpoints_gone(&self) -> BTreeSet<(Frontend, Endpoint)> {
        // An endpoint whose index changed is in both.
        udp_endpoints(&self.delete).difference(&udp_endpoints(&self.add)).copied().collect()
    }

    /// UDP frontends that had no endpoint before and have some now, with all of these.
    pub(crate) fn udp_frontends_live(&self) -> BTreeMap<Frontend, BTreeSet<Endpoint>> {
        let served = |of: &[(Key, Data)]| {
            let keys = of.iter().map(|(key, _)| *key);
            keys.filter(|it| matches!(it, Key::Service(_))).collect::<BTreeSet<Key>>()
        };
        // One that changes the number of its endpoints is in both.
        let (now, before) = (served(&self.add), served(&self.delete));
        let mut live: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (frontend, endpoint) in udp_endpoints(&self.add) {
            let key = Key::Service(frontend);
            if now.contains(&key) && !before.contains(&key) {
                live.entry(frontend).or_default().insert(endpoint);
            }
        }
        live
    }
}

fn udp_endpoints(of: &[(Key, Data)]) -> BTreeSet<(Frontend, Endpoint)> {
    let mut found = BTreeSet::new();
    for element in of {
        if let (Key::Endpoint(frontend, _), Data::Endpoint(endpoint)) = element
            && frontend.protocol == Protocol::Udp
        {
            found.insert((*frontend, *endpoint));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frontend() -> impl Strategy<Value = Frontend> {
        let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
        (0..4_u8, protocol, 80..82_u16).prop_map(|(last, protocol, port)| Frontend {
            address: (last > 0).then(|| Ipv4Addr::new(10, 96, 0, last)),
            protocol,
            port,
        })
    }

    fn table() -> impl Strategy<Value = ServiceTable> {
        let endpoint = (0..6_u8, 1..3_u16).prop_map(|(last, port)| Endpoint {
            address: Ipv4Addr::new(10, 42, last % 2, last),
            port,
        });
        let endpoints = proptest::collection::btree_set(endpoint, 0..5);
        proptest::collection::btree_map(frontend(), endpoints, 0..8).prop_map(|frontends| {
            let cluster_ips = frontends.keys().filter_map(|it| it.address).collect();
            ServiceTable { frontends, cluster_ips, warnings: Vec::new() }
        })
    }

    fn elements(table: &ServiceTable) -> Elements {
        Elements::of(table, "10.42.0.0/24".parse().unwrap())
    }

    /// As the kernel does: what is deleted must be there, what is added must not, a chain must exist.
    fn apply(state: &mut Elements, difference: &Difference) {
        for balancer in &difference.balancers {
            assert!(state.balancers.insert(*balancer));
        }
        for (key, data) in &difference.delete {
            assert_eq!(state.elements.remove(key), Some(*data));
        }
        for (key, data) in &difference.add {
            assert_eq!(state.elements.insert(*key, *data), None);
            if let Data::Balancer(balancer) = data {
                assert!(state.balancers.contains(balancer));
            }
        }
    }

    proptest! {
        #[test]
        fn differences_lead_through_any_tables(tables in proptest::collection::vec(table(), 1..8)) {
            let mut kernel = Elements::default();
            let mut known = Elements::default();
            for table in &tables {
                let wanted = elements(table);
                apply(&mut kernel, &wanted.difference(&known));
                known = wanted.clone().with_balancers_of(&known);
                prop_assert_eq!(&kernel, &known);
                prop_assert_eq!(&kernel.elements, &wanted.elements);
                prop_assert!(elements(table).difference(&known).is_empty());
            }
        }

        /// Whatever index is drawn, it leads to an endpoint; and each endpoint has one.
        #[test]
        fn every_index_leads_to_an_endpoint(table in table()) {
            let elements = elements(&table).elements;
            for (frontend, endpoints) in &table.frontends {
                let mut reached = BTreeSet::new();
                if let Some(Data::Balancer(balancer)) = elements.get(&Key::Service(*frontend)) {
                    for index in 0..balancer.n_endpoints {
                        let key = Key::Endpoint(*frontend, index);
                        let Some(Data::Endpoint(endpoint)) = elements.get(&key) else {
                            return Err(TestCaseError::fail("an index without an endpoint"));
                        };
                        reached.insert(*endpoint);
                    }
                }
                prop_assert_eq!(endpoints, &reached);
            }
        }
    }

    const UDP: Frontend =
        Frontend { address: Some(Ipv4Addr::new(10, 96, 0, 1)), protocol: Protocol::Udp, port: 53 };

    fn endpoint(last: u8) -> Endpoint {
        Endpoint { address: Ipv4Addr::new(10, 42, 0, last), port: 53 }
    }

    /// From one list of endpoints to another.
    fn change(frontend: Frontend, before: &[u8], after: &[u8]) -> Difference {
        let elements = |endpoints: &[u8]| {
            elements(&ServiceTable {
                frontends: [(frontend, endpoints.iter().map(|it| endpoint(*it)).collect())].into(),
                ..ServiceTable::default()
            })
        };
        elements(after).difference(&elements(before))
    }

    #[test]
    fn an_endpoint_that_only_moves_is_not_gone() {
        let gone = change(UDP, &[2, 3, 4], &[3, 4]).udp_endpoints_gone();
        assert_eq!(gone, [(UDP, endpoint(2))].into());
    }

    #[test]
    fn a_frontend_is_live_from_its_first_endpoint_on() {
        let live = |before: &[u8], after: &[u8]| change(UDP, before, after).udp_frontends_live();
        assert_eq!(live(&[], &[2, 3]), [(UDP, [endpoint(2), endpoint(3)].into())].into());
        assert_eq!(live(&[2], &[2, 3]), BTreeMap::new());
        assert_eq!(live(&[2], &[3]), BTreeMap::new());
        assert_eq!(live(&[2], &[]), BTreeMap::new());
        let tcp = Frontend { protocol: Protocol::Tcp, ..UDP };
        assert_eq!(change(tcp, &[], &[2]).udp_frontends_live(), BTreeMap::new());
    }
}
