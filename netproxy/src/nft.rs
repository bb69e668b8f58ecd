//! The table in the kernel, and the messages that make and change it.
//!
//! ```text
//! nat     prerouting, output   (address, protocol, port) -> services -> goto lbN
//!                              (protocol, port) of a local address -> node-ports -> goto npN
//!         lbN, npN             N at random -> (address, protocol, port, index) -> endpoints -> mark, dnat
//!         postrouting          masquerade: pods to the outside; of what is marked, a pod to itself, and from outside
//!                              to a pod elsewhere
//! filter  forward, output      what is still for an address in cluster-ips -> refuse
//!         input                a node port without endpoints -> refuse
//! ```

mod expr;
pub(crate) mod guard;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, Expressions, Hook, InetHookNumber, ListAttribute,
    NfTablesMessage, Register, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute,
    SetElementList, SetElementMessage, SetFlags, SetMessage, TableAttribute, TableMessage,
};

use crate::{
    Config,
    elements::{Balancer, Data, Difference, Key},
    model::Frontend,
    netlink::Batch,
};

const SERVICES: &str = "services";
const NODE_PORTS: &str = "node-ports";
const ENDPOINTS: &str = "endpoints";
const CLUSTER_IPS: &str = "cluster-ips";
const CLOSED_PORTS: &str = "closed-node-ports";
const HAIRPINS: &str = "hairpins";

/// Types of nft, for those who list the table: each of a concatenation takes six bits.
const IPV4: u32 = 7;
const PROTOCOL: u32 = 12;
const PORT: u32 = 13;
const MARK: u32 = 19;
const LINK_NAME: u32 = 41;
const VERDICT: u32 = 0xffff_ff00;

/// A message holds at most so many elements: their list must stay below 64 KiB.
const CHUNK: usize = 400;

/// Makes the table anew, empty of services, whatever it was before.
pub(crate) fn replace_table(config: &Config, batch: &mut Batch) {
    let t = &config.table;
    remove_table(t, batch);
    batch.push("create the table", NfTablesMessage::NewTable(table(t)), NLM_F_CREATE);
    let service = IPV4 << 12 | PROTOCOL << 6 | PORT;
    let endpoint = IPV4 << 18 | PROTOCOL << 12 | PORT << 6 | MARK;
    let node_port = PROTOCOL << 6 | PORT;
    new_set(t, batch, 1, SERVICES, (service, 12), Some((VERDICT, 16)));
    new_set(t, batch, 2, NODE_PORTS, (node_port, 8), Some((VERDICT, 16)));
    new_set(t, batch, 3, ENDPOINTS, (endpoint, 16), Some((IPV4 << 6 | PORT, 8)));
    new_set(t, batch, 4, CLUSTER_IPS, (IPV4, 4), None);
    new_set(t, batch, 5, CLOSED_PORTS, (node_port, 8), None);
    new_set(t, batch, 6, HAIRPINS, (IPV4 << 6 | IPV4, 8), None);

    base_chain(t, batch, "prerouting", "nat", InetHookNumber::PreRouting, -100);
    base_chain(t, batch, "output", "nat", InetHookNumber::LocalOut, -100);
    base_chain(t, batch, "postrouting", "nat", InetHookNumber::PostRouting, 100);
    base_chain(t, batch, "filter-input", "filter", InetHookNumber::LocalIn, 0);
    base_chain(t, batch, "filter-forward", "filter", InetHookNumber::Forward, 0);
    base_chain(t, batch, "filter-output", "filter", InetHookNumber::LocalOut, 0);
    new_chain(t, batch, "refuse", Vec::new());

    for chain in ["prerouting", "output"] {
        rule(t, batch, chain, expr::to_service(SERVICES));
        rule(t, batch, chain, expr::to_node_port(NODE_PORTS));
    }
    rule(t, batch, "postrouting", expr::from_pod_to_outside(config));
    rule(t, batch, "postrouting", expr::from_pod_to_itself(HAIRPINS));
    rule(t, batch, "postrouting", expr::from_outside_to_pod_elsewhere(config));
    rule(t, batch, "filter-input", expr::closed(CLOSED_PORTS, "refuse"));
    for chain in ["filter-forward", "filter-output"] {
        rule(t, batch, chain, expr::still_for_service(CLUSTER_IPS, "refuse"));
    }
    rule(t, batch, "refuse", expr::reset_tcp());
    rule(t, batch, "refuse", expr::unreachable());
}

/// Removes the table if there is one.
pub(crate) fn remove_table(name: &str, batch: &mut Batch) {
    // Creating what exists is no error; deleting what does not is.
    batch.push("create the table", NfTablesMessage::NewTable(table(name)), NLM_F_CREATE);
    batch.push("delete the table", NfTablesMessage::DeleteTable(table(name)), 0);
}

/// Changes the maps.
pub(crate) fn update(name: &str, difference: &Difference, batch: &mut Batch) {
    for balancer in &difference.balancers {
        let chain = chain_name(*balancer);
        new_chain(name, batch, &chain, Vec::new());
        rule(name, batch, &chain, expr::draw(*balancer, ENDPOINTS));
    }
    for (set, elements) in by_set(&difference.delete, false) {
        for chunk in elements.chunks(CHUNK) {
            let message = NfTablesMessage::DeleteSetElement(list(name, set, chunk));
            batch.push("delete elements", message, 0);
        }
    }
    for (set, elements) in by_set(&difference.add, true) {
        for chunk in elements.chunks(CHUNK) {
            let message = NfTablesMessage::NewSetElement(list(name, set, chunk));
            batch.push("add elements", message, NLM_F_CREATE);
        }
    }
}

fn by_set(
    elements: &[(Key, Data)],
    with_data: bool,
) -> Vec<(&'static str, Vec<ListAttribute<SetElementAttribute>>)> {
    let mut sets: Vec<(&str, Vec<_>)> =
        [SERVICES, NODE_PORTS, ENDPOINTS, CLUSTER_IPS, CLOSED_PORTS, HAIRPINS]
            .map(|name| (name, Vec::new()))
            .into();
    for (key, data) in elements {
        let (name, key) = encode_key(key);
        let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(key))];
        if with_data {
            attributes.extend(encode_data(data).map(SetElementAttribute::Data));
        }
        if let Some((_, list)) = sets.iter_mut().find(|(set, _)| *set == name) {
            list.push(ListAttribute::Element(attributes));
        }
    }
    sets
}

/// Every field of a concatenation is padded to four bytes.
fn encode_key(key: &Key) -> (&'static str, Vec<u8>) {
    let port_key = |it: &Frontend| {
        let [high, low] = it.port.to_be_bytes();
        vec![it.protocol.number(), 0, 0, 0, high, low, 0, 0]
    };
    match key {
        Key::ClusterIp(address) => (CLUSTER_IPS, address.octets().to_vec()),
        Key::Closed(frontend) => (CLOSED_PORTS, port_key(frontend)),
        Key::Hairpin(address) => (HAIRPINS, [address.octets(), address.octets()].concat()),
        Key::Service(frontend) => match frontend.address {
            Some(address) => (SERVICES, [&address.octets()[..], &port_key(frontend)].concat()),
            None => (NODE_PORTS, port_key(frontend)),
        },
        Key::Endpoint(frontend, index) => {
            let address = frontend.address.map_or([0; 4], |it| it.octets());
            let index = index.to_ne_bytes();
            (ENDPOINTS, [&address[..], &port_key(frontend), &index].concat())
        }
    }
}

fn encode_data(data: &Data) -> Option<DataAttribute> {
    match data {
        Data::None => None,
        Data::Balancer(balancer) => Some(expr::goto(&chain_name(*balancer))),
        Data::Endpoint(endpoint) => {
            let [high, low] = endpoint.port.to_be_bytes();
            let value = [endpoint.address.octets(), [high, low, 0, 0]].concat();
            Some(DataAttribute::Value(value))
        }
    }
}

fn chain_name(balancer: Balancer) -> String {
    let kind = if balancer.node_port { "np" } else { "lb" };
    format!("{kind}{}", balancer.n_endpoints)
}

fn table(name: &str) -> TableMessage {
    TableMessage { attributes: vec![TableAttribute::Name(name.into())] }
}

fn new_set(
    table: &str,
    batch: &mut Batch,
    id: u32,
    name: &str,
    (key_type, key_bytes): (u32, u32),
    data: Option<(u32, u32)>,
) {
    let mut attributes = vec![
        SetAttribute::Table(table.into()),
        SetAttribute::Name(name.into()),
        SetAttribute::Flags(if data.is_some() { SetFlags::Map } else { SetFlags::empty() }),
        SetAttribute::KeyType(key_type),
        SetAttribute::KeyLen(key_bytes),
        SetAttribute::Id(id),
        SetAttribute::UserData(byte_order(key_type)),
    ];
    if let Some((data_type, data_bytes)) = data {
        attributes.push(SetAttribute::DataType(data_type));
        if data_type != VERDICT {
            attributes.push(SetAttribute::DataLen(data_bytes));
        }
    }
    let message = NfTablesMessage::NewSet(SetMessage { attributes });
    batch.push("create a set", message, NLM_F_CREATE);
}

/// Tells those who list the set how to read its keys: in network order, but for names.
fn byte_order(key_type: u32) -> Vec<u8> {
    const HOST: u32 = 1;
    const NETWORK: u32 = 2;
    let order = if key_type == LINK_NAME { HOST } else { NETWORK };
    let [a, b, c, d] = order.to_ne_bytes();
    vec![0, 4, a, b, c, d]
}

fn base_chain(
    table: &str,
    batch: &mut Batch,
    name: &str,
    kind: &str,
    hook: InetHookNumber,
    priority: i32,
) {
    let hook = vec![Hook::Number(hook.into()), Hook::Priority(priority.cast_unsigned())];
    let attributes = vec![ChainAttribute::Hook(hook), ChainAttribute::Type(kind.into())];
    new_chain(table, batch, name, attributes);
}

fn new_chain(table: &str, batch: &mut Batch, name: &str, more: Vec<ChainAttribute>) {
    let mut attributes =
        vec![ChainAttribute::Table(table.into()), ChainAttribute::Name(name.into())];
    attributes.extend(more);
    let message = NfTablesMessage::NewChain(ChainMessage { attributes });
    batch.push("create a chain", message, NLM_F_CREATE);
}

fn rule(table: &str, batch: &mut Batch, chain: &str, expressions: Vec<Expressions>) {
    let expressions = expressions.into_iter().map(Into::into).collect();
    let attributes = vec![
        RuleAttribute::Table(table.into()),
        RuleAttribute::Chain(chain.into()),
        RuleAttribute::Expressions(expressions),
    ];
    let message = NfTablesMessage::NewRule(RuleMessage { attributes });
    batch.push("create a rule", message, NLM_F_CREATE | NLM_F_APPEND);
}

fn list(
    table: &str,
    set: &str,
    elements: &[ListAttribute<SetElementAttribute>],
) -> SetElementMessage {
    let attributes = vec![
        SetElementList::Table(table.into()),
        SetElementList::Set(set.into()),
        SetElementList::Elements(elements.to_vec()),
    ];
    SetElementMessage { attributes }
}

/// Registers of four bytes: a concatenation lies in adjacent ones.
const KEY: [Register; 4] =
    [Register::Reg32_00, Register::Reg32_01, Register::Reg32_02, Register::Reg32_03];
const RESULT: [Register; 2] = [Register::Reg32_04, Register::Reg32_05];
