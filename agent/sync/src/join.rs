//! How a machine becomes a node, and how a node renews its certificate.
//!
//! Both run on a connection of their own (ALPN [`crate::ALPN_JOIN`]) without a client
//! certificate: one request and one answer, JSON, each ended by the end of the stream. The node
//! checks the hub by the hash of its authority's key: from the token when it joins, from its own
//! disk when it renews. A renewal proves possession of the key by the request's signature, so a
//! node whose certificate expired while it was out of reach needs nobody's help.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Largest request or answer, in bytes.
pub const MAX_MESSAGE: usize = 64 << 10;
const PREFIX: &str = "outbye1";

/// What an administrator hands to a new machine:
/// `outbye1.<id>.<secret>.<SHA-256 of the authority's public key>`.
#[derive(Clone, Eq, PartialEq)]
pub struct JoinToken {
    pub id: String,
    pub secret: String,
    pub authority_hash: String,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{}.{}.{}", self.id, self.secret, self.authority_hash)
    }
}

/// The text is not a join token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "could not parse the join token: want {PREFIX}.<id>.<secret>.<hash>; make one with `outbye-hub token create`"
)]
pub struct ParseTokenError;

impl FromStr for JoinToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [PREFIX, id, secret, hash] = parts.as_slice() else { return Err(ParseTokenError) };
        let plain = |it: &str| !it.is_empty() && it.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain(id) || !plain(secret) || hash.len() != 64 || !plain(hash) {
            return Err(ParseTokenError);
        }
        Ok(Self {
            id: (*id).to_owned(),
            secret: (*secret).to_owned(),
            authority_hash: (*hash).to_owned(),
        })
    }
}

/// What a machine asks for.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum JoinRequest {
    Join { token_id: String, token_secret: String, node: String, csr_pem: String },
    Renew { node: String, cert_pem: String, csr_pem: String },
}

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Join { node, token_id, .. } => {
                f.debug_struct("Join").field("node", node).field("token_id", token_id).finish()
            }
            Self::Renew { node, .. } => f.debug_struct("Renew").field("node", node).finish(),
        }
    }
}

/// What the hub answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum JoinAnswer {
    Accepted {
        cert_pem: String,
        authority_pem: String,
    },
    /// For the operator to read.
    Refused {
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_bad_ones_are_refused() {
        let hash = "ab".repeat(32);
        let text = format!("outbye1.abc123.s3cret.{hash}");
        assert_eq!(text.parse::<JoinToken>().unwrap().to_string(), text);
        for bad in [
            String::new(),
            "outbye1.a.b".into(),
            format!("outbye2.abc123.s3cret.{hash}"),
            "outbye1.abc.def.abcd".into(),
            format!("outbye1.a/b.s3cret.{hash}"),
            format!("{text}.more"),
        ] {
            assert_eq!(bad.parse::<JoinToken>(), Err(ParseTokenError), "{bad}");
        }
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let token = JoinToken { id: "i".into(), secret: "hush".into(), authority_hash: "h".into() };
        let request = JoinRequest::Join {
            token_id: "i".into(),
            token_secret: "hush".into(),
            node: "n".into(),
            csr_pem: String::new(),
        };
        assert!(!format!("{token:?} {request:?}").contains("hush"));
    }
}
