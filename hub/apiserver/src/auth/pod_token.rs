//! Tokens that nodes ask for, for the volumes of their pods.
//!
//! A node gets what the Pod says and nothing else: it must be bound to that node, still be the same
//! one, and name that audience with that life in a projected volume.
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens>

use std::sync::Arc;

use hub_api::{Status, object, resources};
use serde_json::{Value, json};

use super::{ServiceAccountTokens, User, node};
use crate::registry::Registry;

/// Life of a token for which none is named, in seconds.
pub(super) const DEFAULT_SECONDS: i64 = 3600;

/// Which token a node wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PodTokenOrder<'a> {
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// Name of the pod.
    pub pod: &'a str,
    /// UID of the pod.
    pub uid: &'a str,
    /// For whom the token is to be good; empty for this API.
    pub audience: &'a str,
    /// Life that the pod asks for.
    pub expiration_seconds: i64,
}

/// A token for a pod.
#[derive(Clone, Eq, PartialEq)]
pub struct PodToken {
    /// The token.
    pub token: String,
    /// Its life from now on, in seconds.
    pub life_seconds: i64,
}

impl std::fmt::Debug for PodToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token itself is a secret.
        f.debug_struct("PodToken").field("life_seconds", &self.life_seconds).finish_non_exhaustive()
    }
}

impl ServiceAccountTokens {
    /// Makes the token that a node wants for one of its pods.
    ///
    /// # Errors
    /// The pod is not the node's or names no such token, its account is gone, or admission refuses.
    pub async fn for_pod(
        &self,
        registry: &Registry,
        node: &str,
        order: PodTokenOrder<'_>,
    ) -> Result<PodToken, Status> {
        let row = |plural| resources::find("", "v1", plural).ok_or_else(Status::no_such_resource);
        let pod = registry.get(row("pods")?, Some(order.namespace), order.pod)?.value();
        let account = check_pod(&pod, node, order)?;
        let audiences: Vec<&str> =
            Some(order.audience).into_iter().filter(|it| !it.is_empty()).collect();
        let mut request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {"name": account, "namespace": order.namespace},
            "spec": {
                "audiences": audiences,
                "expirationSeconds": order.expiration_seconds,
                "boundObjectRef": {
                    "apiVersion": "v1", "kind": "Pod", "name": order.pod, "uid": order.uid,
                },
            },
        });
        let asking = registry.on_behalf_of(Arc::new(User {
            groups: vec![node::GROUP.to_owned()],
            ..User::named(format!("{}{node}", node::USER_PREFIX))
        }));
        let accounts = row("serviceaccounts")?;
        asking.admit_token(accounts, Some(order.namespace), account, false, &mut request).await?;
        let issued = self.issue(registry, order.namespace, account, &mut request)?;
        let token = object::text(&request, "status.token").to_owned();
        Ok(PodToken { token, life_seconds: issued.life })
    }
}

/// The account of the pod, if the node may have that token of it.
fn check_pod<'a>(pod: &'a Value, node: &str, order: PodTokenOrder<'_>) -> Result<&'a str, Status> {
    let account = object::text(pod, "spec.serviceAccountName");
    let is_own = object::text(pod, "spec.nodeName") == node && object::uid(pod) == order.uid;
    if !is_own || account.is_empty() {
        return Err(Status::not_found("", "pods", order.pod));
    }
    if names_token(pod, order.audience, order.expiration_seconds) {
        return Ok(account);
    }
    let why = format!("no volume of pod \"{}\" names such a token", order.pod);
    Err(Status::forbidden("", "serviceaccounts", account, &why))
}

/// Whether a projected volume of the pod asks for a token for that audience, empty for this API, of
/// that life.
pub(super) fn names_token(pod: &Value, audience: &str, seconds: i64) -> bool {
    let names = |source: &Value| {
        let Some(token) = object::get(source, "serviceAccountToken") else { return false };
        object::text(token, "audience") == audience
            && object::int(token, "expirationSeconds").unwrap_or(DEFAULT_SECONDS) == seconds
    };
    let volumes = object::list(pod, "spec.volumes");
    volumes.iter().any(|it| object::list(it, "projected.sources").iter().any(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_what_its_own_pods_name() {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "a", "uid": "u"},
            "spec": {"nodeName": "n1", "serviceAccountName": "sa", "volumes": [
                {"projected": {"sources": [
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                    {"serviceAccountToken": {"path": "v", "audience": "vault", "expirationSeconds": 900}}]}}]},
        });
        let order = |uid, audience, expiration_seconds| PodTokenOrder {
            namespace: "a",
            pod: "p",
            uid,
            audience,
            expiration_seconds,
        };
        let code = |node, order| check_pod(&pod, node, order).map_err(|it| it.code);
        assert_eq!(code("n1", order("u", "", 3607)), Ok("sa"));
        assert_eq!(code("n1", order("u", "vault", 900)), Ok("sa"));
        assert_eq!(code("n2", order("u", "", 3607)), Err(404), "another's");
        assert_eq!(code("n1", order("former", "", 3607)), Err(404), "a namesake's");
        assert_eq!(code("n1", order("u", "", 86_400)), Err(403), "a life nobody asked for");
        assert_eq!(code("n1", order("u", "vault", 3607)), Err(403), "parts of two");
        assert_eq!(code("n1", order("u", "bank", 900)), Err(403), "an audience nobody asked for");
    }
}
