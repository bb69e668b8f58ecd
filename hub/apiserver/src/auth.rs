//! Who sends a request, and what they may do.

mod authentication;
mod authorize;
mod bootstrap_token;
mod certificate;
mod feed;
mod fetch;
#[cfg(test)]
mod fuzz;
mod guard;
mod jwt;
mod node;
mod oidc;
mod pod_token;
pub mod rbac;
mod service_account;
mod tokens;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

pub(crate) use authentication::chain;
pub use authentication::{Authentication, AuthenticationError, Verified};
pub use authorize::{
    Attributes, Authorizer, Chain, Decision, MastersOnly, NonResourceRule, ResourceRule, Rules,
};
pub use bootstrap_token::BootstrapTokenError;
pub use certificate::{CertificateError, key_hash, user_of_certificate};
pub use fetch::FetchError;
pub(crate) use guard::ClientWrite;
pub use guard::{Guard, RequestedIdentity, read_request};
pub use jwt::{TokenKey, TokenKeyError};
pub use node::{KEY_HASH, NodeAuthorizer, may_label};
pub(crate) use node::{is_locked_out, name_of as node_name_of};
pub use oidc::{OidcConfig, OidcError, OidcIssuer};
pub use pod_token::{PodToken, PodTokenOrder};
pub use rbac::{EscalationGuard, Masters, Rbac};
pub use service_account::{ServiceAccountTokens, TokenError};
pub(crate) use service_account::{account_of, groups_of};
pub use tokens::{TokenFile, TokenFileError};

/// Group whose members may do everything.
pub const MASTERS: &str = "system:masters";
/// Group of all whose identity is known.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Group of those who showed nothing.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";

/// Compares secrets by their digests: how long that takes tells nothing of either.
fn same_secret(a: &[u8], b: &[u8]) -> bool {
    let digest = |it| ring::digest::digest(&ring::digest::SHA256, it);
    digest(a).as_ref() == digest(b).as_ref()
}

/// Who sends a request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct User {
    /// User name, such as `system:node:a`.
    pub name: String,
    /// Unique id, often empty.
    pub uid: String,
    /// Groups, without the implied ones.
    pub groups: Vec<String>,
    /// What else is known, such as the pod that a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user of that name in no group.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Somebody who showed neither certificate nor token.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// The user as a `UserInfo` of `authentication.k8s.io/v1`.
    pub fn to_info(&self) -> Map<String, Value> {
        let mut out = Map::new();
        out.insert("username".to_owned(), json!(self.name));
        if !self.uid.is_empty() {
            out.insert("uid".to_owned(), json!(self.uid));
        }
        if !self.groups.is_empty() {
            out.insert("groups".to_owned(), json!(self.groups));
        }
        if !self.extra.is_empty() {
            out.insert("extra".to_owned(), json!(self.extra));
        }
        out
    }

    /// Whether the user is in the group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|it| it == group)
    }

    /// Whether nothing is known of the sender.
    pub fn is_anonymous(&self) -> bool {
        self.is_in(UNAUTHENTICATED)
    }

    pub(crate) fn authenticated(mut self) -> Self {
        if !self.is_in(AUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}
