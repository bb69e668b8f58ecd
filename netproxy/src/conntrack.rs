//! Forgetting connections that do not lead where they should.
//!
//! A translation is decided with the first packet of a connection, and a UDP "connection" lives as long as
//! packets come: without this, a client that never stops sending never meets what is there now.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink is open: the kernel may answer with more than we ask for"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
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
    model::{self, Endpoint, Frontend},
    netlink,
};

/// Which UDP connections do not lead where they should.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    /// Endpoints that a frontend has no more.
    pub(crate) gone: BTreeSet<(Frontend, Endpoint)>,
    /// Frontends that were not known to be served before, with their endpoints. Whatever was sent
    /// there meanwhile made a connection that leads nowhere, or to what an earlier process knew, and
    /// that lives as long as its client goes on sending.
    pub(crate) live: BTreeMap<Frontend, BTreeSet<Endpoint>>,
}

impl Stale {
    pub(crate) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.live.is_empty()
    }

    /// Forgets these connections.
    pub(crate) fn forget(&self) -> io::Result<()> {
        let socket = netlink::open(1 << 20)?;
        for tuple in self.find(&socket, &local_addresses()?)? {
            let attributes = vec![ConntrackAttribute::CtaTupleOrig(tuple)];
            match exchange(&socket, ConntrackMessage::Delete(attributes), NLM_F_ACK, &mut |_| {}) {
                // It ended by itself.
                Err(err) if err.raw_os_error() == Some(libc::ENOENT) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn find(&self, socket: &Socket, local: &BTreeSet<Ipv4Addr>) -> io::Result<Vec<Vec<Tuple>>> {
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
            if self.covers(&Ends::of(&original), &Ends::of(&reply), local) {
                found.push(original);
            }
        })?;
        Ok(found)
    }

    /// Whether a connection is one of these, by whom it was sent to and who answers.
    fn covers(&self, sent: &Ends, answered: &Ends, local: &BTreeSet<Ipv4Addr>) -> bool {
        let (true, Some(to), Some(port)) = (sent.udp, sent.to, sent.to_port) else { return false };
        let (Some(address), Some(from_port)) = (answered.from, answered.from_port) else {
            return false;
        };
        let endpoint = Endpoint { address, port: from_port };
        let of = |address| Frontend { address, protocol: model::Protocol::Udp, port };
        let is_gone = |frontend| self.gone.contains(&(frontend, endpoint));
        let is_elsewhere =
            |frontend| self.live.get(&frontend).is_some_and(|all| !all.contains(&endpoint));
        is_gone(of(Some(to)))
            || is_gone(of(None))
            || is_elsewhere(of(Some(to)))
            // Others have the same port, and what is sent to them is no business of ours.
            || local.contains(&to) && is_elsewhere(of(None))
    }
}

/// Addresses of this host, in the network namespace of this thread.
fn local_addresses() -> io::Result<BTreeSet<Ipv4Addr>> {
    let all = nix::ifaddrs::getifaddrs()?;
    Ok(all.filter_map(|it| Some(it.address?.as_sockaddr_in()?.ip())).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
    const POD: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 2);
    const OLD: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 3);

    fn check(stale: &Stale, to: (Ipv4Addr, u16), from: (Ipv4Addr, u16), expect: bool) {
        let sent = Ends { udp: true, to: Some(to.0), to_port: Some(to.1), ..Ends::default() };
        let answered =
            Ends { udp: true, from: Some(from.0), from_port: Some(from.1), ..Ends::default() };
        let local = [NODE].into();
        assert_eq!(stale.covers(&sent, &answered, &local), expect, "{to:?} {from:?}");
        let tcp = Ends { udp: false, ..sent };
        assert!(!stale.covers(&tcp, &answered, &local));
    }

    #[test]
    fn what_leads_elsewhere_is_stale() {
        let frontend = |address, port| Frontend { address, protocol: model::Protocol::Udp, port };
        let endpoint = |address| Endpoint { address, port: 5353 };
        let live = Stale {
            live: [
                (frontend(None, 53), [endpoint(POD)].into()),
                (frontend(Some(VIP), 54), [endpoint(POD)].into()),
            ]
            .into(),
            ..Stale::default()
        };
        // Nobody translated it; somebody else did; it is as it should be.
        check(&live, (NODE, 53), (NODE, 53), true);
        check(&live, (NODE, 53), (OLD, 5353), true);
        check(&live, (NODE, 53), (POD, 5353), false);
        check(&live, (VIP, 54), (VIP, 54), true);
        // Another port, and another machine's.
        check(&live, (NODE, 54), (NODE, 54), false);
        check(&live, (Ipv4Addr::new(8, 8, 8, 8), 53), (Ipv4Addr::new(8, 8, 8, 8), 53), false);

        let gone =
            Stale { gone: [(frontend(Some(VIP), 54), endpoint(OLD))].into(), ..Stale::default() };
        check(&gone, (VIP, 54), (OLD, 5353), true);
        check(&gone, (VIP, 54), (POD, 5353), false);
        check(&gone, (VIP, 54), (VIP, 54), false);
    }
}
