//! Tokens of an OpenID Connect issuer that answers over real TLS, and changes its keys.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http_body_util::Full;
use hub_api::Clock;
use hub_apiserver::auth::{OidcConfig, OidcIssuer};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::admission::issue;
use crate::harness::World;

/// An RSA key of this test and of nothing else, PKCS#8.
const RSA_KEY: &str = "\
MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQDQcQYSWm557ENK8gne7A1J6x4ZqTbgB3hgwfAYXXBt+PIr\
POPvr0CJqaYmRAagIotef3CJzENynA6hlPLwm6dxU3xVLGWpXUqnGtXv2ErIGcT1O7YHx1wsMTbyKv8wMvZm9UHKJ9WKpGJb\
sru5jXGvpRP9x3rK8/Xy7MdzbHV8B7ZlsknMYdFFj8ZfNrjrdTX6z5NT7BF6E7ZfdNUVBODVviQOIwTHo1szkmJwitveVAjF\
xRjcmDEYi+ebhXk4ukXdFZC6ussG8SenVCW8ll09JoUhwuX34BxpQDScoPUBCPV1i2UvXEMSXam8P9LsLywBs2cZKO8SHcfG\
/4I6t2idAgMBAAECggEADG6epZaWM0MXtQ8gQ+xWqJDTlUU7RtEQlCN3vgRIsePLZy/KX9/XMhQXxagrWv65yvOVPerHH71W\
FBDDDVMYrBDbgBBV/0GCCTB3unFEmJBiPRwyxwj+zYtL6IAPA2FuwoT18mg+JiGYKjmhVQ0Dea3stidhLVyv+oK2ggMMiM6o\
uTH0MbMKcWgu1dZGHhY56SfpFV9ptrqSxGiloCoUJfcW4fU60rHhHGm6OP5WdgoAW5q0atxgKSS4cQaRxz92mMg5sdRWk1M3\
/nxxThdsALRt8+BGY2A1oyBsviZLsOTBKbMFUDMHCYdAXj4FPi0oA++Ajs/MPXVPYbF9Rv//0wKBgQDssSklo9FzCwtALIOP\
GEz/RsdMO5TME0R48+EBTjwpRREzlGokpNWwHh2XM+ApfVY3R1uuAES6ehOYRO10NHTtqUBu3zH7pcVZAHOmeqYhIz9oU5U8\
/cEjLohZ17s73F7y7cpuZj5Fl4Om7+HR6KJt8N+jCe9PBEH5YDVfm0XsmwKBgQDhceg42Bc9rqDB7RLwQUV9M/OFzr/KsReZ\
Q5P0u0838yOfQCLFDHqdTN+lsfidPmRXzSxub8ZIEwWgbIWxyZWjSODVy41TCrv37nyGeG9v7itE6RpPvom/Y2KUqk4H3/dB\
O00E8H/lq22jYwTCnoMXb3aGytaeY541v666fXpnJwKBgDvdk0qx5If0gyP4Hk5TFyZ6AG6Ho1r6hJcTGBX8c7r8fR1OrIoY\
JvQkqddUh5321ZeltMqNxtRjjBE3XdfGbMyvwlxIl5vOkduxAY9Z9irrf14jxdtnUzJS0qnmprS9SEapXkoOEjIH4ISYp8Uv\
0eV8xxO1r5GMwiMQ8m78FvOBAoGAPwbrV0kCZlo100GGM+jrlm85u8TrVa1g3ZZI/PiI0ymEYfc6QUCV3vgo5lf1G3Df+LQB\
ofZZxriasBjm36dt0DKFuP+pSPgNSOlBow50iSRasG9CzdyFAh605r8eBZGVvITpqWHbP8hHZJBAOnC6UYj16AU5LxrGllw6\
ayS9Xa0CgYBxQNsDc8klCz/v6ru6Kgcw3x82y5LvhgiQLnlzYg9hep7AtPQHQkvzhLAc1lLztzCfCvDT0/BeeNrn6PkN+qrF\
iTh55Ftd/90TtCAjYwwMzGXjHbecBn/xGJBeLduH3VGutd4Md9UcP8fZUuogN8SHm5Kg9uvW+doZavxVPBF46Q==";

enum Key {
    Ec(EcdsaKeyPair),
    Rsa(rsa::KeyPair),
}

impl Key {
    fn ec() -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        Self::Ec(EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random).unwrap())
    }

    fn rsa() -> Self {
        Self::Rsa(rsa::KeyPair::from_pkcs8(&STANDARD.decode(RSA_KEY).unwrap()).unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ec(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    fn to_jwk(&self, id: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Ec(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "alg": "ES256",
                    "x": text(x), "y": text(y)})
            }
            Self::Rsa(key) => {
                let public: rsa::PublicKeyComponents<Vec<u8>> = key.public().into();
                json!({"kty": "RSA", "kid": id, "use": "sig", "alg": "RS256",
                    "n": text(&public.n), "e": text(&public.e)})
            }
        }
    }

    fn token(&self, id: &str, claims: &Value) -> String {
        let head = json!({"alg": self.algorithm(), "typ": "JWT", "kid": id});
        let part = |it: &Value| URL_SAFE_NO_PAD.encode(it.to_string());
        let signed = format!("{}.{}", part(&head), part(claims));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Ec(key) => key.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Rsa(key) => {
                let mut out = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut out).unwrap();
                out
            }
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Serves discovery and keys.
struct Issuer {
    url: String,
    ca_pem: String,
    keys: Arc<Mutex<Vec<Value>>>,
    asked: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Issuer {
    async fn new(keys: Vec<Value>) -> Self {
        let (ca, config) = issue(vec!["localhost".to_owned()]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (keys, asked) = (Arc::new(Mutex::new(keys)), Arc::new(AtomicUsize::new(0)));
        let (shown, counted, issuer) = (keys.clone(), asked.clone(), url.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(tls) = acceptor.accept(stream).await else { continue };
                let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    let answer = match request.uri().path() {
                        "/.well-known/openid-configuration" => {
                            json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")})
                        }
                        _ => json!({"keys": *shown.lock().unwrap()}),
                    };
                    let body = Full::new(bytes::Bytes::from(answer.to_string()));
                    async { Ok::<_, std::convert::Infallible>(http::Response::new(body)) }
                });
                let http = hyper::server::conn::http1::Builder::new();
                // One question a connection: that is how they are asked.
                let _ = http.serve_connection(TokioIo::new(tls), service).await;
            }
        });
        Self { url, ca_pem: ca.pem(), keys, asked, _serving: serving }
    }

    fn config(&self) -> OidcConfig {
        OidcConfig {
            issuer: self.url.clone(),
            audiences: vec!["hub".to_owned()],
            username_claim: "email".to_owned(),
            username_prefix: "oidc:".to_owned(),
            groups_claim: "groups".to_owned(),
            groups_prefix: "oidc:".to_owned(),
            required_claims: vec![("team".to_owned(), "x".to_owned())],
            ca_pem: self.ca_pem.clone().into_bytes(),
        }
    }

    fn claims(&self, world: &World) -> Value {
        json!({"iss": self.url, "aud": ["hub", "other"], "sub": "1", "email": "jane@x",
            "email_verified": true, "team": "x", "groups": ["dev"],
            "exp": world.clock.now().as_second() + 3600})
    }
}

/// The user that a token stands for, or the code of the refusal.
async fn who(world: &mut World, token: &str) -> Result<Value, u16> {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let reply = world.send("POST", path, &headers, "{}").await;
    if reply.code == 201 { Ok(reply.json()["status"]["userInfo"].clone()) } else { Err(reply.code) }
}

#[tokio::test]
async fn an_issuer_names_users_and_changes_its_keys() {
    let (first, second) = (Key::ec(), Key::rsa());
    let issuer = Issuer::new(vec![first.to_jwk("a")]).await;
    let mut world = World::with_issuer(OidcIssuer::new(issuer.config()).unwrap()).await;
    let claims = issuer.claims(&world);
    let expected =
        json!({"username": "oidc:jane@x", "groups": ["oidc:dev", "system:authenticated"]});
    let token = first.token("a", &claims);
    for _ in 0..2 {
        assert_eq!(who(&mut world, &token).await, Ok(expected.clone()));
    }
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 2, "discovery and keys, once");

    // Not every unknown key makes us ask; after a while one does.
    let token = second.token("b", &claims);
    *issuer.keys.lock().unwrap() = vec![second.to_jwk("b")];
    assert_eq!(who(&mut world, &token).await, Err(401));
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 2);
    world.clock.advance(31);
    assert_eq!(who(&mut world, &token).await, Ok(expected));
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 4);
    let withdrawn = first.token("a", &claims);
    assert_eq!(who(&mut world, &withdrawn).await, Err(401));
    world.stop().await;
}

#[tokio::test]
async fn what_an_issuer_did_not_mean_for_us_is_refused() {
    let (key, stranger) = (Key::ec(), Key::ec());
    let issuer = Issuer::new(vec![key.to_jwk("a")]).await;
    let mut world = World::with_issuer(OidcIssuer::new(issuer.config()).unwrap()).await;
    let good = issuer.claims(&world);
    assert!(who(&mut world, &key.token("a", &good)).await.is_ok());
    let now = world.clock.now().as_second();
    for (claim, value) in [
        ("aud", json!("other")),
        ("exp", json!(now - 61)),
        ("nbf", json!(now + 120)),
        ("iss", json!("https://elsewhere")),
        ("team", json!("y")),
        ("email_verified", json!(false)),
        ("email", json!(null)),
    ] {
        let mut claims = good.clone();
        claims[claim] = value;
        assert_eq!(who(&mut world, &key.token("a", &claims)).await, Err(401), "{claim}");
    }
    assert_eq!(
        who(&mut world, &stranger.token("a", &good)).await,
        Err(401),
        "another\'s signature"
    );
    let token = key.token("a", &good);
    let (signed, _) = token.rsplit_once('.').unwrap();
    assert_eq!(who(&mut world, &format!("{signed}.")).await, Err(401), "no signature");
    world.stop().await;
}
