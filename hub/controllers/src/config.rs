//! What the controllers are told once, at start.

use std::net::Ipv4Addr;

/// An IPv4 network. The host bits of `address` are zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cidr {
    pub address: Ipv4Addr,
    pub prefix: u8,
}

/// Configuration of all controllers.
#[derive(Clone, Debug)]
pub struct Config {
    /// Node pod networks are cut from this one, a /24 each.
    pub cluster_cidr: Cidr,
    /// Certificate authority that pods may trust, in PEM.
    pub ca_pem: String,
}
