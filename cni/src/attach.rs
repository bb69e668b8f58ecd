//! One sandbox at the bridge.
//!
//! ```text
//! host: bridge --- ob<hash of the id> ===veth=== eth0 :sandbox
//! ```

use std::{
    fs::File,
    io::{self, Write},
    net::Ipv4Addr,
    os::fd::{AsRawFd, BorrowedFd},
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{
        InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute,
        LinkFlags, LinkInfo, LinkMessage,
    },
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
        RouteType,
    },
};
use nix::libc;

use crate::{
    BridgeConfig,
    bridge::remove_link,
    netlink::{Mac, Netlink, address_message, controller_of, in_netns, mac_of, up},
};

/// A sandbox has no neighbours but the gateway: everything it sends passes through the host's routing, where addresses
/// of services are translated, there and back. Over the bridge alone an answer would miss the way back.
pub(crate) const PREFIX_LEN: u8 = 32;

/// Every host side link begins so.
const PREFIX: &str = "ob";

/// What to attach.
#[derive(Clone, Copy, Debug)]
pub struct Attach<'a> {
    /// The sandbox; names on the host are derived from it.
    pub id: &'a str,
    /// Its network namespace.
    pub netns: BorrowedFd<'a>,
    /// Name of the link inside.
    pub ifname: &'a str,
    /// Its address, out of the subnet of the bridge.
    pub address: Ipv4Addr,
}

/// An attached sandbox.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attachment {
    /// Name of the link on the host.
    pub host_ifname: String,
    /// Hardware address of the link inside.
    pub mac: Mac,
    /// Hardware address of the link on the host.
    pub host_mac: Option<Mac>,
}

/// Why a sandbox could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No netlink socket on the host.
    #[error("could not open a netlink socket")]
    Socket(#[source] io::Error),
    /// The network namespace could not be entered.
    #[error("could not enter the network namespace of {id}")]
    Netns {
        /// The sandbox.
        id: String,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// There is no such bridge.
    #[error("could not find bridge {bridge}")]
    NoBridge {
        /// Its name.
        bridge: String,
    },
    /// A step on the host failed.
    #[error("could not create link {link} for {id}")]
    Host {
        /// The sandbox.
        id: String,
        /// The link on the host.
        link: String,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// A step inside the sandbox failed.
    #[error("could not set up {link} inside {id}")]
    Inside {
        /// The sandbox.
        id: String,
        /// The link inside.
        link: String,
        /// Why.
        #[source]
        err: io::Error,
    },
}

/// Why a sandbox could not be detached.
#[derive(Debug, thiserror::Error)]
#[error("could not remove link {link} of {id}")]
pub struct DetachError {
    /// The sandbox.
    pub id: String,
    /// Its link on the host.
    pub link: String,
    /// Why.
    #[source]
    pub err: io::Error,
}

/// What is wrong with an attachment.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It could not be looked at.
    #[error("could not look at the network of {id}")]
    Look {
        /// The sandbox.
        id: String,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// Something is missing or different.
    #[error("the network of {id} is not as made: {what}")]
    Differs {
        /// The sandbox.
        id: String,
        /// What.
        what: &'static str,
    },
}

/// Name of the link on the host that belongs to a sandbox: always the same, and of bounded length.
pub fn host_ifname(id: &str) -> String {
    format!("{PREFIX}{:012x}", fnv1a(id.as_bytes()) & 0xffff_ffff_ffff)
}

/// Names of all links on the host that look like those of [`host_ifname`], for finding what was left behind.
pub fn attached() -> io::Result<Vec<String>> {
    let links = Netlink::open()?.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let names = links.into_iter().filter_map(|it| match it {
        RouteNetlinkMessage::NewLink(link) => link.attributes.into_iter().find_map(|it| match it {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        }),
        _ => None,
    });
    let is_ours = |name: &String| {
        let hash = name.strip_prefix(PREFIX);
        hash.is_some_and(|it| it.len() == 12 && it.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    Ok(names.filter(is_ours).collect())
}

/// Attaches a sandbox: link, address, default route, loopback. Finding all of it done is success.
pub fn attach(config: &BridgeConfig, wanted: &Attach<'_>) -> Result<Attachment, AttachError> {
    let link = host_ifname(wanted.id);
    let host_error = |err| AttachError::Host { id: wanted.id.into(), link: link.clone(), err };
    let netns_error = |err| AttachError::Netns { id: wanted.id.into(), err };
    let mut host = Netlink::open().map_err(AttachError::Socket)?;
    let inside_error =
        |err| AttachError::Inside { id: wanted.id.into(), link: wanted.ifname.into(), err };
    let bridge = host.link(&config.name).map_err(host_error)?;
    let bridge = bridge.ok_or_else(|| AttachError::NoBridge { bridge: config.name.clone() })?;
    let bridge = bridge.header.index;
    let mac = Mac::of(wanted.address);
    let veth = || new_veth(config, wanted, &link, bridge, mac);
    match host.change(veth(), NLM_F_CREATE | NLM_F_EXCL) {
        Err(err) if err.raw_os_error() == Some(libc::EEXIST) => {
            // Our own earlier half, or a left-over of another life of this id: then only the name is right.
            let mut inside = Netlink::open_in(wanted.netns).map_err(netns_error)?;
            let ours = inside.link(wanted.ifname).map_err(host_error)?;
            if ours.as_ref().and_then(mac_of) != Some(mac) {
                remove_link(&mut host, &link).map_err(host_error)?;
                host.change(veth(), NLM_F_CREATE | NLM_F_EXCL).map_err(host_error)?;
            }
        }
        Err(err) => {
            // The kernel does not say which of the two names of namespaces it does not like.
            in_netns(wanted.netns, || Ok(())).map_err(netns_error)?;
            return Err(host_error(err));
        }
        Ok(()) => {}
    }
    let made = host.link(&link).map_err(host_error)?;
    let made = made.ok_or_else(|| host_error(io::ErrorKind::NotFound.into()))?;
    let (index, address) = (made.header.index, wanted.address);
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    host.change_all([
        (port(index, bridge), 0),
        (RouteNetlinkMessage::NewNeighbour(place_of(index, mac)), flags),
        (RouteNetlinkMessage::NewNeighbour(neighbour(bridge, address, mac)), flags),
    ])
    .map_err(host_error)?;
    let inside = in_netns(wanted.netns, || {
        configure(&mut Netlink::open()?, config, wanted)?;
        ignore_redirects(wanted.ifname)
    });
    inside.map_err(inside_error)?;
    Ok(Attachment { host_mac: mac_of(&made), host_ifname: link, mac })
}

/// Detaches a sandbox. It need not be attached.
pub fn detach(id: &str) -> Result<(), DetachError> {
    let link = host_ifname(id);
    let removed = Netlink::open().and_then(|mut host| remove_link(&mut host, &link));
    removed.map_err(|err| DetachError { id: id.into(), link, err })
}

/// Whether a sandbox is attached as [`attach`] left it.
pub fn check(config: &BridgeConfig, wanted: &Attach<'_>) -> Result<(), CheckError> {
    let found = differs(config, wanted);
    match found.map_err(|err| CheckError::Look { id: wanted.id.into(), err })? {
        None => Ok(()),
        Some(what) => Err(CheckError::Differs { id: wanted.id.into(), what }),
    }
}

fn differs(config: &BridgeConfig, wanted: &Attach<'_>) -> io::Result<Option<&'static str>> {
    let mut host = Netlink::open()?;
    let Some(bridge) = host.link(&config.name)? else { return Ok(Some("there is no bridge")) };
    let Some(link) = host.link(&host_ifname(wanted.id))? else {
        return Ok(Some("there is no link on the host"));
    };
    if controller_of(&link) != Some(bridge.header.index) {
        return Ok(Some("the link on the host is not at the bridge"));
    }
    let mut inside = Netlink::open_in(wanted.netns)?;
    let Some(eth) = inside.link(wanted.ifname)? else {
        return Ok(Some("there is no link inside"));
    };
    if !link.header.flags.contains(LinkFlags::Up) || !eth.header.flags.contains(LinkFlags::Up) {
        return Ok(Some("a link is down"));
    }
    let address = (wanted.address, PREFIX_LEN);
    if !inside.addresses(eth.header.index)?.contains(&address) {
        return Ok(Some("the address is missing"));
    }
    let routes = inside.dump(RouteNetlinkMessage::GetRoute(default_route(config.gateway, 0)))?;
    let gateway = RouteAttribute::Gateway(RouteAddress::Inet(config.gateway));
    let routed = routes.iter().any(|it| match it {
        RouteNetlinkMessage::NewRoute(route) => {
            route.header.destination_prefix_length == 0 && route.attributes.contains(&gateway)
        }
        _ => false,
    });
    Ok((!routed).then_some("the default route is missing"))
}

/// The pair, its ends in their namespaces, and the bridge, in one message.
fn new_veth(
    config: &BridgeConfig,
    wanted: &Attach<'_>,
    link: &str,
    bridge: u32,
    mac: Mac,
) -> RouteNetlinkMessage {
    // The peer cannot come up here: the kernel joins the two ends last.
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(wanted.ifname.into()),
        LinkAttribute::NetNsFd(wanted.netns.as_raw_fd()),
        LinkAttribute::Address(mac.0.to_vec()),
        LinkAttribute::Mtu(config.mtu),
    ];
    let mut host = LinkMessage::default();
    host.header.flags = LinkFlags::Up;
    host.header.change_mask = LinkFlags::Up;
    host.attributes = vec![
        LinkAttribute::IfName(link.into()),
        LinkAttribute::Controller(bridge),
        LinkAttribute::Mtu(config.mtu),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    RouteNetlinkMessage::NewLink(host)
}

/// A sandbox may reach itself through a service: what comes in at its port goes out there again.
///
/// It may make any frame it likes, so its port takes only those from the hardware address that [`place_of`] says is
/// there, and learns no others: nobody can be somebody else to the host. The ports are not isolated from each other:
/// where packets on bridges pass netfilter, the kernel sends what goes to a service from port to port.
fn port(index: u32, bridge: u32) -> RouteNetlinkMessage {
    let options = vec![
        InfoBridgePort::HairpinMode(true),
        InfoBridgePort::Learning(false),
        // Younger than the others (5.18): older kernels pass over it.
        InfoBridgePort::Locked(true),
    ];
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link.attributes = vec![
        LinkAttribute::Controller(bridge),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(options)),
        ]),
    ];
    RouteNetlinkMessage::NewLink(link)
}

/// At which port of the bridge a hardware address is. The last port to have it has it, so that a sandbox gets what is
/// for its address even while the link of the one that had the address before is not gone yet.
fn place_of(port: u32, mac: Mac) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = port;
    message.header.state = NeighbourState::Noarp;
    message.header.flags = NeighbourFlags::Controller;
    message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())];
    message
}

/// Which hardware address an address has, whatever anybody announces. It is true of whoever has the address, so it
/// may stay when the sandbox goes.
fn neighbour(bridge: u32, address: Ipv4Addr, mac: Mac) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = bridge;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)),
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
    ];
    message
}

fn configure(inside: &mut Netlink, config: &BridgeConfig, wanted: &Attach<'_>) -> io::Result<()> {
    let loopback = inside.link("lo")?.ok_or(io::ErrorKind::NotFound)?;
    let eth = inside.link(wanted.ifname)?.ok_or(io::ErrorKind::NotFound)?.header.index;
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    let address = address_message(eth, wanted.address, PREFIX_LEN);
    inside.change_all([
        (up(loopback.header.index), 0),
        (RouteNetlinkMessage::NewAddress(address), flags),
        (up(eth), 0),
        (RouteNetlinkMessage::NewRoute(gateway_route(config.gateway, eth)), flags),
        (RouteNetlinkMessage::NewRoute(default_route(config.gateway, eth)), flags),
    ])
}

/// What goes from one sandbox through the host to another leaves by the bridge it came from. A host may tell of the
/// direct way then; it must not be taken.
fn ignore_redirects(ifname: &str) -> io::Result<()> {
    for scope in ["all", ifname] {
        let path = format!("/proc/sys/net/ipv4/conf/{scope}/accept_redirects");
        File::options().write(true).open(path)?.write_all(b"0")?;
    }
    Ok(())
}

fn gateway_route(gateway: Ipv4Addr, index: u32) -> RouteMessage {
    let mut route = default_route(gateway, index);
    route.header.destination_prefix_length = 32;
    route.header.scope = RouteScope::Link;
    route.attributes =
        vec![RouteAttribute::Destination(RouteAddress::Inet(gateway)), RouteAttribute::Oif(index)];
    route
}

fn default_route(gateway: Ipv4Addr, index: u32) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = AddressFamily::Inet;
    route.header.table = RouteHeader::RT_TABLE_MAIN;
    route.header.protocol = RouteProtocol::Static;
    route.header.scope = RouteScope::Universe;
    route.header.kind = RouteType::Unicast;
    route.attributes =
        vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway)), RouteAttribute::Oif(index)];
    route
}

/// FNV-1a, 64 bits, folded by the caller: spread, not secrecy.
fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, step);
    hash ^ (hash >> 48)
}

#[cfg(test)]
mod tests;
