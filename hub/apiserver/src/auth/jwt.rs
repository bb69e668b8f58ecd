//! JSON Web Signatures in compact form (RFC 7515), signed with ES256 (RFC 7518).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use serde_json::{Value, json};

/// A key that signs or has signed tokens.
pub struct TokenKey {
    pair: EcdsaKeyPair,
    id: String,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A key could not be made, read or used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenKeyError {
    /// No key could be drawn.
    #[error("could not make a key")]
    Make,
    /// Not an ECDSA P-256 key as PKCS#8.
    #[error("could not read the key")]
    Malformed,
    /// Signing failed.
    #[error("could not sign")]
    Sign,
}

impl TokenKey {
    /// Draws a key: PKCS#8, DER.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate() -> Result<Vec<u8>, TokenKeyError> {
        let random = SystemRandom::new();
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map(|it| it.as_ref().to_vec())
            .map_err(|_| TokenKeyError::Make)
    }

    /// Reads a key that [`Self::generate`] made.
    ///
    /// # Errors
    /// The bytes are no such key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, TokenKeyError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random)
            .map_err(|_| TokenKeyError::Malformed)?;
        let digest = ring::digest::digest(&ring::digest::SHA256, pair.public_key().as_ref());
        let id = BASE64.encode(digest.as_ref());
        Ok(Self { pair, id })
    }

    /// Name of the key, derived from its public half.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Signs claims as a compact token.
    pub(super) fn sign(&self, claims: &Value) -> Result<String, TokenKeyError> {
        let header = json!({ "alg": "ES256", "kid": self.id });
        let part = |value: &Value| BASE64.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = self
            .pair
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|_| TokenKeyError::Sign)?;
        Ok(format!("{signed}.{}", BASE64.encode(signature.as_ref())))
    }

    pub(super) fn verifies(&self, token: &Parsed<'_>) -> bool {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        token.algorithm == "ES256" && key.verify(token.signed.as_bytes(), &token.signature).is_ok()
    }

    /// The public half as a JSON Web Key (RFC 7517).
    pub(super) fn to_jwk(&self) -> Value {
        // An uncompressed point: 4, x, y (SEC 1, section 2.3.3).
        let point = self.pair.public_key().as_ref();
        let (x, y) = (point.get(1..33).unwrap_or_default(), point.get(33..).unwrap_or_default());
        json!({
            "use": "sig",
            "kty": "EC",
            "kid": self.id,
            "crv": "P-256",
            "alg": "ES256",
            "x": BASE64.encode(x),
            "y": BASE64.encode(y),
        })
    }
}

/// A token whose signature nobody has looked at yet.
pub(super) struct Parsed<'a> {
    /// What is signed: header and claims as they stand.
    signed: &'a str,
    signature: Vec<u8>,
    pub(super) algorithm: String,
    /// Name of the key; empty if none is given.
    pub(super) key_id: String,
    pub(super) claims: Value,
}

impl<'a> Parsed<'a> {
    /// Takes a token apart; nothing if it is none.
    pub(super) fn new(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let json = |part: &str| -> Option<Value> {
            serde_json::from_slice(&BASE64.decode(part).ok()?).ok()
        };
        let header = json(header).filter(Value::is_object)?;
        // Extensions that must be understood are not (RFC 7515, section 4.1.11).
        if header.get("crit").is_some() {
            return None;
        }
        let text = |field: &str| header[field].as_str().unwrap_or_default().to_owned();
        Some(Self {
            signed,
            signature: BASE64.decode(signature).ok()?,
            algorithm: text("alg"),
            key_id: text("kid"),
            claims: json(claims).filter(Value::is_object)?,
        })
    }

    /// What is signed.
    pub(super) fn signed(&self) -> &[u8] {
        self.signed.as_bytes()
    }

    pub(super) fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The audiences that the token is for: one text or a list.
    pub(super) fn audiences(&self) -> Vec<String> {
        match &self.claims["aud"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(many) => {
                many.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
        }
    }
}
