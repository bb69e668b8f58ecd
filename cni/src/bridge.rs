//! The bridge of a node.

use std::{fs::File, io, io::Write};

use ipnet::Ipv4Net;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
        RouteType,
    },
};
use nix::libc;

use crate::{
    BridgeConfig,
    netlink::{Mac, Netlink, address_message, up},
};

/// Why the bridge could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// No netlink socket.
    #[error("could not open a netlink socket")]
    Socket(#[source] io::Error),
    /// The link could not be made, found or brought up.
    #[error("could not set up bridge {name}")]
    Link {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// It could not get its address.
    #[error("could not give bridge {name} its address")]
    Address {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// A range could not be routed.
    #[error("could not route {destination} for bridge {name}")]
    Route {
        /// Its name.
        name: String,
        /// The range.
        destination: Ipv4Net,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// The host does not forward packets.
    #[error("could not turn on IPv4 forwarding")]
    Forwarding(#[source] io::Error),
    /// The link could not be removed.
    #[error("could not remove bridge {name}")]
    Remove {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        err: io::Error,
    },
}

/// Makes the bridge as configured: the link, its gateway address as the only one, up, and the host forwarding.
pub fn ensure_bridge(config: &BridgeConfig) -> Result<(), BridgeError> {
    let name = &config.name;
    let link_error = |err| BridgeError::Link { name: name.clone(), err };
    let address_error = |err| BridgeError::Address { name: name.clone(), err };
    let mut netlink = Netlink::open().map_err(BridgeError::Socket)?;
    match netlink.change(new_bridge(config), NLM_F_CREATE | NLM_F_EXCL) {
        Err(err) if err.raw_os_error() == Some(libc::EEXIST) => {}
        other => other.map_err(link_error)?,
    }
    let link = netlink.link(name).map_err(link_error)?;
    let index = match link {
        Some(link) if is_bridge(&link) => link.header.index,
        Some(_) => return Err(link_error(io::ErrorKind::AlreadyExists.into())),
        None => return Err(link_error(io::ErrorKind::NotFound.into())),
    };
    let wanted = (config.gateway, config.subnet.prefix_len());
    for (address, prefix_len) in netlink.addresses(index).map_err(address_error)? {
        if (address, prefix_len) != wanted {
            let stale = address_message(index, address, prefix_len);
            netlink.change(RouteNetlinkMessage::DelAddress(stale), 0).map_err(address_error)?;
        }
    }
    let address = RouteNetlinkMessage::NewAddress(address_message(index, wanted.0, wanted.1));
    netlink.change(address, NLM_F_CREATE | NLM_F_REPLACE).map_err(address_error)?;
    netlink.change(up(index), 0).map_err(link_error)?;
    forward(name).map_err(BridgeError::Forwarding)
}

/// Routes a range of addresses that exist only as destinations to be translated (services): without a route, a host
/// that has no default route cannot even begin to send. The source is the gateway address, and with it the route goes.
///
/// The route leads to the loopback: what is not translated must not go back where it came from, or the host would
/// tell the sandbox of a shorter way.
pub fn ensure_route(config: &BridgeConfig, destination: Ipv4Net) -> Result<(), BridgeError> {
    let route_error = |err| BridgeError::Route { name: config.name.clone(), destination, err };
    let mut netlink = Netlink::open().map_err(BridgeError::Socket)?;
    let link = netlink.link("lo").map_err(route_error)?;
    let link = link.ok_or_else(|| route_error(io::ErrorKind::NotFound.into()))?;
    netlink.change(up(link.header.index), 0).map_err(route_error)?;
    let mut route = RouteMessage::default();
    route.header.address_family = AddressFamily::Inet;
    route.header.destination_prefix_length = destination.prefix_len();
    route.header.table = RouteHeader::RT_TABLE_MAIN;
    route.header.protocol = RouteProtocol::Static;
    route.header.scope = RouteScope::Link;
    route.header.kind = RouteType::Unicast;
    route.attributes = vec![
        RouteAttribute::Destination(RouteAddress::Inet(destination.network())),
        RouteAttribute::PrefSource(RouteAddress::Inet(config.gateway)),
        RouteAttribute::Oif(link.header.index),
    ];
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    netlink.change(RouteNetlinkMessage::NewRoute(route), flags).map_err(route_error)
}

/// Removes the bridge. It need not exist.
pub fn remove_bridge(config: &BridgeConfig) -> Result<(), BridgeError> {
    let mut netlink = Netlink::open().map_err(BridgeError::Socket)?;
    remove_link(&mut netlink, &config.name)
        .map_err(|err| BridgeError::Remove { name: config.name.clone(), err })
}

/// Removes a link. It need not exist.
pub(crate) fn remove_link(netlink: &mut Netlink, name: &str) -> io::Result<()> {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.into()));
    match netlink.change(RouteNetlinkMessage::DelLink(link), 0) {
        Err(err) if err.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

fn new_bridge(config: &BridgeConfig) -> RouteNetlinkMessage {
    let mut link = LinkMessage::default();
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link.attributes = vec![
        LinkAttribute::IfName(config.name.clone()),
        LinkAttribute::Mtu(config.mtu),
        // Without one of its own, a bridge takes over those of its ports, and changes with them.
        LinkAttribute::Address(Mac::of(config.gateway).0.to_vec()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
    ];
    RouteNetlinkMessage::NewLink(link)
}

fn is_bridge(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|it| match it {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Bridge)),
        _ => false,
    })
}

/// Sandboxes of one bridge talk through the host on purpose: there is no better way to tell them of.
fn forward(bridge: &str) -> io::Result<()> {
    set("ip_forward", b"1")?;
    set(&format!("conf/{bridge}/send_redirects"), b"0")?;
    set("conf/all/send_redirects", b"0")
}

fn set(name: &str, value: &[u8]) -> io::Result<()> {
    File::options().write(true).open(format!("/proc/sys/net/ipv4/{name}"))?.write_all(value)
}
