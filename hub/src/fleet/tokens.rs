//! Join tokens: Secrets of Kubernetes' own type, each good for one node and a limited time.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>

use std::time::Duration;

use agent_sync::join::JoinToken;
use base64::{Engine, engine::general_purpose::STANDARD};
use hub_api::{Resource, Status};
use hub_apiserver::{Registry, WriteOptions};
use jiff::Timestamp;
use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
};
use serde_json::{Value, json};

/// Where tokens live.
const NAMESPACE: &str = "kube-system";
const USED_BY: &str = "outbye.dev/used-by";
/// Hash of the key that came with the token.
const USED_BY_KEY: &str = "outbye.dev/used-by-key";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const ID_LEN: usize = 6;
const SECRET_LEN: usize = 26;

/// A token that does not let a machine in. The text is for the machine's operator.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenError {
    #[error(
        "the join token is not known to this hub; make a new one with `outbye-hub token create`"
    )]
    Unknown,
    #[error("the join token expired at {at}; make a new one with `outbye-hub token create`")]
    Expired { at: String },
    #[error(
        "the join token was used by node {node}; every node needs its own: make a new one with `outbye-hub token create`"
    )]
    Used { node: String },
    #[error("the hub could not check the token: {message}")]
    Unavailable { message: String },
}

/// Makes a token that one node can use until `life` has passed.
///
/// # Errors
/// Storage refused it.
pub async fn create(
    registry: &Registry,
    authority_hash: &str,
    life: Duration,
    now: Timestamp,
) -> Result<JoinToken, Status> {
    let token = JoinToken {
        id: random(ID_LEN)?,
        secret: random(SECRET_LEN)?,
        authority_hash: authority_hash.to_owned(),
    };
    let expires = now.checked_add(life).unwrap_or(Timestamp::MAX);
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name(&token.id), "namespace": NAMESPACE},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": token.id,
            "token-secret": token.secret,
            "expiration": hub_api::time::format(expires),
            "usage-bootstrap-authentication": "true",
        },
    });
    registry.create(secrets()?, Some(NAMESPACE), secret, &WriteOptions::default()).await?;
    Ok(token)
}

/// Checks a token and takes it for `node`. A node that lost the answer may come again with the
/// same key.
///
/// # Errors
/// The token does not let this node in.
pub(super) async fn claim(
    registry: &Registry,
    id: &str,
    secret: &str,
    node: &str,
    key_hash: &str,
    now: Timestamp,
) -> Result<(), TokenError> {
    if !id.bytes().all(|it| it.is_ascii_alphanumeric()) {
        return Err(TokenError::Unknown);
    }
    let unavailable = |status: Status| TokenError::Unavailable { message: status.message };
    let secrets = secrets().map_err(unavailable)?;
    let name = secret_name(id);
    let entry = registry.get(secrets, Some(NAMESPACE), &name).map_err(|status| {
        if status.code == 404 { TokenError::Unknown } else { unavailable(status) }
    })?;
    let mut object = entry.decode();
    let wanted = data(&object, "token-secret").ok_or(TokenError::Unknown)?;
    // By hashes: the time that a comparison takes must not tell how much was guessed right.
    let hash = |text: &str| digest::digest(&digest::SHA256, text.as_bytes());
    if hash(&wanted).as_ref() != hash(secret).as_ref() {
        return Err(TokenError::Unknown);
    }
    let expires = data(&object, "expiration").unwrap_or_default();
    if hub_api::time::parse(&expires).is_none_or(|at| at <= now) {
        return Err(TokenError::Expired { at: expires });
    }
    let annotations = &object["metadata"]["annotations"];
    if let Some(user) = annotations[USED_BY].as_str() {
        // The name alone is no proof: it is free again once its Node was deleted.
        if user == node && annotations[USED_BY_KEY] == key_hash {
            return Ok(());
        }
        return Err(TokenError::Used { node: user.to_owned() });
    }
    object["metadata"]["annotations"][USED_BY] = node.into();
    object["metadata"]["annotations"][USED_BY_KEY] = key_hash.into();
    // The resourceVersion in the object makes this a compare-and-swap: two machines that come
    // with one token at the same time do not both get in.
    registry
        .update(secrets, Some(NAMESPACE), &name, object, None, &WriteOptions::default())
        .await
        .map(drop)
        .map_err(|status| match status.code {
            409 => TokenError::Used { node: "another node".to_owned() },
            _ => unavailable(status),
        })
}

fn secrets() -> Result<&'static Resource, Status> {
    hub_api::resources::find("", "v1", "secrets").ok_or_else(Status::no_such_resource)
}

fn secret_name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

fn data(secret: &Value, key: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(secret["data"][key].as_str()?).ok()?).ok()
}

fn random(len: usize) -> Result<String, Status> {
    let mut bytes = vec![0; len];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Status::internal("the system gives no random numbers"))?;
    Ok(bytes.iter().map(|it| char::from(ALPHABET[usize::from(it % 32)])).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hub_apiserver::RegistryConfig;
    use hub_storage::SledStorage;

    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn a_token_lets_in_one_key_and_not_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let (storage, _) = SledStorage::open(dir.path(), hub_storage::Options::DEFAULT).unwrap();
        let config = RegistryConfig { service_cidr: "10.96.0.0/16".parse().unwrap() };
        let registry = Registry::new(storage, Arc::new(SystemClock), config);
        registry.bootstrap().await.unwrap();
        let (now, life) = (Timestamp::UNIX_EPOCH, Duration::from_secs(60));
        let token = create(&registry, "hash", life, now).await.unwrap();
        let claim = async |secret: &str, node: &str, key: &str, at: Timestamp| {
            claim(&registry, &token.id, secret, node, key, at).await
        };
        assert_eq!(claim("guess", "barn", "k1", now).await, Err(TokenError::Unknown));
        let late = now.checked_add(life).unwrap();
        let expired = claim(&token.secret, "barn", "k1", late).await;
        assert!(matches!(expired, Err(TokenError::Expired { .. })), "{expired:?}");

        // Two machines at once: one gets in.
        let (one, two) = tokio::join!(
            claim(&token.secret, "barn", "k1", now),
            claim(&token.secret, "barn", "k2", now)
        );
        assert_eq!(one.is_ok(), two.is_err(), "{one:?} {two:?}");
        let (winner, loser) = if one.is_ok() { ("k1", "k2") } else { ("k2", "k1") };
        // It may come again when the answer was lost; the other may not, under whatever name.
        claim(&token.secret, "barn", winner, now).await.unwrap();
        for (node, key) in [("barn", loser), ("mill", loser), ("mill", winner)] {
            let used = claim(&token.secret, node, key, now).await;
            assert!(matches!(used, Err(TokenError::Used { .. })), "{node} {key}: {used:?}");
        }
    }
}
