//! Tokens of service accounts, which a node asks for on behalf of its pods.
//!
//! The node opens a stream of the session's connection: one request, one answer, JSON, each ended
//! by the end of its direction. A node asks for what a pod's own volumes name, and for nothing
//! else; the hub checks that against the Pod that it has.

use serde::{Deserialize, Serialize};

use crate::FrameError;

/// Largest request, in bytes.
pub const MAX_REQUEST: usize = 256 << 10;
/// Largest answer, in bytes.
pub const MAX_ANSWER: usize = 4 << 20;
/// Most tokens in one request.
pub const MAX_TOKENS: usize = 256;

/// What a node asks of the hub on a stream of its own.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeRequest {
    /// One token each, in this order.
    Tokens(Vec<TokenOrder>),
}

/// One token for one pod.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenOrder {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    /// For whom the token is to be good; empty for the API itself.
    pub audience: String,
    /// Life that the pod asks for.
    pub expiration_seconds: i64,
}

/// What became of a [`TokenOrder`].
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum TokenGrant {
    /// Good for so long from now on; that may be longer than was asked for.
    Granted { token: String, life_seconds: i64 },
    /// The hub does not give it. `code` is what HTTP would say.
    Refused { code: u16, message: String },
}

impl std::fmt::Debug for TokenGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token itself is a secret.
        match self {
            Self::Granted { life_seconds, .. } => write!(f, "Granted({life_seconds} s)"),
            Self::Refused { code, message } => write!(f, "Refused({code}, {message:?})"),
        }
    }
}

/// Encodes a request.
pub fn encode_request(request: &NodeRequest) -> Vec<u8> {
    serde_json::to_vec(request).unwrap_or_default()
}

/// Reads what a node asks for, bounded.
///
/// # Errors
/// The bytes are no request, or ask for too much at once.
pub fn decode_request(json: &[u8]) -> Result<NodeRequest, FrameError> {
    check_size(json, MAX_REQUEST)?;
    let request: NodeRequest =
        serde_json::from_slice(json).map_err(|_| FrameError::Malformed { what: "node request" })?;
    let NodeRequest::Tokens(orders) = &request;
    if orders.len() > MAX_TOKENS {
        return Err(FrameError::TooLarge { size: orders.len(), limit: MAX_TOKENS });
    }
    Ok(request)
}

/// Encodes an answer.
pub fn encode_answer(grants: &[TokenGrant]) -> Vec<u8> {
    serde_json::to_vec(grants).unwrap_or_default()
}

/// Reads the answer to a request for so many tokens.
///
/// # Errors
/// The bytes are no answer, or not to this request.
pub fn decode_answer(json: &[u8], n_orders: usize) -> Result<Vec<TokenGrant>, FrameError> {
    check_size(json, MAX_ANSWER)?;
    let grants: Vec<TokenGrant> =
        serde_json::from_slice(json).map_err(|_| FrameError::Malformed { what: "tokens" })?;
    if grants.len() != n_orders {
        return Err(FrameError::Malformed { what: "number of tokens" });
    }
    Ok(grants)
}

fn check_size(json: &[u8], limit: usize) -> Result<(), FrameError> {
    let size = json.len();
    if size > limit { Err(FrameError::TooLarge { size, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_request_or_asks_for_too_much_is_refused() {
        let order = TokenOrder {
            namespace: "a".to_owned(),
            pod: "p".to_owned(),
            uid: "u".to_owned(),
            audience: String::new(),
            expiration_seconds: 3607,
        };
        let good = NodeRequest::Tokens(vec![order.clone(); MAX_TOKENS]);
        assert_eq!(decode_request(&encode_request(&good)).unwrap(), good);
        let greedy = NodeRequest::Tokens(vec![order; MAX_TOKENS + 1]);
        assert!(decode_request(&encode_request(&greedy)).is_err());
        for text in ["", "{}", r#"{"tokens":1}"#, r#"{"tokens":[{"pod":"p"}]}"#, r#"{"other":[]}"#]
        {
            assert!(decode_request(text.as_bytes()).is_err(), "{text}");
        }
        assert!(decode_request(&vec![b' '; MAX_REQUEST + 1]).is_err());
    }

    #[test]
    fn an_answer_answers_every_order() {
        let grants = [
            TokenGrant::Granted { token: "t".to_owned(), life_seconds: 60 },
            TokenGrant::Refused { code: 404, message: "gone".to_owned() },
        ];
        let json = encode_answer(&grants);
        assert_eq!(decode_answer(&json, 2).unwrap(), grants);
        assert!(decode_answer(&json, 1).is_err());
        assert!(!format!("{grants:?}").contains("\"t\""));
    }
}
