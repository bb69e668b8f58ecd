//! The table of [`crate::Guard`] in the kernel, and the messages that make and change it.
//!
//! ```text
//! prerouting   IPv4, (link, source) in sandboxes -> accept
//!              ARP, (link, sender) in sandboxes  -> accept
//!              link in links                     -> count and drop
//! ```
//!
//! An honest packet costs one look, however many sandboxes there are; what comes from other links passes.

use std::net::Ipv4Addr;

use netlink_packet_netfilter::nftables::{
    DataAttribute, Expressions, InetHookNumber, ListAttribute, Meta, MetaKey, NfTablesMessage,
    Operator, Register, SetElementAttribute, Verdict, VerdictAttribute,
};

use super::{
    CHUNK, IPV4, LINK_NAME, NLM_F_CREATE, base_chain, expr, list, new_set, remove_table, rule,
    table,
};
use crate::netlink::Batch;

const SANDBOXES: &str = "sandboxes";
const LINKS: &str = "links";
const CHAIN: &str = "prerouting";

/// Before whatever else the host does with frames on bridges (`NF_BR_PRI_NAT_DST_BRIDGED`).
const PRIORITY: i32 = -300;
/// Bytes of a link's name in a register, the last one zero (`IFNAMSIZ`).
const NAME_BYTES: usize = 16;
const NAME_SIZE: u32 = 16;
const KEY_SIZE: u32 = NAME_SIZE + 4;
/// A name takes four registers of four bytes; what is looked up with it lies in the next.
const NAME: Register = Register::Reg32_00;
const ADDRESS: Register = Register::Reg32_04;

/// Types of frames, as they carry them.
const IPV4_FRAME: [u8; 2] = [0x08, 0x00];
const ARP_FRAME: [u8; 2] = [0x08, 0x06];
/// Where ARP on Ethernet has the address of its sender (RFC 826).
const ARP_SENDER: u32 = 14;

const DROP: u32 = 0;
const ACCEPT: u32 = 1;

/// Makes the table anew, without sandboxes, whatever it was before.
pub(crate) fn replace_table(t: &str, batch: &mut Batch) {
    remove_table(t, batch);
    batch.push("create the table", NfTablesMessage::NewTable(table(t)), NLM_F_CREATE);
    new_set(t, batch, 1, SANDBOXES, (LINK_NAME << 6 | IPV4, KEY_SIZE), None);
    new_set(t, batch, 2, LINKS, (LINK_NAME, NAME_SIZE), None);
    base_chain(t, batch, CHAIN, "filter", InetHookNumber::PreRouting, PRIORITY);
    rule(t, batch, CHAIN, from_own_address(IPV4_FRAME, expr::SOURCE));
    rule(t, batch, CHAIN, from_own_address(ARP_FRAME, ARP_SENDER));
    rule(t, batch, CHAIN, from_sandbox());
}

/// Changes the sets. What is deleted must be there.
pub(crate) fn update(
    t: &str,
    delete: &[(&String, &Ipv4Addr)],
    add: &[(&String, &Ipv4Addr)],
    batch: &mut Batch,
) {
    for (set, elements) in by_set(delete) {
        for chunk in elements.chunks(CHUNK) {
            let message = NfTablesMessage::DeleteSetElement(list(t, set, chunk));
            batch.push("delete elements", message, 0);
        }
    }
    for (set, elements) in by_set(add) {
        for chunk in elements.chunks(CHUNK) {
            let message = NfTablesMessage::NewSetElement(list(t, set, chunk));
            batch.push("add elements", message, NLM_F_CREATE);
        }
    }
}

type Elements = Vec<ListAttribute<SetElementAttribute>>;

fn by_set(ports: &[(&String, &Ipv4Addr)]) -> [(&'static str, Elements); 2] {
    let element = |key: Vec<u8>| {
        ListAttribute::Element(vec![SetElementAttribute::Key(DataAttribute::Value(key))])
    };
    let keys = ports.iter().map(|(link, address)| [&name(link)[..], &address.octets()].concat());
    let names = ports.iter().map(|(link, _)| name(link).to_vec());
    [(SANDBOXES, keys.map(element).collect()), (LINKS, names.map(element).collect())]
}

/// A name as it lies in a register. The kernel has none that is too long.
fn name(link: &str) -> [u8; NAME_BYTES] {
    let mut name = [0; NAME_BYTES];
    for (to, from) in name.iter_mut().zip(link.bytes().take(NAME_BYTES - 1)) {
        *to = from;
    }
    name
}

fn from_own_address(frame: [u8; 2], offset: u32) -> Vec<Expressions> {
    vec![
        meta(MetaKey::EtherTypeProtocol, NAME),
        expr::compare(NAME, Operator::Equal, frame.to_vec()),
        meta(MetaKey::Iifname, NAME),
        expr::load(expr::NETWORK_HEADER, offset, 4, ADDRESS),
        expr::lookup(SANDBOXES, NAME, None),
        verdict(ACCEPT),
    ]
}

/// What a sandbox has no business to send: in another's name, or neither IPv4 nor ARP.
fn from_sandbox() -> Vec<Expressions> {
    vec![
        meta(MetaKey::Iifname, NAME),
        expr::lookup(LINKS, NAME, None),
        expr::other("counter", []),
        verdict(DROP),
    ]
}

fn meta(key: MetaKey, to: Register) -> Expressions {
    Expressions::Meta(vec![Meta::DestinationRegister(to), Meta::Key(key)])
}

fn verdict(code: u32) -> Expressions {
    let code = VerdictAttribute::Code(Verdict::Other(code));
    expr::immediate(Register::Verdict, DataAttribute::Verdict(vec![code]))
}
