//! The pod network of one node: a bridge, a veth pair for each sandbox, addresses.
//!
//! Used in-process by the agent and by the plugin binary `outbye-cni`. Every operation is idempotent, because names
//! are derived from the sandbox id: an attach that was cut finds its own earlier half.
//!
//! Speaks of links and addresses only; must not know what a pod is, and must not filter or translate packets.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink is open: the kernel may answer with more than we ask for"
)]

mod attach;
mod bridge;
pub mod ipam;
mod netlink;
pub mod plugin;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

pub use crate::{
    attach::{
        Attach, AttachError, Attachment, CheckError, DetachError, attach, attached, check, detach,
        host_ifname,
    },
    bridge::{BridgeError, ensure_bridge, ensure_route, remove_bridge},
    netlink::{Mac, in_netns},
};

/// The bridge that joins the sandboxes of a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BridgeConfig {
    /// Name of the link.
    pub name: String,
    /// Where the addresses of sandboxes come from.
    pub subnet: Ipv4Net,
    /// The address of the bridge, default gateway of the sandboxes.
    pub gateway: Ipv4Addr,
    /// Of the bridge and of every link at it.
    pub mtu: u32,
}
