//! The administrator's kubeconfig.
//!
//! Source: <https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/>

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::pki::Identity;

/// A kubeconfig for `server` (`https://host:port`). JSON is YAML, and every client takes it.
pub fn admin(server: &str, authority_pem: &str, identity: &Identity) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "outbye",
            "cluster": {
                "server": server,
                "certificate-authority-data": STANDARD.encode(authority_pem),
            },
        }],
        "users": [{
            "name": "outbye-admin",
            "user": {
                "client-certificate-data": STANDARD.encode(&identity.cert_pem),
                "client-key-data": STANDARD.encode(&identity.key_pem),
            },
        }],
        "contexts": [{
            "name": "outbye",
            "context": {"cluster": "outbye", "user": "outbye-admin"},
        }],
        "current-context": "outbye",
        "preferences": {},
    })
}
