//! Who sends a request: bearer token, client certificate, or nobody; and as whom they act.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use hub_api::Status;

use super::Shared;
use crate::auth::{
    Attributes, AuthenticationError, Decision, UNAUTHENTICATED, User, account_of, chain, groups_of,
    is_locked_out, node_name_of,
};
use crate::request::body::RequestBody;
use crate::request::query::decode;
use crate::server::Peer;

/// Headers that say as whom somebody acts begin with this.
const IMPERSONATE: &str = "impersonate-";
const EXTRA: &str = "impersonate-extra-";
/// Paths that are open to those who show nothing.
const OPEN: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];

/// The sender. A certificate counts before a token; a token that is shown alone must be good.
pub(super) async fn sender(
    shared: &Shared,
    peer: &Peer,
    request: &Request<RequestBody>,
) -> Result<User, Status> {
    let headers = request.headers();
    match (&peer.user, bearer(headers)) {
        (Some(user), _) => certified(shared, peer, user),
        (None, Some(token)) => known(shared, peer, token).await,
        (None, None) if shared.authentication.anonymous || is_open(request.uri().path()) => {
            Ok(User::anonymous())
        }
        (None, None) => Err(Status::unauthorized()),
    }
}

/// The user of a certificate. Nodes are looked at each time: whose Node was deleted has lost its name at once, also on
/// connections that are open.
fn certified(shared: &Shared, peer: &Peer, user: &User) -> Result<User, Status> {
    let node = node_name_of(user);
    if node.is_some_and(|node| is_locked_out(&shared.registry, node, &peer.certificate)) {
        tracing::debug!(address = %peer.address, user = user.name, "Refused a node that is locked out");
        return Err(Status::unauthorized());
    }
    Ok(user.clone())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn is_open(path: &str) -> bool {
    OPEN.iter().any(|root| {
        path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

async fn known(shared: &Shared, peer: &Peer, token: &str) -> Result<User, Status> {
    match shared.authentication.token(&shared.registry, token, &[]).await {
        Ok(Some(verified)) => Ok(verified.user),
        Ok(None) => {
            tracing::debug!(address = %peer.address, "Refused an unknown bearer token");
            Err(Status::unauthorized())
        }
        Err(err) => {
            // Never the token itself, and nothing to the client: it may be guessing.
            tracing::debug!(address = %peer.address, error = chain(&err), "Refused a bearer token");
            Err(<Status as From<AuthenticationError>>::from(err))
        }
    }
}

/// Takes out of a request what must not reach those who serve it.
pub(super) fn forget(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    let names: Vec<HeaderName> =
        headers.keys().filter(|it| it.as_str().starts_with(IMPERSONATE)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// As whom the sender acts, if they may: as themselves, or as whom the headers say.
pub(super) fn acting(
    shared: &Shared,
    sender: &Arc<User>,
    headers: &HeaderMap,
) -> Result<Arc<User>, Status> {
    match wanted(headers)? {
        Some(wanted) => impersonated(shared, sender, wanted).map(Arc::new),
        None => Ok(sender.clone()),
    }
}

fn impersonated(shared: &Shared, user: &User, mut wanted: User) -> Result<User, Status> {
    let may = |attributes: Attributes<'_>| match shared.authorizer.authorize(&attributes) {
        Decision::Allow { .. } => Ok(()),
        Decision::Deny { reason } | Decision::NoOpinion { reason } => {
            Err(attributes.forbidden(&reason))
        }
    };
    let asks = Attributes { version: "v1", ..Attributes::of_user(user, "impersonate") };
    let account = account_of(&wanted.name);
    match account {
        Some((namespace, name)) => {
            may(Attributes { resource: "serviceaccounts", namespace, name, ..asks })?;
        }
        None => may(Attributes { resource: "users", name: &wanted.name, ..asks })?,
    }
    for group in &wanted.groups {
        may(Attributes { resource: "groups", name: group, ..asks })?;
    }
    let asks = Attributes { group: "authentication.k8s.io", ..asks };
    for (key, values) in &wanted.extra {
        for value in values {
            let resource = "userextras";
            may(Attributes { resource, subresource: key, name: value, ..asks })?;
        }
    }
    if !wanted.uid.is_empty() {
        may(Attributes { resource: "uids", name: &wanted.uid, ..asks })?;
    }
    let account = account.map(|(namespace, _)| groups_of(namespace));
    if let Some(groups) = account.filter(|_| wanted.groups.is_empty()) {
        wanted.groups = groups;
    }
    if wanted.name == "system:anonymous" {
        if !wanted.is_in(UNAUTHENTICATED) {
            wanted.groups.push(UNAUTHENTICATED.to_owned());
        }
        return Ok(wanted);
    }
    Ok(if wanted.is_in(UNAUTHENTICATED) { wanted } else { wanted.authenticated() })
}

/// As whom the sender wants to act; nothing if as themselves.
fn wanted(headers: &HeaderMap) -> Result<Option<User>, Status> {
    let name = texts(headers, "impersonate-user")?.into_iter().next().unwrap_or_default();
    let groups = texts(headers, "impersonate-group")?;
    let uid = texts(headers, "impersonate-uid")?.into_iter().next().unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in headers.keys().filter_map(|it| it.as_str().strip_prefix(EXTRA)) {
        let list = texts(headers, &format!("{EXTRA}{key}"))?;
        extra.entry(decode(&key.to_lowercase(), false)).or_default().extend(list);
    }
    if !name.is_empty() {
        return Ok(Some(User { name, uid, groups, extra }));
    }
    if groups.is_empty() && uid.is_empty() && extra.is_empty() {
        return Ok(None);
    }
    // Upstream answers so as well: whoever acts as nobody is not told more.
    Err(Status::internal("requested impersonation without impersonating a user"))
}

/// All values of a header. One that cannot be read is refused, never left out: whoever wants to act as somebody else
/// must not act as themselves.
fn texts(headers: &HeaderMap, name: &str) -> Result<Vec<String>, Status> {
    let text = |it: &HeaderValue| std::str::from_utf8(it.as_bytes()).map(str::to_owned);
    let all: Result<_, _> = headers.get_all(name).iter().map(text).collect();
    all.map_err(|_| Status::bad_request(format!("the header {name} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_acts_as_others_never_acts_as_themselves_by_mistake() {
        type Headers<'a> = &'a [(&'a str, &'a [u8])];
        let cases: [(Headers<'_>, Result<Option<&str>, u16>); 7] = [
            (&[], Ok(None)),
            (&[("impersonate-user", b"jane")], Ok(Some("jane"))),
            (&[("impersonate-user", "jörg".as_bytes())], Ok(Some("jörg"))),
            (&[("impersonate-user", b"j\xf6rg")], Err(400)),
            (&[("impersonate-user", b"jane"), ("impersonate-group", b"\xff")], Err(400)),
            (&[("impersonate-user", b"jane"), ("impersonate-extra-x", b"\xff")], Err(400)),
            (&[("impersonate-group", b"dev")], Err(500)),
        ];
        for (pairs, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(name, HeaderValue::from_bytes(value).unwrap());
            }
            let got = wanted(&headers);
            let got = got.map(|it| it.map(|it| it.name)).map_err(|it| it.code);
            assert_eq!(got, expected.map(|it| it.map(str::to_owned)), "{pairs:?}");
        }
    }
}
