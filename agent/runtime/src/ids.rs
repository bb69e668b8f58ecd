//! Names of the things the runtime makes.
//!
//! Every name becomes a file name, a cgroup directory and a mount point, so it is checked once, here,
//! and nothing behind this module asks again whether it could hold a `/` or a `..`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("could not use {text:?} as {what}: letters, digits, '-', '_' and '.' only, at most 128")]
pub struct InvalidName {
    what: &'static str,
    text: String,
}

fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and makes a name of it.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                if is_name(&text) {
                    Ok(Self(text))
                } else {
                    Err(InvalidName { what: stringify!($name), text })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

name_type! {
    /// One incarnation of a sandbox: the namespaces and the cgroup a group of containers shares.
    SandboxId
}

name_type! {
    /// One incarnation of a container. A restarted container is another one.
    ContainerId
}

/// A cgroup below the runtime's own root, such as `burstable/pod1234`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct CgroupPath(String);

impl CgroupPath {
    /// Checks `text` and makes a relative path of it; every part must be a name.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        if text.len() <= 1024 && text.split('/').all(is_name) {
            Ok(Self(text))
        } else {
            Err(InvalidName { what: "CgroupPath", text })
        }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The cgroup named `leaf` below this one.
    pub fn child(&self, leaf: &ContainerId) -> Self {
        Self(format!("{}/{leaf}", self.0))
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CgroupPath {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl From<CgroupPath> for String {
    fn from(path: CgroupPath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_directory_are_refused() {
        for text in ["", ".", "..", "a/b", "../x", "a\0b", ".hidden", "ä", &"x".repeat(129)] {
            assert!(ContainerId::new(text).is_err(), "{text:?}");
        }
        assert!(ContainerId::new("web-0_1.a").is_ok());
    }

    #[test]
    fn cgroup_paths_hold_names_only() {
        for text in ["", "/a", "a//b", "a/../b", "a/"] {
            assert!(CgroupPath::new(text).is_err(), "{text:?}");
        }
        assert_eq!(CgroupPath::new("burstable/pod1").unwrap().as_str(), "burstable/pod1");
    }
}
