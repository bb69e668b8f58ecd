//! Who the hub is to the servers of aggregated APIs.
//!
//! An authority of its own signs the hub's certificate for them: whoever holds a certificate of it
//! may say in headers who sends a request, so it must never sign for anybody else. Servers learn of
//! it from the ConfigMap `extension-apiserver-authentication`.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/>

use std::sync::Arc;

use hub_apiserver::{Registry, Seed, ServerCertificate};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::pki::Authority;

/// Directory of the authority, below that of the hub's own.
pub(crate) const DIR: &str = "front-proxy";
/// The name that servers are to believe.
pub(crate) const NAME: &str = "front-proxy-client";

/// The authority, and what it signed.
pub(crate) struct FrontProxy {
    authority: Authority,
    shown: Arc<ServerCertificate>,
}

impl FrontProxy {
    /// Has `authority` sign a certificate.
    ///
    /// # Errors
    /// Signing failed.
    pub(crate) fn new(authority: Authority, now: Timestamp) -> anyhow::Result<Self> {
        let (chain, key) = authority.issue_client(NAME, now)?.to_der()?;
        let shown = ServerCertificate::new(chain, key)?;
        Ok(Self { authority, shown })
    }

    /// What the hub is to show.
    pub(crate) fn shown(&self) -> Arc<ServerCertificate> {
        self.shown.clone()
    }

    /// Signs a new certificate.
    ///
    /// # Errors
    /// Signing failed; then the old one stays.
    pub(crate) fn renew(&self, now: Timestamp) -> anyhow::Result<()> {
        let (chain, key) = self.authority.issue_client(NAME, now)?.to_der()?;
        Ok(self.shown.replace(chain, key)?)
    }

    /// Tells servers what to believe: certificates of clients by `client_ca_pem`, and headers of
    /// whoever this authority signed for.
    ///
    /// # Errors
    /// Storage refused the write.
    pub(crate) async fn publish(
        &self,
        registry: &Registry,
        client_ca_pem: &str,
    ) -> anyhow::Result<()> {
        let seed = Seed { object: config_map(client_ca_pem, self.authority.cert_pem()), renew };
        Ok(registry.ensure(&[seed]).await?)
    }
}

fn config_map(client_ca_pem: &str, proxy_ca_pem: &str) -> Value {
    let list = |text: &str| json!([text]).to_string();
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "extension-apiserver-authentication", "namespace": "kube-system" },
        "data": {
            "client-ca-file": client_ca_pem,
            "requestheader-allowed-names": list(NAME),
            "requestheader-client-ca-file": proxy_ca_pem,
            "requestheader-extra-headers-prefix": list("X-Remote-Extra-"),
            "requestheader-group-headers": list("X-Remote-Group"),
            "requestheader-uid-headers": list("X-Remote-Uid"),
            "requestheader-username-headers": list("X-Remote-User"),
        },
    })
}

/// Puts right what is ours, and leaves what others added.
fn renew(current: &Value, wanted: &Value) -> Option<Value> {
    let mut next = current.clone();
    for (key, value) in wanted["data"].as_object()? {
        next["data"][key] = value.clone();
    }
    (next != *current).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_put_right_and_what_is_not_stays() {
        let wanted = config_map("a", "b");
        assert_eq!(renew(&wanted, &wanted), None);
        let mut current = wanted.clone();
        current["data"]["other"] = json!("x");
        current["data"]["client-ca-file"] = json!("forged");
        let renewed = renew(&current, &wanted).unwrap();
        assert_eq!(
            (&renewed["data"]["client-ca-file"], &renewed["data"]["other"]),
            (&json!("a"), &json!("x"))
        );
        assert_eq!(renewed["data"]["requestheader-allowed-names"], "[\"front-proxy-client\"]");
    }
}
