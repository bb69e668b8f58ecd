//! How machines become nodes, and how nodes renew their certificates.

use std::{sync::Arc, time::Duration};

use agent_sync::join::{JoinAnswer, JoinRequest, MAX_MESSAGE};
use hub_api::{Resource, Status};
use hub_apiserver::{WriteOptions, auth::KEY_HASH};
use quinn::Connection;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::json;

use super::{Fleet, tokens};
use crate::pki;

/// One request and its answer.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) async fn serve(fleet: &Arc<Fleet>, connection: &Connection) {
    let remote = connection.remote_address();
    match tokio::time::timeout(EXCHANGE_TIMEOUT, exchange(fleet, connection)).await {
        Ok(Ok(())) => {
            // The node closes when it has the answer.
            let _closed = tokio::time::timeout(EXCHANGE_TIMEOUT, connection.closed()).await;
        }
        Ok(Err(err)) => tracing::warn!(%remote, error = %err, "Could not serve a joining machine"),
        Err(_elapsed) => tracing::warn!(%remote, "Gave up a joining machine that took too long"),
    }
}

async fn exchange(fleet: &Fleet, connection: &Connection) -> Result<(), ExchangeError> {
    let (mut send, mut recv) = connection.accept_bi().await.map_err(ExchangeError::Accept)?;
    let bytes = recv.read_to_end(MAX_MESSAGE).await.map_err(ExchangeError::Read)?;
    let request: JoinRequest = serde_json::from_slice(&bytes).map_err(ExchangeError::Parse)?;
    tracing::info!(remote = %connection.remote_address(), ?request, "Machine asks for a certificate");
    let answer = fleet.answer(request).await.unwrap_or_else(|message| {
        tracing::warn!(reason = message, "Refused a certificate");
        JoinAnswer::Refused { message }
    });
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
    #[error("could not write the answer: {0}")]
    Write(quinn::WriteError),
}

impl Fleet {
    async fn answer(&self, request: JoinRequest) -> Result<JoinAnswer, String> {
        // Another hub may have made the token a moment ago.
        self.registry.catch_up().await.map_err(|status| status.message)?;
        let (node, csr_pem) = match request {
            JoinRequest::Join { token_id, token_secret, node, csr_pem } => {
                check_name(&node)?;
                let now = self.clock.now();
                // The name is checked before the token is spent, and again when it is taken.
                let hash = self.sign(&node, &csr_pem)?.key_hash;
                self.check_name_is_free(&node, &hash)?;
                tokens::claim(&self.registry, &token_id, &token_secret, &node, &hash, now)
                    .await
                    .map_err(|err| err.to_string())?;
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

    fn check_name_is_free(&self, node: &str, hash: &str) -> Result<(), String> {
        match self.registry.get(nodes()?, None, node) {
            Err(status) if status.code == 404 => Ok(()),
            Err(status) => Err(status.message),
            Ok(entry) => match entry.value()["metadata"]["annotations"][KEY_HASH].as_str() {
                Some(known) if known == hash => Ok(()),
                _ => Err(format!(
                    "a node named {node} is part of this hub already; choose another --node-name, \
                     or remove the old one with `kubectl delete node {node}`"
                )),
            },
        }
    }

    async fn take_name(&self, node: &str, hash: &str) -> Result<(), String> {
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
            Err(status) => Err(status.message),
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
