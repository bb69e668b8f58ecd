//! Credentials for one registry, as the caller found them.

use std::fmt;

/// How to introduce ourselves to a registry.
#[derive(Clone, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Auth {
    /// No credentials; a token is still fetched where the registry asks for one.
    #[default]
    Anonymous,
    /// User name and password, sent to the registry or exchanged for a token.
    Basic {
        /// The user.
        username: String,
        /// The password or access token.
        password: String,
    },
    /// A token that is sent as it is.
    Bearer(String),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { username, .. } => write!(f, "Basic({username:?}, <redacted>)"),
            Self::Bearer(_) => f.write_str("Bearer(<redacted>)"),
        }
    }
}
