//! Fuzz targets: tokens, and what issuers say.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tests_fuzz::Target;

use super::jwt::{Parsed, TokenKey};
use super::oidc::{self, OidcConfig};
use super::{bootstrap_token, rbac};

fn token(header: &Value, claims: &Value) -> String {
    let part = |it: &Value| URL_SAFE_NO_PAD.encode(it.to_string());
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode([7; 64]))
}

/// The input is a token, or its header, claims and a key of the issuer as a list.
#[test]
fn tokens() {
    let key = TokenKey::from_pkcs8(&TokenKey::generate().unwrap()).unwrap();
    let claims = json!({"iss": "https://a.b", "sub": "u", "aud": ["c"], "exp": 2_000_000_000, "nbf": 1, "iat": 1, "groups": ["g"], "email": "a@b", "email_verified": true, "kubernetes.io": {"namespace": "n", "serviceaccount": {"name": "s", "uid": "u"}}});
    let signed = key.sign(&claims).unwrap();
    let list = json!([{"alg": "ES256", "kid": "a"}, claims, {"kty": "EC", "crv": "P-256", "kid": "a", "x": "AA", "y": "AA", "n": "AQAB", "e": "AQAB", "alg": "ES256", "use": "sig"}]).to_string();
    let words = &[
        "none",
        "HS256",
        "RS256",
        "ES384",
        "EdDSA",
        "PS512",
        "RSA",
        "OKP",
        "Ed25519",
        "aud",
        "exp",
        "sub",
        "groups",
        "eyJ",
        ".",
        "system:masters",
    ];
    let config = OidcConfig {
        issuer: "https://a.b".to_owned(),
        audiences: vec!["c".to_owned()],
        username_claim: "sub".to_owned(),
        username_prefix: "x:".to_owned(),
        groups_claim: "groups".to_owned(),
        groups_prefix: "x:".to_owned(),
        required_claims: Vec::new(),
        ca_pem: Vec::new(),
    };
    Target::new("tokens", &[signed.as_bytes(), list.as_bytes(), b"abcdef.0123456789abcdef"])
        .words(words)
        .runs(3000)
        .check(|input| {
            let text = String::from_utf8_lossy(input);
            let _ = bootstrap_token::parse(&text);
            let Ok(Value::Array(parts)) = serde_json::from_slice(input) else {
                let Some(parsed) = Parsed::new(&text) else { return false };
                assert!(!key.verifies(&parsed) || text == signed, "nothing else is signed");
                parsed.audiences();
                return true;
            };
            let [header, claims, key_of_issuer, ..] = parts.as_slice() else { return false };
            let text = token(header, claims);
            if let Ok(user) = oidc::user_of(&config, claims) {
                assert!(
                    user.name.starts_with("x:")
                        && user.groups.iter().all(
                            |it| it.starts_with("x:") || it.starts_with("system:authenticated")
                        )
                );
            }
            let Some(parsed) = Parsed::new(&text) else { return false };
            assert!(!key.verifies(&parsed), "nobody signed it");
            assert!(!oidc::verifies(key_of_issuer, &parsed), "nobody signed it");
            true
        });
}

#[test]
fn roles() {
    let seeds: &[&[u8]] = &[
        br#"{"rules":[{"apiGroups":["","apps"],"resources":["pods/log","*/scale"],"resourceNames":["a"],"verbs":["get","*"]},{"nonResourceURLs":["/x/*"],"verbs":["get"]}]}"#,
    ];
    Target::new("roles", seeds).words(&["*", "rules", "verbs", "resources", "/"]).check(|input| {
        let Ok(role) = serde_json::from_slice::<Value>(input) else { return false };
        !rbac::PolicyRule::all_of(&role).is_empty()
    });
}
