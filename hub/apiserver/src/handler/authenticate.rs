//! Who sends a request: bearer token, client certificate, or nobody. Masters may act as others.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use hub_api::Status;

use super::Shared;
use crate::auth::{Attributes, Decision, User};
use crate::server::Peer;

/// The sender. A token that is shown must be good, even beside a certificate that would do.
pub(super) fn user(shared: &Shared, peer: &Peer, headers: &HeaderMap) -> Result<User, Status> {
    let token = headers
        .get(AUTHORIZATION)
        .and_then(|it| it.to_str().ok())
        .and_then(|it| it.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let user = match (&peer.user, token) {
        (Some(user), _) => User::clone(user),
        (None, Some(token)) => shared.tokens.user(token).cloned().ok_or_else(|| {
            tracing::debug!(address = %peer.address, "Refused an unknown bearer token");
            Status::unauthorized()
        })?,
        (None, None) => User::anonymous(),
    };
    impersonated(shared, user, headers)
}

/// The user that the sender wants to be, if they may.
fn impersonated(shared: &Shared, user: User, headers: &HeaderMap) -> Result<User, Status> {
    let values = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|it| it.to_str().ok()).map(str::to_owned).collect()
    };
    let name = values("impersonate-user").pop().unwrap_or_default();
    let groups = values("impersonate-group");
    let uid = values("impersonate-uid").pop().unwrap_or_default();
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() {
            return Ok(user);
        }
        return Err(Status::internal("requested impersonation without impersonating a user"));
    }
    let targets = std::iter::once(("users", &name)).chain(groups.iter().map(|it| ("groups", it)));
    for (resource, target) in targets {
        let attributes =
            Attributes { resource, name: target, ..Attributes::of_user(&user, "impersonate") };
        match shared.authorizer.authorize(&attributes) {
            Decision::Allow { .. } => {}
            Decision::Deny { reason } | Decision::NoOpinion { reason } => {
                return Err(attributes.forbidden(&reason));
            }
        }
    }
    Ok(User { name, uid, groups, ..User::default() }.authenticated())
}
