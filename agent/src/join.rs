//! Joining a hub, and renewing the certificate it gave.
//!
//! The key is made on this machine, kept in the ledger before it is first used, and never leaves
//! it. A join that was cut off anywhere can be repeated: the same key asks again.

use std::path::Path;

use agent_ledger::{Change, Ledger, Table, Vital};
use agent_sync::join::{JoinRequest, JoinToken, ParseTokenError};
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::{
    clock::NodeClock,
    link::{self, DialError, tls},
};

/// The machine could not become a node.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    Token(#[from] ParseTokenError),
    #[error(
        "this machine is node {node} already; run `outbye-agent reset` before it joins as {wanted}"
    )]
    Joined { node: String, wanted: String },
    #[error("could not open the ledger")]
    Ledger(#[source] agent_ledger::OpenError),
    #[error("could not keep the node's identity in the ledger")]
    Commit(#[source] agent_ledger::CommitError),
    #[error("could not make a key")]
    Key(#[source] rcgen::Error),
    #[error("could not read the node's identity; run `outbye-agent reset`, then join again")]
    Identity,
    #[error(transparent)]
    Dial(#[from] DialError),
}

/// Joins the hub at `host:port`, or one of several on one store with commas between them, with a token and keeps what it gives below `state_dir`.
///
/// # Errors
/// The token is wrong, used or expired, the name is taken, or the hub is out of reach.
pub async fn run(state_dir: &Path, hub: &str, token: &str, node: &str) -> Result<(), JoinError> {
    let token: JoinToken = token.parse()?;
    let (ledger, _report) = Ledger::open(&state_dir.join("ledger")).map_err(JoinError::Ledger)?;
    let vital = prepare(&ledger, node).await?;
    let clock = NodeClock::new(vital.time_floor);
    let request = JoinRequest::Join {
        token_id: token.id,
        token_secret: token.secret,
        node: node.to_owned(),
        csr_pem: request_pem(&vital.key_pem)?,
    };
    let tls = || tls::pinned(clock.clone(), &token.authority_hash).map_err(DialError::Tls);
    let (cert_pem, ca_pem) = ask_one(hub, tls, &request).await?;
    let address = Change::Put {
        table: Table::Meta,
        key: link::HUB_ADDRESS.to_owned(),
        value: hub.as_bytes().to_vec(),
    };
    ledger.commit(vec![address]).await.map_err(JoinError::Commit)?;
    ledger.set_vital(Vital { cert_pem, ca_pem, ..vital }).await.map_err(JoinError::Commit)
}

/// Asks the first of these hubs that answers.
async fn ask_one(
    hubs: &str,
    tls: impl Fn() -> Result<quinn::ClientConfig, DialError>,
    request: &JoinRequest,
) -> Result<(String, String), DialError> {
    let mut answer = Err(DialError::NoAddress { address: hubs.to_owned() });
    for hub in link::hubs(hubs) {
        answer = link::exchange(hub, tls()?, request).await;
        // What one refuses, all do.
        if matches!(answer, Ok(_) | Err(DialError::Refused { .. })) {
            break;
        }
    }
    answer
}

/// Makes the key, or finds the one of an earlier attempt.
async fn prepare(ledger: &Ledger, node: &str) -> Result<Vital, JoinError> {
    let mut vital = ledger.vital();
    if !vital.cert_pem.is_empty() && vital.node_name != node {
        return Err(JoinError::Joined { node: vital.node_name, wanted: node.to_owned() });
    }
    if vital.key_pem.is_empty() || vital.node_name != node {
        vital.key_pem = KeyPair::generate().map_err(JoinError::Key)?.serialize_pem();
        node.clone_into(&mut vital.node_name);
        ledger.set_vital(vital.clone()).await.map_err(JoinError::Commit)?;
    }
    Ok(vital)
}

/// Whether two thirds of the certificate's life are over.
pub(crate) fn wants_renewal(vital: &Vital, now: Timestamp) -> bool {
    let Some((begin, end)) = tls::validity(&vital.cert_pem) else { return true };
    now.as_second() >= begin + (end - begin) / 3 * 2
}

/// Gets a new certificate for the same key. Works with one that has expired.
pub(crate) async fn renew(hub: &str, ledger: &Ledger, clock: NodeClock) -> Result<(), JoinError> {
    let vital = ledger.vital();
    let authority =
        CertificateDer::from_pem_slice(vital.ca_pem.as_bytes()).map_err(|_| JoinError::Identity)?;
    let hash = tls::key_hash(&authority).ok_or(JoinError::Identity)?;
    let tls = tls::pinned(clock, &hash).map_err(DialError::Tls)?;
    let request = JoinRequest::Renew {
        node: vital.node_name.clone(),
        cert_pem: vital.cert_pem.clone(),
        csr_pem: request_pem(&vital.key_pem)?,
    };
    let (cert_pem, _) = link::exchange(hub, tls, &request).await?;
    // What else became known while the hub answered must not be set back.
    let vital = ledger.vital();
    ledger.set_vital(Vital { cert_pem, ..vital }).await.map_err(JoinError::Commit)?;
    tracing::info!("Renewed the node's certificate");
    Ok(())
}

fn request_pem(key_pem: &str) -> Result<String, JoinError> {
    let key = KeyPair::from_pem(key_pem).map_err(|_| JoinError::Identity)?;
    CertificateParams::default()
        .serialize_request(&key)
        .and_then(|request| request.pem())
        .map_err(JoinError::Key)
}
