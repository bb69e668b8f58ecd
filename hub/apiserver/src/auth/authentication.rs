//! All ways in which a bearer token can name a user.

use std::sync::Arc;

use hub_api::Status;

use super::bootstrap_token::{self, BootstrapTokenError};
use super::oidc::{OidcError, OidcIssuer};
use super::service_account::{ServiceAccountTokens, TokenError};
use super::{TokenFile, User};
use crate::registry::Registry;

/// Longest bearer token that is looked at, in bytes.
const MAX_TOKEN: usize = 16 << 10;

/// Who is let in, and how.
#[derive(Debug, Default)]
pub struct Authentication {
    /// Tokens of the token file.
    pub tokens: TokenFile,
    /// Tokens of service accounts; absent where there are no keys for them.
    pub service_accounts: Option<Arc<ServiceAccountTokens>>,
    /// Whether bootstrap tokens, which are Secrets in `kube-system`, name users.
    pub bootstrap_tokens: bool,
    /// Issuers whose tokens name users.
    pub oidc: Vec<OidcIssuer>,
    /// Whether who shows nothing is `system:anonymous` everywhere, and not only for health and
    /// version.
    pub anonymous: bool,
}

/// A token that is good.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verified {
    /// Whom it names.
    pub user: User,
    /// Which of the wanted audiences it is for; empty if it has none.
    pub audiences: Vec<String>,
}

/// Why a token that looks like one of ours is not good.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    /// Longer than any token of ours.
    #[error("invalid bearer token")]
    TooLong,
    /// A service account's.
    #[error("invalid bearer token")]
    ServiceAccount(#[source] TokenError),
    /// A bootstrap token.
    #[error("invalid bearer token")]
    Bootstrap(#[source] BootstrapTokenError),
    /// An issuer's.
    #[error("invalid bearer token")]
    Oidc(#[source] OidcError),
}

impl Authentication {
    /// The user that a token names; nothing if nobody knows it. Without `audiences` the token must
    /// be for this API.
    ///
    /// # Errors
    /// The token is of a known form, but not good.
    pub async fn token(
        &self,
        registry: &Registry,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Verified>, AuthenticationError> {
        if token.len() > MAX_TOKEN {
            return Err(AuthenticationError::TooLong);
        }
        if let Some(user) = self.tokens.user(token) {
            return Ok(self.for_this_api(user.clone(), audiences));
        }
        if let Some(issuer) = &self.service_accounts
            && let Some(verified) = issuer
                .verify(registry, token, audiences)
                .map_err(AuthenticationError::ServiceAccount)?
        {
            // Tokens of old do not say for whom they are.
            if verified.audiences.is_empty() {
                return Ok(self.for_this_api(verified.user, audiences));
            }
            return Ok(Some(verified));
        }
        if self.bootstrap_tokens
            && let Some(user) =
                bootstrap_token::user(registry, token).map_err(AuthenticationError::Bootstrap)?
        {
            return Ok(self.for_this_api(user, audiences));
        }
        for issuer in &self.oidc {
            let user = issuer.verify(token, registry.now()).await;
            if let Some(user) = user.map_err(AuthenticationError::Oidc)? {
                return Ok(self.for_this_api(user, audiences));
            }
        }
        Ok(None)
    }

    /// A token that does not say for whom it is is for this API, and nobody else may take it for theirs.
    fn for_this_api(&self, user: User, wanted: &[String]) -> Option<Verified> {
        let own = self.service_accounts.as_ref().map_or(&[][..], |it| it.audiences());
        if wanted.is_empty() {
            return Some(Verified { user, audiences: own.to_vec() });
        }
        let audiences: Vec<String> = wanted.iter().filter(|it| own.contains(it)).cloned().collect();
        (!audiences.is_empty()).then_some(Verified { user, audiences })
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(err: &dyn std::error::Error) -> String {
    let mut out = err.to_string();
    let mut source = err.source();
    while let Some(err) = source {
        out.push_str(", ");
        out.push_str(&err.to_string());
        source = err.source();
    }
    out
}

impl From<AuthenticationError> for Status {
    fn from(_: AuthenticationError) -> Self {
        Self::unauthorized()
    }
}
