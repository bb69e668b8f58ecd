//! Names of the things that a node runs.
//!
//! The ids of what we create are derived from the pod's UID and an attempt, never drawn: a create
//! after a crash finds its own earlier half. All of them parse at the edge and are safe as names
//! of files and control groups.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One incarnation of a pod. Names are reused; this is not.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodUid(Uuid);

/// The text is not the id that it should be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("could not parse {what} {text:?}")]
pub struct ParseIdError {
    what: &'static str,
    text: String,
}

impl ParseIdError {
    fn new(what: &'static str, text: &str) -> Self {
        Self { what, text: text.chars().take(128).collect() }
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl TryFrom<String> for PodUid {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PodUid> for String {
    fn from(uid: PodUid) -> Self {
        uid.to_string()
    }
}

impl FromStr for PodUid {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self).map_err(|_| ParseIdError::new("pod UID", text))
    }
}

/// Namespace and name of a pod.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How many times something of the same name was made before.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct Attempt(pub u32);

impl Attempt {
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Name of a container within its pod: a DNS label.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

/// Longest DNS label.
const MAX_LABEL: usize = 63;

impl ContainerName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerName {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=MAX_LABEL).contains(&text.len())
            && !text.starts_with('-')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseIdError::new("container name", text))
        }
    }
}

impl TryFrom<String> for ContainerName {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ContainerName> for String {
    fn from(name: ContainerName) -> Self {
        name.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The namespaces that the containers of a pod share. Text form: `UID.ATTEMPT`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SandboxId {
    pub pod: PodUid,
    pub attempt: Attempt,
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.pod, self.attempt)
    }
}

impl FromStr for SandboxId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseIdError::new("sandbox id", text);
        let (pod, attempt) = text.split_once('.').ok_or_else(wrong)?;
        Ok(Self {
            pod: pod.parse().map_err(|_| wrong())?,
            attempt: Attempt(attempt.parse().map_err(|_| wrong())?),
        })
    }
}

/// One attempt at running a container. Text form: `UID.NAME.ATTEMPT`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ContainerId {
    pub pod: PodUid,
    pub name: ContainerName,
    pub attempt: Attempt,
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.pod, self.name, self.attempt)
    }
}

impl FromStr for ContainerId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseIdError::new("container id", text);
        let mut parts = text.split('.');
        let (Some(pod), Some(name), Some(attempt), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        Ok(Self {
            pod: pod.parse().map_err(|_| wrong())?,
            name: name.parse().map_err(|_| wrong())?,
            attempt: Attempt(attempt.parse().map_err(|_| wrong())?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_parse_what_they_print() {
        let text = "5f2b6a3e-8c1d-4e55-9d54-0f1a2b3c4d5e.web-1.3";
        let id: ContainerId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        let sandbox = SandboxId { pod: id.pod, attempt: Attempt(2) };
        assert_eq!(sandbox.to_string().parse(), Ok(sandbox));
    }

    #[test]
    fn names_that_could_be_paths_are_refused() {
        for text in ["", "..", "a/b", "A", "-a", "a.b", &"x".repeat(64)] {
            assert!(text.parse::<ContainerName>().is_err(), "{text}");
        }
    }
}
