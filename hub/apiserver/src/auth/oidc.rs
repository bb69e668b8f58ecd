//! Tokens of an OpenID Connect issuer (OpenID Connect Core 1.0): their claims name the user. The
//! issuer's keys are fetched when they are needed, and kept for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jiff::Timestamp;
use ring::signature as sig;
use serde_json::Value;

use super::User;
use super::fetch::{FetchError, Fetcher};
use super::jwt::Parsed;

/// Keys are fetched again after this time, in seconds.
const KEYS_LIFE: i64 = 3600;
/// An unknown key makes us ask the issuer at most this often, in seconds.
const ASK_PAUSE: i64 = 30;
/// Keys that are kept.
const MAX_KEYS: usize = 100;
/// Groups that a token may name.
const MAX_GROUPS: usize = 1000;
/// Clocks may differ by so many seconds.
const CLOCK_LEEWAY: i64 = 60;
/// Names that begin so are ours to give.
const RESERVED: &str = "system:";

/// Whom to trust, and how to read their tokens.
#[derive(Clone, Debug)]
pub struct OidcConfig {
    /// `https://...`, as in the claim `iss`.
    pub issuer: String,
    /// A token must be for one of these.
    pub audiences: Vec<String>,
    /// The claim that names the user, such as `sub` or `email`.
    pub username_claim: String,
    /// Stands before the user's name.
    pub username_prefix: String,
    /// The claim that names the groups; empty for none.
    pub groups_claim: String,
    /// Stands before each group.
    pub groups_prefix: String,
    /// Claims that must have these values.
    pub required_claims: Vec<(String, String)>,
    /// Authorities of the issuer's certificate, PEM.
    pub ca_pem: Vec<u8>,
}

/// Verifies tokens of one issuer.
#[derive(Debug)]
pub struct OidcIssuer {
    config: OidcConfig,
    fetcher: Fetcher,
    keys: Mutex<Keys>,
    /// Held by the one who asks the issuer for all.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Keys {
    list: Vec<Value>,
    /// When the issuer was asked last, whether or not it answered.
    asked: Option<Timestamp>,
}

/// Why a token of the issuer is not good, or could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// The configuration cannot be used.
    #[error("could not use the configuration of the issuer: {what}")]
    Config {
        /// What is wrong.
        what: &'static str,
    },
    /// The issuer did not answer, or cannot be asked.
    #[error("could not ask the issuer")]
    Ask(#[source] FetchError),
    /// The issuer answered nonsense.
    #[error("could not use the issuer's answer: {what}")]
    Answer {
        /// What is wrong.
        what: &'static str,
    },
    /// None of the issuer's keys signed it.
    #[error("could not verify the signature")]
    Signature,
    /// For somebody else, too old, or without a claim that must be there.
    #[error("could not accept the claim {claim}")]
    Claim {
        /// Which.
        claim: String,
    },
}

impl OidcIssuer {
    /// Sets up an issuer. Nothing is fetched yet.
    ///
    /// # Errors
    /// The issuer is no HTTPS address, or an authority cannot be used.
    pub fn new(config: OidcConfig) -> Result<Self, OidcError> {
        if !config.issuer.starts_with("https://") {
            return Err(OidcError::Config { what: "the issuer must be an https address" });
        }
        if config.audiences.is_empty() || config.username_claim.is_empty() {
            return Err(OidcError::Config { what: "audience and username claim must be given" });
        }
        let fetcher = Fetcher::new(&config.ca_pem).map_err(OidcError::Ask)?;
        Ok(Self { config, fetcher, keys: Mutex::default(), asking: tokio::sync::Mutex::default() })
    }

    /// The user of a token; nothing if it is another issuer's.
    pub(super) async fn verify(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<Option<User>, OidcError> {
        let Some(parsed) = Parsed::new(token) else { return Ok(None) };
        if parsed.claims["iss"] != self.config.issuer.as_str() {
            return Ok(None);
        }
        // Cheap checks first: only what could be good makes us ask the issuer.
        self.check(&parsed, now)?;
        let user = user_of(&self.config, &parsed.claims)?;
        self.check_signature(&parsed, now).await?;
        Ok(Some(user))
    }

    /// Checks audience, times and required claims.
    fn check(&self, token: &Parsed<'_>, now: Timestamp) -> Result<(), OidcError> {
        let wrong = |claim: &str| OidcError::Claim { claim: claim.to_owned() };
        if !token.audiences().iter().any(|it| self.config.audiences.contains(it)) {
            return Err(wrong("aud"));
        }
        let now = now.as_second();
        let time = |claim: &str| token.claims[claim].as_f64();
        #[expect(clippy::cast_possible_truncation, reason = "times out of range are far away")]
        let seconds = |claim: &str| time(claim).map(|it| it as i64);
        if seconds("exp").is_none_or(|it| it.saturating_add(CLOCK_LEEWAY) <= now) {
            return Err(wrong("exp"));
        }
        if seconds("nbf").is_some_and(|it| it.saturating_sub(CLOCK_LEEWAY) > now) {
            return Err(wrong("nbf"));
        }
        for (claim, value) in &self.config.required_claims {
            if token.claims[claim.as_str()] != value.as_str() {
                return Err(wrong(claim));
            }
        }
        Ok(())
    }

    async fn check_signature(&self, token: &Parsed<'_>, now: Timestamp) -> Result<(), OidcError> {
        let since = |at: Timestamp| now.as_second().saturating_sub(at.as_second());
        let fits = || self.keys().list.iter().any(|key| verifies(key, token));
        let is_old = || self.keys().asked.is_none_or(|at| since(at) >= KEYS_LIFE);
        let known = fits();
        if known && !is_old() {
            return Ok(());
        }
        // One asks for all. Who can do without waits for nobody: tokens that somebody made up, and for which the issuer
        // is asked, must not hold up others.
        let _asking = match self.asking.try_lock() {
            Ok(asking) => asking,
            Err(_) if known => return Ok(()),
            Err(_) => self.asking.lock().await,
        };
        let asked = self.keys().asked;
        if asked.is_none_or(|at| since(at) >= ASK_PAUSE || since(at) < 0) {
            self.keys().asked = Some(now);
            match self.fetch().await {
                Ok(list) => self.keys().list = list,
                // What was known is good enough while the issuer is away.
                Err(_) if fits() => {}
                Err(err) => return Err(err),
            }
        }
        if fits() { Ok(()) } else { Err(OidcError::Signature) }
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        // Nothing is done with the keys but reading and replacing them: a panic elsewhere does not spoil them.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn get(&self, url: &str) -> Result<Value, OidcError> {
        self.fetcher.get(url).await.map_err(OidcError::Ask)
    }

    async fn fetch(&self) -> Result<Vec<Value>, OidcError> {
        let base = self.config.issuer.trim_end_matches('/');
        let about = self.get(&format!("{base}/.well-known/openid-configuration")).await?;
        if about["issuer"] != self.config.issuer.as_str() {
            return Err(OidcError::Answer { what: "it names another issuer" });
        }
        let keys = about["jwks_uri"].as_str().ok_or(OidcError::Answer { what: "no jwks_uri" })?;
        let mut answer = self.get(keys).await?;
        match answer["keys"].take() {
            Value::Array(mut list) => {
                list.truncate(MAX_KEYS);
                Ok(list)
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Object(_) => Err(OidcError::Answer { what: "no keys" }),
        }
    }
}

/// Reads the user out of claims.
pub(super) fn user_of(config: &OidcConfig, claims: &Value) -> Result<User, OidcError> {
    let wrong = |claim: &str| OidcError::Claim { claim: claim.to_owned() };
    let claim = config.username_claim.as_str();
    let name = claims[claim].as_str().filter(|it| !it.is_empty()).ok_or_else(|| wrong(claim))?;
    if claim == "email" && claims.get("email_verified").is_some_and(|it| *it != true) {
        return Err(wrong("email_verified"));
    }
    let name = format!("{}{name}", config.username_prefix);
    if name.starts_with(RESERVED) {
        return Err(wrong(claim));
    }
    let groups: Vec<&str> = match &claims[config.groups_claim.as_str()] {
        _ if config.groups_claim.is_empty() => Vec::new(),
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).take(MAX_GROUPS).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    };
    let groups = groups
        .into_iter()
        .map(|it| format!("{}{it}", config.groups_prefix))
        .filter(|it| !it.starts_with(RESERVED))
        .collect();
    Ok(User { groups, ..User::named(name) }.authenticated())
}

/// Whether a JSON Web Key (RFC 7517) signed the token.
pub(super) fn verifies(key: &Value, token: &Parsed<'_>) -> bool {
    let text = |field: &str| key[field].as_str().unwrap_or_default();
    let named = token.key_id.is_empty() || text("kid") == token.key_id;
    let for_signing = matches!(text("use"), "" | "sig");
    let algorithm = token.algorithm.as_str();
    if !named || !for_signing || !matches!(text("alg"), "") && text("alg") != algorithm {
        return false;
    }
    let bytes = |field: &str| BASE64.decode(text(field)).unwrap_or_default();
    let rsa: Option<&'static sig::RsaParameters> = match algorithm {
        "RS256" => Some(&sig::RSA_PKCS1_2048_8192_SHA256),
        "RS384" => Some(&sig::RSA_PKCS1_2048_8192_SHA384),
        "RS512" => Some(&sig::RSA_PKCS1_2048_8192_SHA512),
        "PS256" => Some(&sig::RSA_PSS_2048_8192_SHA256),
        "PS384" => Some(&sig::RSA_PSS_2048_8192_SHA384),
        "PS512" => Some(&sig::RSA_PSS_2048_8192_SHA512),
        _ => None,
    };
    if let Some(parameters) = rsa.filter(|_| text("kty") == "RSA") {
        let key = sig::RsaPublicKeyComponents { n: bytes("n"), e: bytes("e") };
        return key.verify(parameters, token.signed(), token.signature()).is_ok();
    }
    let curve: Option<&'static dyn sig::VerificationAlgorithm> =
        match (algorithm, text("kty"), text("crv")) {
            ("ES256", "EC", "P-256") => Some(&sig::ECDSA_P256_SHA256_FIXED),
            ("ES384", "EC", "P-384") => Some(&sig::ECDSA_P384_SHA384_FIXED),
            ("EdDSA", "OKP", "Ed25519") => Some(&sig::ED25519),
            _ => None,
        };
    let Some(curve) = curve else { return false };
    let point = if text("kty") == "OKP" {
        bytes("x")
    } else {
        // An uncompressed point (SEC 1, section 2.3.3).
        [&[4][..], &bytes("x"), &bytes("y")].concat()
    };
    sig::UnparsedPublicKey::new(curve, point).verify(token.signed(), token.signature()).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::jwt::TokenKey;

    fn authority() -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed(vec!["i".to_owned()]).unwrap();
        made.cert.pem().into_bytes()
    }

    fn config() -> OidcConfig {
        OidcConfig {
            issuer: "https://i".to_owned(),
            audiences: vec!["hub".to_owned()],
            username_claim: "sub".to_owned(),
            username_prefix: "i#".to_owned(),
            groups_claim: "groups".to_owned(),
            groups_prefix: String::new(),
            required_claims: vec![("team".to_owned(), "x".to_owned())],
            ca_pem: authority(),
        }
    }

    #[test]
    fn claims_name_user_and_groups() {
        for (field, value, expected) in [
            ("sub", json!("jane"), Ok("i#jane")),
            ("sub", json!(""), Err("sub")),
            ("sub", json!(5), Err("sub")),
        ] {
            let mut claims = json!({"groups": ["dev", "system:masters"]});
            claims[field] = value;
            let user = user_of(&config(), &claims);
            match (&user, expected) {
                (Ok(user), Ok(name)) => {
                    assert_eq!(user.name, name);
                    assert_eq!(user.groups, ["dev", "system:authenticated"]);
                }
                (Err(OidcError::Claim { claim }), Err(expected)) => assert_eq!(claim, expected),
                _ => panic!("{field} {user:?}"),
            }
        }
        let bare = OidcConfig { username_prefix: String::new(), ..config() };
        assert!(user_of(&bare, &json!({"sub": "system:admin"})).is_err());
        let by_mail = OidcConfig { username_claim: "email".to_owned(), ..config() };
        for (verified, good) in
            [(json!(true), true), (json!(false), false), (json!("false"), false)]
        {
            let claims = json!({"email": "a@b", "email_verified": verified});
            assert_eq!(user_of(&by_mail, &claims).is_ok(), good, "{claims}");
        }
    }

    #[tokio::test]
    async fn an_issuer_that_is_asked_holds_up_nobody_whose_key_is_known() {
        let issuer = OidcIssuer::new(config()).unwrap();
        let key = TokenKey::from_pkcs8(&TokenKey::generate().unwrap()).unwrap();
        let now = Timestamp::from_second(1_000_000).unwrap();
        let token = key.sign(&json!({"iss": "https://i", "aud": "hub", "sub": "jane", "team": "x", "exp": 1_000_100}));
        // Somebody is waiting for the issuer's answer, and keys are due to be fetched again.
        let _asking = issuer.asking.lock().await;
        for asked in [Some(now), Some(now - jiff::SignedDuration::from_hours(2)), None] {
            *issuer.keys() = Keys { list: vec![key.to_jwk()], asked };
            let got = issuer.verify(token.as_ref().unwrap(), now);
            let got = tokio::time::timeout(std::time::Duration::from_secs(5), got).await.unwrap();
            assert!(matches!(got, Ok(Some(_))), "{asked:?} {got:?}");
        }
    }

    #[tokio::test]
    async fn tokens_are_verified_with_the_issuers_keys() {
        let issuer = OidcIssuer::new(config()).unwrap();
        let key = TokenKey::from_pkcs8(&TokenKey::generate().unwrap()).unwrap();
        let other = TokenKey::from_pkcs8(&TokenKey::generate().unwrap()).unwrap();
        let now = Timestamp::from_second(1_000_000).unwrap();
        *issuer.keys() = Keys { list: vec![key.to_jwk()], asked: Some(now) };
        let good =
            json!({"iss": "https://i", "aud": "hub", "sub": "jane", "team": "x", "exp": 1_000_100});
        for (field, value, ok) in [
            ("sub", json!("jane"), true),
            ("aud", json!(["a", "hub"]), true),
            ("aud", json!("a"), false),
            ("exp", json!(999_000), false),
            ("nbf", json!(1_001_000), false),
            ("team", json!("y"), false),
        ] {
            let mut claims = good.clone();
            claims[field] = value;
            let token = key.sign(&claims).unwrap();
            let got = issuer.verify(&token, now).await;
            assert_eq!(matches!(got, Ok(Some(_))), ok, "{field} {got:?}");
        }
        // Signed by another, unsigned, another issuer's.
        let forged = other.sign(&good).unwrap();
        assert!(matches!(issuer.verify(&forged, now).await, Err(OidcError::Signature)));
        let part = |it: &Value| BASE64.encode(it.to_string());
        let none = format!("{}.{}.", part(&json!({"alg": "none"})), part(&good));
        assert!(issuer.verify(&none, now).await.is_err());
        let elsewhere = key.sign(&json!({"iss": "https://j"})).unwrap();
        assert!(matches!(issuer.verify(&elsewhere, now).await, Ok(None)));
    }
}
