//! Expressions of rules, each function one rule.
//!
//! Numbers that packets carry are in network order, numbers of the kernel's own in host order.

use ipnet::Ipv4Net;
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Immediate, Lookup, Meta, MetaKey, Operator, Payload,
    Register, Verdict, VerdictAttribute,
};

use super::{KEY, RESULT};
use crate::{Config, elements::Balancer};

pub(super) const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
pub(super) const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
/// The bit of a connection's mark (`ct mark`) that says: this table translated it. Others translate too
/// (Docker's published ports), and what becomes of their connections is theirs to say. Not one of the
/// bits that are known to be in use: Kubernetes has 0x4000 and 0x8000, portmap 0x2000, Tailscale
/// 0xff0000. Every other bit stays as it was.
const TRANSLATED: u32 = 1 << 12;
/// `NFT_CT_MARK`
const CT_MARK: u32 = 3;
/// `RTN_LOCAL`
const LOCAL: u32 = 2;
const TCP: u8 = 6;

/// An address, protocol and port of a service: go on where its map says.
pub(super) fn to_service(services: &'static str) -> Vec<Expressions> {
    let [address, protocol, port, _] = KEY;
    vec![
        load_address(DESTINATION, address),
        load_protocol(protocol),
        load_port(port),
        lookup(services, KEY[0], Some(Register::Verdict)),
    ]
}

/// A node port at an address of this host: go on where its map says.
pub(super) fn to_node_port(node_ports: &'static str) -> Vec<Expressions> {
    let mut rule = at_node_port();
    rule.push(lookup(node_ports, KEY[0], Some(Register::Verdict)));
    rule
}

/// Draws an index, looks up the endpoint, and sends the connection there.
pub(super) fn draw(balancer: Balancer, endpoints: &'static str) -> Vec<Expressions> {
    let [address, protocol, port, index] = KEY;
    let load_frontend = if balancer.node_port {
        immediate(address, DataAttribute::Value(vec![0; 4]))
    } else {
        load_address(DESTINATION, address)
    };
    let random = [nla(1, index.into()), nla(2, balancer.n_endpoints), nla(3, 1), nla(4, 0)];
    let [to_address, to_port] = RESULT;
    // type dnat, family IPv4, registers of address and port
    let dnat = [nla(1, 1), nla(2, 2), nla(3, to_address.into()), nla(5, to_port.into())];
    let mut rule = vec![
        load_frontend,
        load_protocol(protocol),
        load_port(port),
        other("numgen", random),
        lookup(endpoints, KEY[0], Some(RESULT[0])),
    ];
    // Registers of the key are free again, those of the result are not.
    rule.extend(set_translated());
    rule.push(other("nat", dnat));
    rule
}

/// Pods reach the world with the address of the host.
pub(super) fn from_pod_to_outside(config: &Config) -> Vec<Expressions> {
    let mut rule = in_network(SOURCE, config.pod_cidr, Operator::Equal);
    rule.extend(in_network(DESTINATION, config.cluster_cidr, Operator::NotEqual));
    rule.push(other("masq", []));
    rule
}

/// A pod that a service led to itself would answer itself directly, and not know the answer.
pub(super) fn from_pod_to_itself(hairpins: &'static str) -> Vec<Expressions> {
    let mut rule = translated();
    rule.extend([load_address(SOURCE, KEY[0]), load_address(DESTINATION, KEY[1])]);
    rule.extend([lookup(hairpins, KEY[0], None), other("masq", [])]);
    rule
}

/// What a service of this node led to a pod of another must come back through here.
pub(super) fn from_outside_to_pod_elsewhere(config: &Config) -> Vec<Expressions> {
    let mut rule = translated();
    rule.extend(in_network(SOURCE, config.cluster_cidr, Operator::NotEqual));
    rule.extend(in_network(DESTINATION, config.pod_cidr, Operator::NotEqual));
    rule.push(other("masq", []));
    rule
}

/// A node port without endpoints.
pub(super) fn closed(ports: &'static str, then: &str) -> Vec<Expressions> {
    let mut rule = at_node_port();
    rule.push(lookup(ports, KEY[0], None));
    rule.push(immediate(Register::Verdict, goto(then)));
    rule
}

/// An address of services that was not translated: no such port, or no endpoint.
pub(super) fn still_for_service(addresses: &'static str, then: &str) -> Vec<Expressions> {
    vec![
        load_address(DESTINATION, KEY[0]),
        lookup(addresses, KEY[0], None),
        immediate(Register::Verdict, goto(then)),
    ]
}

pub(super) fn reset_tcp() -> Vec<Expressions> {
    vec![
        load_protocol(KEY[0]),
        compare(KEY[0], Operator::Equal, vec![TCP]),
        other("reject", [nla(1, 1)]),
    ]
}

pub(super) fn unreachable() -> Vec<Expressions> {
    const PORT_UNREACHABLE: u8 = 3;
    let code = DefaultNla::new(2, vec![PORT_UNREACHABLE]);
    vec![other("reject", [nla(1, 0), code])]
}

pub(super) fn goto(chain: &str) -> DataAttribute {
    DataAttribute::Verdict(vec![
        VerdictAttribute::Code(Verdict::Goto),
        VerdictAttribute::Chain(chain.into()),
    ])
}

fn at_node_port() -> Vec<Expressions> {
    // result: type of the address, of the destination
    let fib = [nla(1, KEY[0].into()), nla(2, 3), nla(3, 2)];
    vec![
        other("fib", fib),
        compare(KEY[0], Operator::Equal, LOCAL.to_ne_bytes().to_vec()),
        load_protocol(KEY[0]),
        load_port(KEY[1]),
    ]
}

/// What this table translated.
fn translated() -> Vec<Expressions> {
    vec![
        load_mark(),
        mask(KEY[0], TRANSLATED.to_ne_bytes()),
        compare(KEY[0], Operator::NotEqual, vec![0; 4]),
    ]
}

/// Notes at the connection that this table translates it.
fn set_translated() -> [Expressions; 3] {
    [
        load_mark(),
        bitwise(KEY[0], (!TRANSLATED).to_ne_bytes(), TRANSLATED.to_ne_bytes()),
        other("ct", [nla(2, CT_MARK), nla(4, KEY[0].into())]),
    ]
}

fn load_mark() -> Expressions {
    other("ct", [nla(1, KEY[0].into()), nla(2, CT_MARK)])
}

fn in_network(offset: u32, network: Ipv4Net, operator: Operator) -> Vec<Expressions> {
    vec![
        load_address(offset, KEY[0]),
        mask(KEY[0], network.netmask().octets()),
        compare(KEY[0], operator, network.network().octets().to_vec()),
    ]
}

fn load_address(offset: u32, to: Register) -> Expressions {
    load(NETWORK_HEADER, offset, 4, to)
}

fn load_port(to: Register) -> Expressions {
    load(TRANSPORT_HEADER, 2, 2, to)
}

pub(super) fn load(base: u32, offset: u32, len: u32, to: Register) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(to),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(len),
    ])
}

fn load_protocol(to: Register) -> Expressions {
    Expressions::Meta(vec![Meta::DestinationRegister(to), Meta::Key(MetaKey::L4Proto)])
}

pub(super) fn lookup(set: &'static str, key: Register, to: Option<Register>) -> Expressions {
    let mut lookup = vec![Lookup::Set(set.into()), Lookup::SourceRegister(key)];
    lookup.extend(to.map(Lookup::DestinationRegister));
    Expressions::Lookup(lookup)
}

fn mask(register: Register, mask: [u8; 4]) -> Expressions {
    bitwise(register, mask, [0; 4])
}

/// Keeps the bits of `mask`, then flips those of `xor`.
fn bitwise(register: Register, mask: [u8; 4], xor: [u8; 4]) -> Expressions {
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(register),
        Bitwise::DestinationRegister(register),
        Bitwise::Length(4),
        Bitwise::Mask(DataAttribute::Value(mask.to_vec())),
        Bitwise::Xor(DataAttribute::Value(xor.to_vec())),
    ])
}

pub(super) fn compare(register: Register, operator: Operator, value: Vec<u8>) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(register),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value)),
    ])
}

pub(super) fn immediate(to: Register, data: DataAttribute) -> Expressions {
    Expressions::Immediate(vec![Immediate::DestinationRegister(to), Immediate::Data(data)])
}

pub(super) fn other<const N: usize>(name: &str, attributes: [DefaultNla; N]) -> Expressions {
    Expressions::Other { expression_type: name.into(), attributes: attributes.into() }
}

fn nla(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}
