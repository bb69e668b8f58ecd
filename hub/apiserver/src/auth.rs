//! Who sends a request, and what they may do.

mod authorize;
mod certificate;
mod tokens;

use std::collections::BTreeMap;

pub use authorize::{
    Attributes, Authorizer, Chain, Decision, MastersOnly, NonResourceRule, ResourceRule, Rules,
};
pub use certificate::{CertificateError, user_of_certificate};
pub use tokens::{TokenFile, TokenFileError};

/// Group whose members may do everything.
pub const MASTERS: &str = "system:masters";
/// Group of all whose identity is known.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Group of those who showed nothing.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";

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
