//! How machines become nodes, and how nodes renew their certificates.

use std::{sync::Arc, time::Duration};

use agent_sync::join::{JoinAnswer, JoinRequest, MAX_MESSAGE};
use hub_api::{Resource, Status};
use hub_apiserver::{WriteOptions, auth::KEY_HASH};
use quinn::{Connection, VarInt};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::json;

use super::{
    Fleet,
    tokens::{self, TokenError},
};
use crate::pki;

/// One request and its answer.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(20);
/// There is no answer, and the reason says why: another hub may have one.
const CLOSE_NO_ANSWER: VarInt = VarInt::from_u32(4);

pub(super) async fn serve(fleet: &Arc<Fleet>, connection: &Connection) {
    let remote = connection.remote_address();
    match tokio::time::timeout(EXCHANGE_TIMEOUT, exchange(fleet, connection)).await {
        Ok(Ok(())) => {
            // The node closes when it has the answer.
            let _closed = tokio::time::timeout(EXCHANGE_TIMEOUT, connection.closed()).await;
        }
        Ok(Err(err)) => {
            tracing::warn!(%remote, error = %err, "Could not serve a joining machine");
            connection.close(CLOSE_NO_ANSWER, err.to_string().as_bytes());
        }
        Err(_elapsed) => tracing::warn!(%remote, "Gave up a joining machine that took too long"),
    }
}

async fn exchange(fleet: &Fleet, connection: &Connection) -> Result<(), ExchangeError> {
    let (mut send, mut recv) = connection.accept_bi().await.map_err(ExchangeError::Accept)?;
    let bytes = recv.read_to_end(MAX_MESSAGE).await.map_err(ExchangeError::Read)?;
    let request: JoinRequest = serde_json::from_slice(&bytes).map_err(ExchangeError::Parse)?;
    tracing::info!(remote = %connection.remote_address(), ?request, "Machine asks for a certificate");
    let answer = match fleet.answer(request).await {
        Ok(answer) => answer,
        Err(NoCertificate::Refused(message)) => {
            tracing::warn!(reason = message, "Refused a certificate");
            JoinAnswer::Refused { message }
        }
        Err(NoCertificate::Unavailable(reason)) => return Err(ExchangeError::Unavailable(reason)),
    };
    let bytes = serde_json::to_vec(&answer).map_err(ExchangeError::Parse)?;
    send.write_all(&bytes).await.map_err(ExchangeError::Write)?;
    // The stream is ours alone: finishing it twice is impossible.
    let _finished = send.finish();
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    #[error("could not take the stream: {0}")]
    Accept(quinn::ConnectionError),
    #[error("could not read the request: {0}")]
    Read(quinn::ReadToEndError),
    #[error("could not parse the request: {0}")]
    Parse(serde_json::Error),
    #[error("this hub cannot answer now: {0}")]
    Unavailable(String),
    #[error("could not write the answer: {0}")]
    Write(quinn::WriteError),
}

/// Why a machine gets no certificate.
#[derive(Debug)]
enum NoCertificate {
    /// It may not have one: what one hub refuses, all do.
    Refused(String),
    /// This hub cannot tell now, or cannot write it down; another one may.
    Unavailable(String),
}

impl From<String> for NoCertificate {
    fn from(why: String) -> Self {
        Self::Refused(why)
    }
}

impl From<Status> for NoCertificate {
    fn from(status: Status) -> Self {
        if status.is_transient() || status.code >= 500 {
            Self::Unavailable(status.message)
        } else {
            Self::Refused(status.message)
        }
    }
}

impl From<TokenError> for NoCertificate {
    fn from(err: TokenError) -> Self {
        match err {
            TokenError::Unknown | TokenError::Expired { .. } | TokenError::Used { .. } => {
                Self::Refused(err.to_string())
            }
            TokenError::Unavailable { .. } => Self::Unavailable(err.to_string()),
        }
    }
}

impl Fleet {
    async fn answer(&self, request: JoinRequest) -> Result<JoinAnswer, NoCertificate> {
        // Another hub may have made the token a moment ago.
        self.registry.catch_up().await?;
        let (node, csr_pem) = match request {
            JoinRequest::Join { token_id, token_secret, node, csr_pem } => {
                check_name(&node)?;
                let now = self.clock.now();
                // The name is checked before the token is spent, and again when it is taken.
                let hash = self.sign(&node, &csr_pem)?.key_hash;
                self.check_name_is_free(&node, &hash)?;
                tokens::claim(&self.registry, &token_id, &token_secret, &node, &hash, now).await?;
                self.take_name(&node, &hash).await?;
                (node, csr_pem)
            }
            JoinRequest::Renew { node, cert_pem, csr_pem } => {
                check_name(&node)?;
                self.check_renewal(&node, &cert_pem, &csr_pem)?;
                (node, csr_pem)
            }
        };
        let signed = self.sign(&node, &csr_pem)?;
        Ok(JoinAnswer::Accepted {
            cert_pem: signed.pem,
            authority_pem: self.authority.cert_pem().to_owned(),
        })
    }

    /// Whether this key may speak for this node.
    pub(super) fn check_node_key(&self, node: &str, hash: &str) -> Result<(), String> {
        let entry = self
            .registry
            .get(nodes()?, None, node)
            .map_err(|status| if status.code == 404 { removed(node) } else { status.message })?;
        match entry.value()["metadata"]["annotations"][KEY_HASH].as_str() {
            Some(known) if known == hash => Ok(()),
            _ => Err(format!("the name {node} belongs to another machine")),
        }
    }

    fn sign(&self, node: &str, csr_pem: &str) -> Result<pki::NodeCertificate, String> {
        self.authority
            .issue_node(node, csr_pem, self.clock.now(), self.node_certificate_life)
            .map_err(|err| err.to_string())
    }

    fn check_renewal(&self, node: &str, cert_pem: &str, csr_pem: &str) -> Result<(), String> {
        let cert = CertificateDer::from_pem_slice(cert_pem.as_bytes())
            .map_err(|_| "the old certificate is not PEM")?;
        self.authority.verify_expired(&cert).map_err(|err| err.to_string())?;
        if pki::node_name(&cert).as_deref() != Some(node) {
            return Err("the old certificate is another node's".to_owned());
        }
        let hash = pki::key_hash(&cert).map_err(|err| err.to_string())?;
        if self.sign(node, csr_pem)?.key_hash != hash {
            return Err("a renewal must keep the node's key".to_owned());
        }
        self.check_node_key(node, &hash)
    }

    fn check_name_is_free(&self, node: &str, hash: &str) -> Result<(), NoCertificate> {
        match self.registry.get(nodes()?, None, node) {
            Err(status) if status.code == 404 => Ok(()),
            Err(status) => Err(status.into()),
            Ok(entry) => match entry.value()["metadata"]["annotations"][KEY_HASH].as_str() {
                Some(known) if known == hash => Ok(()),
                _ => Err(NoCertificate::Refused(format!(
                    "a node named {node} is part of this hub already; choose another --node-name, \
                     or remove the old one with `kubectl delete node {node}`"
                ))),
            },
        }
    }

    async fn take_name(&self, node: &str, hash: &str) -> Result<(), NoCertificate> {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": node,
                "labels": {"kubernetes.io/hostname": node},
                "annotations": {KEY_HASH: hash},
            },
        });
        match self.registry.create(nodes()?, None, object, &WriteOptions::default()).await {
            Ok(_) => Ok(()),
            Err(status) if status.code == 409 => self.check_name_is_free(node, hash),
            Err(status) => Err(status.into()),
        }
    }
}

/// What the machine of a deleted Node is told.
pub(super) fn removed(node: &str) -> String {
    format!("node {node} was removed from this hub: join again with a new token")
}

fn check_name(node: &str) -> Result<(), String> {
    let errors = hub_api::names::dns1123_subdomain(node);
    if errors.is_empty() {
        Ok(())
    } else {
        Err(format!("node name {node:?}: {}", errors.join("; ")))
    }
}

fn nodes() -> Result<&'static Resource, String> {
    hub_api::resources::find("", "v1", "nodes").ok_or_else(|| Status::no_such_resource().message)
}

#[cfg(test)]
mod tests {
    use agent_sync::join::JoinToken;
    use hub_api::Clock;

    use super::*;
    use crate::{
        clock::SystemClock,
        fleet::testing::{Hubs, Road, client},
    };

    fn csr_pem() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap()
    }

    fn request(token: &JoinToken, csr_pem: &str) -> JoinRequest {
        JoinRequest::Join {
            token_id: token.id.clone(),
            token_secret: token.secret.clone(),
            node: "n".to_owned(),
            csr_pem: csr_pem.to_owned(),
        }
    }

    async fn token(fleet: &Fleet) -> JoinToken {
        let (life, now) = (Duration::from_hours(1), SystemClock.now());
        tokens::create(&fleet.registry, "hash", life, now).await.unwrap()
    }

    #[tokio::test]
    async fn a_hub_that_has_trouble_with_the_store_refuses_nobody() {
        let hubs = Hubs::new().await;
        let (a, b) = (hubs.hub(Some("a")), hubs.hub(Some("b")));
        let (token, csr_pem_of_one) = (token(&b.fleet).await, csr_pem());
        for road in [Road::Cut, Road::Slow, Road::Full] {
            a.store.set(road);
            let err = a.fleet.answer(request(&token, &csr_pem_of_one)).await.unwrap_err();
            assert!(matches!(err, NoCertificate::Unavailable(_)), "{road:?}: {err:?}");
        }
        b.fleet.answer(request(&token, &csr_pem_of_one)).await.unwrap();
        a.store.set(Road::Open);
        let err = a.fleet.answer(request(&token, &csr_pem())).await.unwrap_err();
        assert!(matches!(err, NoCertificate::Refused(_)), "{err:?}");
    }

    #[tokio::test]
    async fn a_machine_hears_why_a_hub_does_not_answer() {
        let hubs = Hubs::new().await;
        let hub = hubs.hub(Some("a"));
        let request = request(&token(&hub.fleet).await, &csr_pem());
        hub.store.set(Road::Cut);
        let (port, client) = (hubs.open_port(), client(&hubs.authority));
        let address = port.local_addr().unwrap();
        let serving = async {
            let connection = port.accept().await.unwrap().await.unwrap();
            serve(&hub.fleet, &connection).await;
        };
        let asking = async {
            let connecting = client.connect(address, pki::SERVER_NAME).unwrap();
            let connection = connecting.await.unwrap();
            let (mut send, mut recv) = connection.open_bi().await.unwrap();
            send.write_all(&serde_json::to_vec(&request).unwrap()).await.unwrap();
            send.finish().unwrap();
            let answer = recv.read_to_end(MAX_MESSAGE).await;
            assert!(answer.is_err(), "{answer:?}");
            connection.closed().await
        };
        let ((), closed) = tokio::join!(serving, asking);
        let quinn::ConnectionError::ApplicationClosed(close) = closed else {
            panic!("closed otherwise: {closed}");
        };
        let reason = String::from_utf8_lossy(&close.reason);
        let expect = "this hub cannot answer now: the store is out of reach: no route to etcd";
        assert_eq!(reason, expect);
    }
}
