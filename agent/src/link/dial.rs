//! Opens the connection, and renews the certificate on the way when it is time.

use std::{io, net::SocketAddr, time::Duration};

use agent_ledger::Table;
use agent_sync::join::{JoinAnswer, JoinRequest, MAX_MESSAGE};
use quinn::{Connection, Endpoint};

use super::{LinkConfig, tls};
use crate::join;

/// From the first packet to an open connection, or from request to answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for a hub that should be there: the packets of an attempt become rarer, those of the next are not.
const BRISK_TIMEOUT: Duration = Duration::from_secs(3);
/// Every so many attempts take their time, for slow links.
const SLOW_ATTEMPT: u32 = 3;
/// Record of the meta table that holds the hub's address.
pub(crate) const HUB_ADDRESS: &str = "hub-address";

/// The hub could not be reached, or refused.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("this node has not joined a hub; run `outbye-agent join`")]
    NotJoined,
    #[error("could not resolve the hub's address {address}")]
    Resolve {
        address: String,
        #[source]
        err: io::Error,
    },
    #[error("the hub's address {address} has no IP address")]
    NoAddress { address: String },
    #[error("could not open a UDP socket")]
    Socket(#[source] io::Error),
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error("could not start a connection to {address}")]
    Connect {
        address: SocketAddr,
        #[source]
        err: quinn::ConnectError,
    },
    #[error("could not connect to the hub at {address}")]
    Connection {
        address: SocketAddr,
        #[source]
        err: quinn::ConnectionError,
    },
    #[error("the hub at {address} did not answer in {timeout:?}")]
    Timeout { address: SocketAddr, timeout: Duration },
    #[error("could not exchange certificates with the hub: {reason}")]
    Exchange { reason: String },
    #[error("the hub refused: {message}")]
    Refused { message: String },
    #[error("none of the hubs could answer: {failures}")]
    NoneAnswered { failures: String },
}

/// An open connection. The endpoint lives as long as it.
pub(super) struct Dialled {
    pub(super) hub: String,
    pub(super) connection: Connection,
    _endpoint: Endpoint,
}

/// The addresses of hubs: `host:port`, with commas between several.
pub(crate) fn hubs(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|it| !it.is_empty())
}

/// The hub whose turn it is.
fn one_of(text: &str, turn: u32) -> &str {
    let count = hubs(text).count().max(1);
    let turn = usize::try_from(turn).unwrap_or_default() % count;
    hubs(text).nth(turn).unwrap_or(text)
}

/// How long the next attempt may take.
fn timeout(n_failures: u32) -> Duration {
    if (n_failures + 1).is_multiple_of(SLOW_ATTEMPT) { DIAL_TIMEOUT } else { BRISK_TIMEOUT }
}

/// Connects to the hub, or to one of several on one store: each turn takes the next.
pub(super) async fn connect(
    config: &LinkConfig,
    turn: u32,
    n_failures: u32,
) -> Result<Dialled, DialError> {
    let hubs = config.ledger.read(Table::Meta, HUB_ADDRESS).ok_or(DialError::NotJoined)?;
    let hubs = String::from_utf8_lossy(&hubs).into_owned();
    let hub = one_of(&hubs, turn).to_owned();
    let timeout = timeout(n_failures);
    let vital = config.ledger.vital();
    if vital.cert_pem.is_empty() {
        return Err(DialError::NotJoined);
    }
    if join::wants_renewal(&vital, config.clock.now())
        && let Err(err) = join::renew(&hub, &config.ledger, config.clock.clone()).await
    {
        // An old certificate may do for a while yet; if not, the connection says so.
        tracing::warn!(error = crate::chain(&err), "Could not renew the node's certificate");
    }
    let vital = config.ledger.vital();
    let tls = tls::session(config.clock.clone(), &vital.ca_pem, &vital.cert_pem, &vital.key_pem)?;
    let (endpoint, connection) = open(&hub, tls, timeout).await?;
    Ok(Dialled { hub, connection, _endpoint: endpoint })
}

/// Opens a connection to `host:port`.
pub(crate) async fn open(
    hub: &str,
    tls: quinn::ClientConfig,
    timeout: Duration,
) -> Result<(Endpoint, Connection), DialError> {
    let address = tokio::net::lookup_host(hub)
        .await
        .map_err(|err| DialError::Resolve { address: hub.to_owned(), err })?
        .next()
        .ok_or_else(|| DialError::NoAddress { address: hub.to_owned() })?;
    let any: SocketAddr =
        if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let endpoint = Endpoint::client(any).map_err(DialError::Socket)?;
    let connecting = endpoint
        .connect_with(tls, address, tls::SERVER_NAME)
        .map_err(|err| DialError::Connect { address, err })?;
    let connection = tokio::time::timeout(timeout, connecting)
        .await
        .map_err(|_elapsed| DialError::Timeout { address, timeout })?
        .map_err(|err| DialError::Connection { address, err })?;
    Ok((endpoint, connection))
}

/// What the hub said when it closed the connection: that is better than what we saw of it.
pub(super) fn hub_said(connection: &Connection) -> Option<String> {
    match connection.close_reason() {
        Some(quinn::ConnectionError::ApplicationClosed(close)) if !close.reason.is_empty() => {
            let reason = String::from_utf8_lossy(&close.reason);
            Some(format!("the hub closed the connection: {reason}"))
        }
        _ => None,
    }
}

/// One request and its answer on a join connection.
pub(crate) async fn exchange(
    hub: &str,
    tls: quinn::ClientConfig,
    request: &JoinRequest,
) -> Result<(String, String), DialError> {
    let failed = |reason: String| DialError::Exchange { reason };
    let (endpoint, connection) = open(hub, tls, DIAL_TIMEOUT).await?;
    let answer = tokio::time::timeout(DIAL_TIMEOUT, async {
        let (mut send, mut recv) = connection.open_bi().await.map_err(|err| err.to_string())?;
        let bytes = serde_json::to_vec(request).map_err(|err| err.to_string())?;
        send.write_all(&bytes).await.map_err(|err| err.to_string())?;
        send.finish().map_err(|err| err.to_string())?;
        let answer = recv.read_to_end(MAX_MESSAGE).await.map_err(|err| err.to_string())?;
        serde_json::from_slice::<JoinAnswer>(&answer).map_err(|err| err.to_string())
    })
    .await
    .map_err(|_elapsed| failed(format!("no answer in {DIAL_TIMEOUT:?}")))?
    .map_err(|seen| failed(hub_said(&connection).unwrap_or(seen)))?;
    connection.close(quinn::VarInt::from_u32(0), b"done");
    endpoint.wait_idle().await;
    match answer {
        JoinAnswer::Accepted { cert_pem, authority_pem } => Ok((cert_pem, authority_pem)),
        JoinAnswer::Refused { message } => Err(DialError::Refused { message }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_hubs_take_turns() {
        let turns = |text| [0, 1, 2, 3].map(|n| one_of(text, n));
        assert_eq!(turns("a:1"), ["a:1"; 4]);
        assert_eq!(turns("a:1, b:2,c:3,"), ["a:1", "b:2", "c:3", "a:1"]);
        assert_eq!(turns(""), [""; 4]);
    }
}
