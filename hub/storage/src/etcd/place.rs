//! Where an etcd is: `etcd://host:port,host:port/prefix`, with TLS `etcds://`.

use std::{fmt, str::FromStr};

/// The prefix if none is given.
const PREFIX: &str = "/outbye";
const PORT: u16 = 2379;

/// The members of an etcd cluster, and the place in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EtcdPlace {
    /// `host:port` of the members.
    pub members: Vec<String>,
    /// Begins with a slash and does not end with one.
    pub prefix: String,
    /// Whether they are spoken to with TLS.
    pub tls: bool,
}

/// A text that is not the place of an etcd.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{text:?} is not the place of an etcd: expected etcd://host:port,host:port/prefix, or etcds://"
)]
pub struct PlaceError {
    text: String,
}

impl FromStr for EtcdPlace {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        parse(text).ok_or_else(|| PlaceError { text: text.to_owned() })
    }
}

impl fmt::Display for EtcdPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "etcds" } else { "etcd" };
        write!(f, "{scheme}://{}{}", self.members.join(","), self.prefix)
    }
}

impl EtcdPlace {
    /// The members as the URIs that gRPC takes.
    pub(super) fn uris(&self) -> impl Iterator<Item = String> {
        let scheme = if self.tls { "https" } else { "http" };
        self.members.iter().map(move |it| format!("{scheme}://{it}"))
    }
}

fn parse(text: &str) -> Option<EtcdPlace> {
    let (scheme, rest) = text.split_once("://")?;
    let tls = match scheme {
        "etcd" => false,
        "etcds" => true,
        _ => return None,
    };
    let (members, prefix) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let members: Vec<String> = members.split(',').map(member).collect::<Option<_>>()?;
    let prefix = prefix.trim_end_matches('/');
    let plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '/' | '-' | '_' | '.');
    if !prefix.chars().all(plain) || prefix.contains("//") {
        return None;
    }
    let prefix = if prefix.is_empty() { PREFIX } else { prefix };
    Some(EtcdPlace { members, prefix: prefix.to_owned(), tls })
}

fn member(text: &str) -> Option<String> {
    let has_port = match text.rfind(':') {
        // Within brackets it is a part of an IPv6 address.
        Some(at) => !text.ends_with(']') && text.get(at + 1..)?.parse::<u16>().is_ok(),
        None => false,
    };
    let member = if has_port { text.to_owned() } else { format!("{text}:{PORT}") };
    let authority: http::uri::Authority = member.parse().ok()?;
    let good = !authority.host().is_empty() && !member.contains('@') && authority.port().is_some();
    good.then_some(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_shown() {
        for (text, shown) in [
            ("etcd://10.0.0.1:2379", Some("etcd://10.0.0.1:2379/outbye")),
            ("etcd://a,b:1/fleet/", Some("etcd://a:2379,b:1/fleet")),
            ("etcds://[::1]:2379/a/b", Some("etcds://[::1]:2379/a/b")),
            ("etcds://[::1]", Some("etcds://[::1]:2379/outbye")),
            ("etcd://", None),
            ("etcd://a,,b", None),
            ("etcd://user@a:1", None),
            ("etcd://a:b", None),
            ("etcd://a/x y", None),
            ("etcd://a/x//y", None),
            ("http://a:1", None),
            ("a:1", None),
        ] {
            let place = text.parse::<EtcdPlace>().ok();
            assert_eq!(place.map(|it| it.to_string()).as_deref(), shown, "{text}");
        }
    }
}
