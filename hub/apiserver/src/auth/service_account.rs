//! Tokens of service accounts: JSON Web Tokens that this hub signs and verifies. A token lives no
//! longer than its account and the object that it is bound to.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hub_api::{Resource, Status, object, resources};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::authentication::Verified;
use super::jwt::{Parsed, TokenKey, TokenKeyError};
use super::{User, same_secret};
use crate::registry::Registry;

/// How long a deleted account's tokens are still good: it may be coming back with the same UID
/// nowhere, but its deletion may still be on its way to others.
const DELETION_LEEWAY: i64 = 60;
/// Clocks of those who verify and of those who sign may differ by so many seconds.
const CLOCK_LEEWAY: i64 = 60;
/// Prefix of user names.
const USER_PREFIX: &str = "system:serviceaccount:";
/// Life for which the token is asked that admission mounts: it tells this token from others.
const MOUNTED_SECONDS: i64 = hub_api::admission::service_account::TOKEN_SECONDS;
/// What such a token really lives, as upstream has it: a pod that was out of reach for long finds
/// its token still good, and one whose program reads its token only once goes on.
const EXTENDED_SECONDS: i64 = 365 * 86_400;
/// Issuer of tokens that are kept as Secrets.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// Signs and verifies tokens of service accounts.
#[derive(Debug)]
pub struct ServiceAccountTokens {
    issuer: String,
    audiences: Vec<String>,
    /// The first signs, all verify. Never empty.
    keys: RwLock<Arc<[TokenKey]>>,
    max_life: Duration,
    extends: bool,
}

/// Why a token of a service account is not good.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenError {
    /// None of our keys signed it.
    #[error("could not verify the signature")]
    Signature,
    /// Meant for others.
    #[error("token audiences {found:?} is invalid for the target audiences {wanted:?}")]
    Audience {
        /// For whom it is.
        found: Vec<String>,
        /// For whom it should be.
        wanted: Vec<String>,
    },
    /// Too old.
    #[error("service account token has expired")]
    Expired,
    /// Not good yet.
    #[error("service account token is not valid yet")]
    Early,
    /// A claim is missing or not as it must be.
    #[error("could not use the claim {claim}")]
    Claim {
        /// Which.
        claim: &'static str,
    },
    /// What the token stands for or is bound to is not there any more.
    #[error("service account token has been invalidated")]
    Invalidated,
}

/// What is to be known of a token that was made.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) warnings: Vec<String>,
    /// Seconds.
    pub(super) life: i64,
}

/// What a token is bound to.
#[derive(Clone, Debug)]
struct Binding {
    /// `pod`, `secret` or `node`.
    claim: &'static str,
    name: String,
    uid: String,
    /// Of a pod: where it runs, name and UID.
    node: Option<(String, String)>,
}

impl ServiceAccountTokens {
    /// `keys` begins with the one that signs; `audiences` are this API's own.
    ///
    /// # Errors
    /// There is no key.
    pub fn new(
        issuer: String,
        audiences: Vec<String>,
        keys: Vec<TokenKey>,
        max_life: Duration,
    ) -> Result<Self, TokenKeyError> {
        if keys.is_empty() {
            return Err(TokenKeyError::Make);
        }
        let audiences = if audiences.is_empty() { vec![issuer.clone()] } else { audiences };
        let keys = RwLock::new(keys.into());
        Ok(Self { issuer, audiences, keys, max_life, extends: false })
    }

    /// Whether mounted tokens live for a year, whatever `max_life` says.
    #[must_use]
    pub fn extending(self, extends: bool) -> Self {
        Self { extends, ..self }
    }

    /// Takes other keys, as when another hub has made one: the first signs. None changes nothing.
    pub fn replace_keys(&self, keys: Vec<TokenKey>) {
        if !keys.is_empty() {
            *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
        }
    }

    fn keys(&self) -> Arc<[TokenKey]> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The issuer in tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// This API's own audiences.
    pub(crate) fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// `/openid/v1/jwks`
    pub(crate) fn jwks(&self) -> Value {
        json!({ "keys": self.keys().iter().map(TokenKey::to_jwk).collect::<Vec<_>>() })
    }

    /// `/.well-known/openid-configuration`
    pub(crate) fn configuration(&self, jwks_uri: &str) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// Answers a `TokenRequest` for an account: fills in what is left out and adds the status.
    /// Returns warnings for the client.
    ///
    /// # Errors
    /// The account or the bound object does not exist, or does not fit.
    pub fn request(
        &self,
        registry: &Registry,
        namespace: &str,
        name: &str,
        request: &mut Value,
    ) -> Result<Vec<String>, Status> {
        self.issue(registry, namespace, name, request).map(|it| it.warnings)
    }

    /// The same; says besides how long the token really lives.
    pub(super) fn issue(
        &self,
        registry: &Registry,
        namespace: &str,
        name: &str,
        request: &mut Value,
    ) -> Result<Issued, Status> {
        check_request(request)?;
        let account = registry.get(row("serviceaccounts")?, Some(namespace), name)?;
        let spec = object::ensure(request, "spec");
        let audiences = match spec.get("audiences").and_then(Value::as_array) {
            Some(list) if !list.is_empty() => json!(list),
            Some(_) | None => json!(self.audiences),
        };
        spec.insert("audiences".to_owned(), audiences.clone());
        let wanted = spec.get("expirationSeconds").and_then(Value::as_i64).unwrap_or(3600);
        let max = i64::try_from(self.max_life.as_secs()).unwrap_or(i64::MAX);
        let seconds = wanted.min(max);
        let mut warnings = Vec::new();
        if seconds < wanted {
            warnings.push(format!(
                "requested expiration of {wanted} seconds shortened to {seconds} seconds"
            ));
        }
        spec.insert("expirationSeconds".to_owned(), json!(seconds));
        let bound = spec.get("boundObjectRef").cloned().filter(Value::is_object);
        let binding = bound.map(|it| bind(registry, namespace, name, &it)).transpose()?;
        let now = registry.now();
        let is_pods = binding.as_ref().is_some_and(|it| it.claim == "pod");
        let extended = is_pods && self.extends && seconds == MOUNTED_SECONDS;
        let extended = extended && self.are_own(&audiences);
        let life = if extended { EXTENDED_SECONDS } else { seconds };
        let mut claims = self.claims(namespace, &account.value(), binding.as_ref(), now, life);
        if extended && let Some(ours) = claims.get_mut("kubernetes.io") {
            ours["warnafter"] = json!(now.as_second().saturating_add(seconds));
        }
        claims.insert("aud".to_owned(), audiences);
        let token = self.sign(&claims.into())?;
        let until = Timestamp::from_second(now.as_second().saturating_add(seconds))
            .map_err(Status::internal)?;
        object::as_map(request).insert(
            "status".to_owned(),
            json!({ "token": token, "expirationTimestamp": hub_api::time::format(until) }),
        );
        Ok(Issued { warnings, life })
    }

    /// Whether a token for these audiences is for this API and nobody else.
    fn are_own(&self, audiences: &Value) -> bool {
        let mut audiences = audiences.as_array().into_iter().flatten();
        audiences.all(|it| self.audiences.iter().any(|own| it == own))
    }

    fn claims(
        &self,
        namespace: &str,
        account: &Value,
        binding: Option<&Binding>,
        now: Timestamp,
        seconds: i64,
    ) -> Map<String, Value> {
        let name = object::name(account);
        let mut ours = Map::new();
        ours.insert("namespace".to_owned(), json!(namespace));
        ours.insert(
            "serviceaccount".to_owned(),
            json!({ "name": name, "uid": object::uid(account) }),
        );
        if let Some(it) = binding {
            ours.insert(it.claim.to_owned(), json!({ "name": it.name, "uid": it.uid }));
            if let Some((name, uid)) = &it.node {
                ours.insert("node".to_owned(), json!({ "name": name, "uid": uid }));
            }
        }
        let issued = now.as_second();
        let mut claims = Map::new();
        for (claim, value) in [
            ("exp", json!(issued.saturating_add(seconds))),
            ("iat", json!(issued)),
            ("iss", json!(self.issuer)),
            ("jti", json!(uuid::Uuid::new_v4().to_string())),
            ("kubernetes.io", ours.into()),
            ("nbf", json!(issued)),
            ("sub", json!(format!("{USER_PREFIX}{namespace}:{name}"))),
        ] {
            claims.insert(claim.to_owned(), value);
        }
        claims
    }

    /// The token that a Secret of type `kubernetes.io/service-account-token` holds.
    ///
    /// # Errors
    /// Signing failed.
    pub fn legacy(&self, namespace: &str, secret: &str, account: &Value) -> Result<String, Status> {
        let name = object::name(account);
        self.sign(&json!({
            "iss": LEGACY_ISSUER,
            "kubernetes.io/serviceaccount/namespace": namespace,
            "kubernetes.io/serviceaccount/secret.name": secret,
            "kubernetes.io/serviceaccount/service-account.name": name,
            "kubernetes.io/serviceaccount/service-account.uid": object::uid(account),
            "sub": format!("{USER_PREFIX}{namespace}:{name}"),
        }))
    }

    fn sign(&self, claims: &Value) -> Result<String, Status> {
        let keys = self.keys();
        let key = keys.first().ok_or_else(|| Status::internal("there is no key"))?;
        key.sign(claims).map_err(Status::internal)
    }

    /// The user of a token; nothing if it is no token of ours.
    pub(super) fn verify(
        &self,
        registry: &Registry,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Verified>, TokenError> {
        let Some(parsed) = Parsed::new(token) else { return Ok(None) };
        let is_legacy = match parsed.claims["iss"].as_str() {
            Some(LEGACY_ISSUER) => true,
            Some(issuer) if issuer == self.issuer => false,
            _ => return Ok(None),
        };
        let named = |key: &&TokenKey| parsed.key_id.is_empty() || key.id() == parsed.key_id;
        if !self.keys().iter().filter(named).any(|key| key.verifies(&parsed)) {
            return Err(TokenError::Signature);
        }
        if is_legacy {
            return legacy_user(registry, &parsed, token)
                .map(|user| Some(Verified { user, audiences: Vec::new() }));
        }
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let found = parsed.audiences();
        let both: Vec<String> = wanted.iter().filter(|it| found.contains(it)).cloned().collect();
        if both.is_empty() {
            return Err(TokenError::Audience { found, wanted: wanted.to_vec() });
        }
        check_times(&parsed.claims, registry.now())?;
        let user = bound_user(registry, &parsed.claims)?;
        Ok(Some(Verified { user, audiences: both }))
    }
}

fn row(plural: &str) -> Result<&'static Resource, Status> {
    resources::find("", "v1", plural).ok_or_else(Status::no_such_resource)
}

fn check_request(request: &Value) -> Result<(), Status> {
    let mut errors = Vec::new();
    let seconds = object::int(request, "spec.expirationSeconds");
    let detail = match seconds {
        Some(it) if it < 600 => Some("may not specify a duration less than 10 minutes"),
        Some(it) if it > 1 << 32 => Some("may not specify a duration larger than 2^32 seconds"),
        Some(_) | None => None,
    };
    if let (Some(detail), Some(seconds)) = (detail, seconds) {
        errors.push(hub_api::FieldError::invalid("spec.expirationSeconds", seconds, detail));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("authentication.k8s.io", "TokenRequest", object::name(request), errors))
}

/// Finds the object that a token is to be bound to.
fn bind(
    registry: &Registry,
    namespace: &str,
    account: &str,
    reference: &Value,
) -> Result<Binding, Status> {
    let text = |field: &str| object::text(reference, field);
    let (kind, version, name) = (text("kind"), text("apiVersion"), text("name"));
    let (claim, plural) = match (version, kind) {
        ("v1", "Pod") => ("pod", "pods"),
        ("v1", "Secret") => ("secret", "secrets"),
        ("v1", "Node") => ("node", "nodes"),
        _ => {
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {group}/{version}, Kind={kind}"
            )));
        }
    };
    let place = (claim != "node").then_some(namespace);
    let entry = registry.get(row(plural)?, place, name)?;
    let bound = entry.value();
    let uid = object::uid(&bound).to_owned();
    let wanted = text("uid");
    if !wanted.is_empty() && wanted != uid {
        return Err(Status::conflict(
            "",
            kind,
            name,
            &format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        ));
    }
    let mut node = None;
    if claim == "pod" {
        let own = object::text(&bound, "spec.serviceAccountName");
        if own != account {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount \"{account}\" to pod running with different serviceaccount name."
            )));
        }
        let node_name = object::text(&bound, "spec.nodeName");
        node = registry
            .get(row("nodes")?, None, node_name)
            .ok()
            .map(|it| (node_name.to_owned(), object::uid(&it.value()).to_owned()));
    }
    Ok(Binding { claim, name: name.to_owned(), uid, node })
}

fn check_times(claims: &Value, now: Timestamp) -> Result<(), TokenError> {
    let now = now.as_second();
    let time = |claim: &'static str| claims[claim].as_i64().ok_or(TokenError::Claim { claim });
    if now.saturating_sub(CLOCK_LEEWAY) >= time("exp")? {
        return Err(TokenError::Expired);
    }
    if now.saturating_add(CLOCK_LEEWAY) < time("nbf")? {
        return Err(TokenError::Early);
    }
    Ok(())
}

/// The user of a token with `kubernetes.io` claims, if all that it names is still there.
fn bound_user(registry: &Registry, claims: &Value) -> Result<User, TokenError> {
    let ours = &claims["kubernetes.io"];
    let pair = |claim: &str| {
        let it = ours.get(claim)?;
        Some((it["name"].as_str()?.to_owned(), it["uid"].as_str()?.to_owned()))
    };
    let claim = |claim| TokenError::Claim { claim };
    let namespace = ours["namespace"].as_str().ok_or_else(|| claim("kubernetes.io.namespace"))?;
    let (name, uid) =
        pair("serviceaccount").ok_or_else(|| claim("kubernetes.io.serviceaccount"))?;
    if claims["sub"] != format!("{USER_PREFIX}{namespace}:{name}") {
        return Err(claim("sub"));
    }
    must_exist(registry, "serviceaccounts", Some(namespace), &name, &uid)?;
    let mut user = user_of(namespace, &name, &uid);
    let mut note = |key: &str, value: &str| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    };
    if let Some(id) = claims["jti"].as_str() {
        note("credential-id", &format!("JTI={id}"));
    }
    if let Some((name, uid)) = pair("secret") {
        must_exist(registry, "secrets", Some(namespace), &name, &uid)?;
    }
    let node = pair("node");
    match pair("pod") {
        Some((name, uid)) => {
            must_exist(registry, "pods", Some(namespace), &name, &uid)?;
            note("pod-name", &name);
            note("pod-uid", &uid);
        }
        // A pod's token names its node only to tell; a node's token ends with the node.
        None => {
            if let Some((name, uid)) = &node {
                must_exist(registry, "nodes", None, name, uid)?;
            }
        }
    }
    if let Some((name, uid)) = &node {
        note("node-name", name);
        note("node-uid", uid);
    }
    Ok(user)
}

fn must_exist(
    registry: &Registry,
    plural: &str,
    namespace: Option<&str>,
    name: &str,
    uid: &str,
) -> Result<(), TokenError> {
    let resource = row(plural).map_err(|_| TokenError::Invalidated)?;
    let entry = registry.get(resource, namespace, name).map_err(|_| TokenError::Invalidated)?;
    let object = &*entry.value();
    let deleted = hub_api::time::parse(object::text(object, "metadata.deletionTimestamp"));
    let now = registry.now().as_second();
    let is_over = deleted.is_some_and(|it| it.as_second().saturating_add(DELETION_LEEWAY) < now);
    if object::uid(object) == uid && !is_over { Ok(()) } else { Err(TokenError::Invalidated) }
}

fn user_of(namespace: &str, name: &str, uid: &str) -> User {
    let user = User {
        uid: uid.to_owned(),
        groups: groups_of(namespace),
        ..User::named(format!("{USER_PREFIX}{namespace}:{name}"))
    };
    user.authenticated()
}

/// Groups of the service accounts of a namespace.
pub(crate) fn groups_of(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}

/// Namespace and name of the service account that a user is.
pub(crate) fn account_of(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix(USER_PREFIX)?.split_once(':').filter(|(_, name)| !name.contains(':'))
}

/// The user of a token that a Secret holds: it is good while the Secret holds it.
fn legacy_user(registry: &Registry, token: &Parsed<'_>, text: &str) -> Result<User, TokenError> {
    let claim = |name: &'static str| {
        token.claims[name]
            .as_str()
            .filter(|it| !it.is_empty())
            .ok_or(TokenError::Claim { claim: name })
    };
    let namespace = claim("kubernetes.io/serviceaccount/namespace")?;
    let name = claim("kubernetes.io/serviceaccount/service-account.name")?;
    let uid = claim("kubernetes.io/serviceaccount/service-account.uid")?;
    let secret = claim("kubernetes.io/serviceaccount/secret.name")?;
    let secrets = row("secrets").map_err(|_| TokenError::Invalidated)?;
    let entry =
        registry.get(secrets, Some(namespace), secret).map_err(|_| TokenError::Invalidated)?;
    let held = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        entry.value()["data"]["token"].as_str().unwrap_or_default(),
    )
    .unwrap_or_default();
    let same = same_secret(&held, text.as_bytes());
    if !same || object::is_terminating(&entry.value()) {
        return Err(TokenError::Invalidated);
    }
    must_exist(registry, "serviceaccounts", Some(namespace), name, uid)?;
    Ok(user_of(namespace, name, uid))
}
