//! Forgetting connections that lead to endpoints which are gone.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink is open: the kernel may answer with more than we ask for"
)]

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr},
};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NetlinkPayload};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple},
};
use netlink_sys::Socket;
use nix::libc;

use crate::{
    model::{Endpoint, Frontend},
    netlink,
};

/// Forgets every UDP connection of these frontends to these endpoints.
pub(crate) fn forget(gone: &BTreeSet<(Frontend, Endpoint)>) -> io::Result<()> {
    let socket = netlink::open(1 << 20)?;
    for tuple in leading_to(&socket, gone)? {
        let attributes = vec![ConntrackAttribute::CtaTupleOrig(tuple)];
        match exchange(&socket, ConntrackMessage::Delete(attributes), NLM_F_ACK, &mut |_| {}) {
            // It ended by itself.
            Err(err) if err.raw_os_error() == Some(libc::ENOENT) => {}
            other => other?,
        }
    }
    Ok(())
}

fn leading_to(
    socket: &Socket,
    gone: &BTreeSet<(Frontend, Endpoint)>,
) -> io::Result<Vec<Vec<Tuple>>> {
    let mut found = Vec::new();
    exchange(socket, ConntrackMessage::Get(Vec::new()), NLM_F_DUMP, &mut |attributes| {
        let (mut original, mut reply) = (None, None);
        for attribute in attributes {
            match attribute {
                ConntrackAttribute::CtaTupleOrig(tuple) => original = Some(tuple),
                ConntrackAttribute::CtaTupleReply(tuple) => reply = Some(tuple),
                _ => {}
            }
        }
        let (Some(original), Some(reply)) = (original, reply) else { return };
        let (sent, answered) = (Ends::of(&original), Ends::of(&reply));
        let leads = |(frontend, endpoint): &(Frontend, Endpoint)| {
            sent.udp
                && sent.to_port == Some(frontend.port)
                && frontend.address.is_none_or(|it| sent.to == Some(it))
                && answered.from == Some(endpoint.address)
                && answered.from_port == Some(endpoint.port)
        };
        if gone.iter().any(leads) {
            found.push(original);
        }
    })?;
    Ok(found)
}

#[derive(Default)]
struct Ends {
    udp: bool,
    from: Option<Ipv4Addr>,
    from_port: Option<u16>,
    to: Option<Ipv4Addr>,
    to_port: Option<u16>,
}

impl Ends {
    fn of(tuple: &[Tuple]) -> Self {
        let mut ends = Self::default();
        for part in tuple {
            match part {
                Tuple::Ip(addresses) => addresses.iter().for_each(|it| ends.address(it)),
                Tuple::Proto(ports) => ports.iter().for_each(|it| ends.port(it)),
                _ => {}
            }
        }
        ends
    }

    fn address(&mut self, part: &IPTuple) {
        match part {
            IPTuple::SourceAddress(IpAddr::V4(address)) => self.from = Some(*address),
            IPTuple::DestinationAddress(IpAddr::V4(address)) => self.to = Some(*address),
            _ => {}
        }
    }

    fn port(&mut self, part: &ProtoTuple) {
        match part {
            ProtoTuple::Protocol(protocol) => self.udp = *protocol == Protocol::Udp,
            ProtoTuple::SourcePort(port) => self.from_port = Some(*port),
            ProtoTuple::DestinationPort(port) => self.to_port = Some(*port),
            _ => {}
        }
    }
}

fn exchange(
    socket: &Socket,
    message: ConntrackMessage,
    flags: u16,
    seen: &mut dyn FnMut(Vec<ConntrackAttribute>),
) -> io::Result<()> {
    let header = NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 0);
    let mut bytes = Vec::new();
    netlink::append(&mut bytes, NetfilterMessage::new(header, message), flags, 1);
    socket.send(&bytes, 0)?;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match netlink::parse(&mut rest)?.payload {
                NetlinkPayload::Error(err) if err.code.is_some() => return Err(err.to_io()),
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::InnerMessage(message) => {
                    if let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) =
                        message.inner
                    {
                        seen(attributes);
                    }
                }
                _ => {}
            }
        }
    }
}
