//! What services mean: frontends and the endpoints behind them. Pure; reads Kubernetes objects, and nothing else does.

mod objects;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
};

pub use self::objects::from_objects;

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// Its number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// Reads the name that Kubernetes uses.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }
}

/// Where clients send to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Frontend {
    /// The address; `None` is every address of this node (a node port).
    pub address: Option<Ipv4Addr>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// Where packets go.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Endpoint {
    /// The address.
    pub address: Ipv4Addr,
    /// The port.
    pub port: u16,
}

/// All services of a cluster, as this node serves them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServiceTable {
    /// Every frontend, with the endpoints that may get connections. None at all means: refuse.
    pub frontends: BTreeMap<Frontend, BTreeSet<Endpoint>>,
    /// Addresses that exist only as frontends: whatever else is sent there is refused.
    pub cluster_ips: BTreeSet<Ipv4Addr>,
    /// What was asked for and is not done.
    pub warnings: Vec<Warning>,
}

/// Something a service asks for and does not get.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Warning {
    /// `namespace/name`
    pub service: String,
    /// What.
    pub what: Unsupported,
}

/// Kinds of [`Warning`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Unsupported {
    /// `sessionAffinity: ClientIP`; connections are spread at random.
    SessionAffinity,
    /// `internalTrafficPolicy: Local`; all endpoints are used.
    InternalTrafficPolicy,
    /// `externalTrafficPolicy: Local`; all endpoints are used.
    ExternalTrafficPolicy,
    /// An address or port of another service; the first in the order of names keeps it.
    Taken,
    /// An address that is not IPv4, or a protocol that is unknown.
    Address,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            Unsupported::SessionAffinity => "session affinity is not supported",
            Unsupported::InternalTrafficPolicy => "internalTrafficPolicy Local is not supported",
            Unsupported::ExternalTrafficPolicy => "externalTrafficPolicy Local is not supported",
            Unsupported::Taken => "an address and port belong to another service",
            Unsupported::Address => "an address or protocol is not supported",
        };
        write!(f, "service {}: {what}", self.service)
    }
}

#[cfg(test)]
mod tests;
