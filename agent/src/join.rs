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

/// Asks the first of these hubs that answers. If none does, the error says what each said.
async fn ask_one(
    hubs: &str,
    tls: impl Fn() -> Result<quinn::ClientConfig, DialError>,
    request: &JoinRequest,
) -> Result<(String, String), DialError> {
    let mut failures: Vec<(&str, DialError)> = Vec::new();
    for hub in link::hubs(hubs) {
        match link::exchange(hub, tls()?, request).await {
            Ok(answer) => {
                for (hub, err) in &failures {
                    let error = crate::chain(err);
                    tracing::warn!(hub, error, "A hub could not answer, and another one was asked");
                }
                return Ok(answer);
            }
            // What one refuses, all do.
            Err(err @ DialError::Refused { .. }) => return Err(err),
            Err(err) => failures.push((hub, err)),
        }
    }
    let said = failures.iter().map(|(hub, err)| format!("{hub}: {}", crate::chain(err)));
    let said = said.collect::<Vec<_>>().join("; ");
    match failures.pop() {
        Some((_, err)) if failures.is_empty() => Err(err),
        Some(_) => Err(DialError::NoneAnswered { failures: said }),
        None => Err(DialError::NoAddress { address: hubs.to_owned() }),
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use agent_sync::join::{JoinAnswer, MAX_MESSAGE};
    use quinn::{Endpoint, VarInt, crypto::rustls::QuicServerConfig};
    use rcgen::{BasicConstraints, IsCa, Issuer};
    use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    use super::*;

    /// The hubs' authority, and the certificate of all of them.
    struct Authority {
        hash: String,
        chain: Vec<CertificateDer<'static>>,
        key: KeyPair,
    }

    impl Authority {
        fn make() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let cert = params.self_signed(&key).unwrap();
            let issuer = Issuer::from_ca_cert_pem(&cert.pem(), key).unwrap();
            let key = KeyPair::generate().unwrap();
            let names = vec![tls::SERVER_NAME.to_owned()];
            let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
            let hash = tls::key_hash(cert.der()).unwrap();
            Self { hash, chain: vec![leaf.der().clone(), cert.der().clone()], key }
        }

        fn open_port(&self) -> Endpoint {
            let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let mut tls = rustls::ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(self.chain.clone(), PrivateKeyDer::Pkcs8(key))
                .unwrap();
            tls.alpn_protocols = vec![agent_sync::ALPN_JOIN.to_vec()];
            let crypto = QuicServerConfig::try_from(tls).unwrap();
            let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
            Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap()
        }
    }

    /// A hub that gives each machine the same answer, or none for this reason.
    async fn serve(port: &Endpoint, answer: &Result<JoinAnswer, &str>) {
        while let Some(incoming) = port.accept().await {
            let connection = incoming.await.unwrap();
            let (mut send, mut recv) = connection.accept_bi().await.unwrap();
            recv.read_to_end(MAX_MESSAGE).await.unwrap();
            match answer {
                Ok(answer) => {
                    send.write_all(&serde_json::to_vec(answer).unwrap()).await.unwrap();
                    send.finish().unwrap();
                }
                Err(reason) => connection.close(VarInt::from_u32(4), reason.as_bytes()),
            }
            connection.closed().await;
        }
    }

    /// What comes of asking two hubs that answer so.
    async fn ask(answers: [Result<JoinAnswer, &str>; 2]) -> Result<(String, String), String> {
        let authority = Authority::make();
        let (one, other) = (authority.open_port(), authority.open_port());
        let places = [&one, &other].map(|it| it.local_addr().unwrap().to_string());
        let (hubs, clock) = (places.join(","), NodeClock::new(0));
        let tls = || tls::pinned(clock.clone(), &authority.hash).map_err(DialError::Tls);
        let request = JoinRequest::Renew {
            node: "n".to_owned(),
            cert_pem: String::new(),
            csr_pem: String::new(),
        };
        let answer = tokio::select! {
            answer = ask_one(&hubs, tls, &request) => answer,
            () = serve(&one, &answers[0]) => unreachable!("its port stays open"),
            () = serve(&other, &answers[1]) => unreachable!("its port stays open"),
        };
        answer.map_err(|err| {
            let [one, other] = places;
            crate::chain(&err).replace(&one, "ONE").replace(&other, "OTHER")
        })
    }

    #[tokio::test]
    async fn the_next_hub_is_asked_when_one_cannot_answer() {
        let accepted = || {
            let (cert_pem, authority_pem) = ("cert".to_owned(), "authority".to_owned());
            Ok(JoinAnswer::Accepted { cert_pem, authority_pem })
        };
        let refused = || Ok(JoinAnswer::Refused { message: "used".to_owned() });
        let joined = Ok(("cert".to_owned(), "authority".to_owned()));
        assert_eq!(ask([Err("no store"), accepted()]).await, joined);
        assert_eq!(ask([refused(), accepted()]).await, Err("the hub refused: used".to_owned()));
        let failed = "could not exchange certificates with the hub: the hub closed the connection";
        let expect = format!(
            "none of the hubs could answer: ONE: {failed}: no store; OTHER: {failed}: full"
        );
        assert_eq!(ask([Err("no store"), Err("full")]).await, Err(expect));
    }
}
