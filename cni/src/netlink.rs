//! A blocking rtnetlink socket, in this network namespace or in another.

use std::{fmt, io, net::Ipv4Addr, os::fd::BorrowedFd, thread};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sched::{CloneFlags, setns};

/// A hardware address.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address that belongs to an IPv4 address: whoever gets the same address again has the same neighbours'
    /// caches.
    pub fn of(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x0a, 0x58, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Runs something on a thread of its own inside a network namespace. Sockets made there stay there.
pub fn in_netns<T: Send>(
    netns: BorrowedFd<'_>,
    run: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let inside = thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
            setns(netns, CloneFlags::CLONE_NEWNET)?;
            run()
        })?;
        inside.join().unwrap_or_else(|_panic| Err(io::Error::other("the thread panicked")))
    })
}

pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// A socket in the network namespace of this thread.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// A socket in another network namespace.
    pub(crate) fn open_in(netns: BorrowedFd<'_>) -> io::Result<Self> {
        in_netns(netns, Self::open)
    }

    /// Asks for a change and waits for the kernel's word.
    pub(crate) fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.exchange(message, NLM_F_ACK | flags).map(|_| ())
    }

    /// Asks for all there is of a kind.
    pub(crate) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.exchange(message, NLM_F_DUMP)
    }

    /// The link with this name.
    pub(crate) fn link(&mut self, name: &str) -> io::Result<Option<LinkMessage>> {
        let mut query = LinkMessage::default();
        query.attributes.push(LinkAttribute::IfName(name.into()));
        let answers = match self.exchange(RouteNetlinkMessage::GetLink(query), NLM_F_ACK) {
            Err(err) if err.raw_os_error() == Some(nix::libc::ENODEV) => return Ok(None),
            other => other?,
        };
        Ok(answers.into_iter().find_map(|it| match it {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        }))
    }

    /// IPv4 addresses of a link, with prefix lengths.
    pub(crate) fn addresses(&mut self, index: u32) -> io::Result<Vec<(Ipv4Addr, u8)>> {
        let mut query = AddressMessage::default();
        query.header.family = AddressFamily::Inet;
        let mut found = Vec::new();
        for answer in self.dump(RouteNetlinkMessage::GetAddress(query))? {
            let RouteNetlinkMessage::NewAddress(message) = answer else { continue };
            if message.header.index != index {
                continue;
            }
            for attribute in &message.attributes {
                if let AddressAttribute::Local(std::net::IpAddr::V4(address)) = attribute {
                    found.push((*address, message.header.prefix_len));
                }
            }
        }
        Ok(found)
    }

    /// Asks for several changes at once, done in this order. Goes on after one that fails, and returns the
    /// first failure.
    pub(crate) fn change_all(
        &mut self,
        messages: impl IntoIterator<Item = (RouteNetlinkMessage, u16)>,
    ) -> io::Result<()> {
        let (mut bytes, first) = (Vec::new(), self.sequence + 1);
        for (message, flags) in messages {
            bytes.extend(self.request(message, NLM_F_ACK | flags));
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        self.socket.send(&bytes, 0)?;
        let last = self.sequence;
        (first..=last)
            .map(|sequence| self.answers(sequence).map(drop))
            .fold(Ok(()), io::Result::and)
    }

    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        let bytes = self.request(message, flags);
        self.socket.send(&bytes, 0)?;
        self.answers(self.sequence)
    }

    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        bytes
    }

    /// What the kernel says to one request; its answers come in the order of the requests.
    fn answers(&mut self, sequence: u32) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut answers = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))?;
                let length = usize::try_from(answer.header.length).unwrap_or(usize::MAX);
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
                if answer.header.sequence_number != sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::Error(err) if err.code.is_some() => return Err(err.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    _ => {}
                }
            }
        }
    }
}

/// A request to bring a link up.
pub(crate) fn up(index: u32) -> RouteNetlinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    RouteNetlinkMessage::SetLink(link)
}

/// A request about an address of a link.
pub(crate) fn address_message(index: u32, address: Ipv4Addr, prefix_len: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix_len;
    message.header.index = index;
    message.attributes =
        vec![AddressAttribute::Local(address.into()), AddressAttribute::Address(address.into())];
    message
}

pub(crate) fn controller_of(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|it| match it {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    })
}

pub(crate) fn mac_of(link: &LinkMessage) -> Option<Mac> {
    link.attributes.iter().find_map(|it| match it {
        LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok().map(Mac),
        _ => None,
    })
}
