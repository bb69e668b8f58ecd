//! Image names: the grammar of Docker references, and what the short forms stand for.
//!
//! `nginx` is `docker.io/library/nginx:latest`. A name with a digest is served by that digest; its
//! tag, if any, is only a remark.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::Digest;

/// A fully qualified image name. Cheap to clone.
#[derive(Clone, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef(Arc<Parts>);

#[derive(Clone, Eq, Ord, PartialEq, PartialOrd)]
struct Parts {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not an image name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReferenceParseError {
    /// Nothing there.
    #[error("image name is empty")]
    Empty,
    /// The repository part.
    #[error("repository name {0:?} is not valid")]
    Repository(String),
    /// Upper case letters, the most common slip.
    #[error("repository name {0:?} must be lowercase")]
    Uppercase(String),
    /// Above 255 characters.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// The registry part.
    #[error("registry {0:?} is not valid")]
    Registry(String),
    /// The tag part.
    #[error("tag {0:?} is not valid")]
    Tag(String),
    /// The digest part.
    #[error("digest {0:?} is not valid or not supported")]
    Digest(String),
}

impl ImageRef {
    /// Host and port of the registry, `docker.io` where none was named.
    pub fn registry(&self) -> &str {
        &self.0.registry
    }

    /// The repository, `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.0.repository
    }

    /// The tag; `latest` where neither tag nor digest was named.
    pub fn tag(&self) -> Option<&str> {
        self.0.tag.as_deref()
    }

    /// The digest, if the name is pinned.
    pub fn digest(&self) -> Option<&Digest> {
        self.0.digest.as_ref()
    }

    /// The same repository, pinned to a digest.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self(Arc::new(Parts { tag: None, digest: Some(digest), ..Parts::clone(&self.0) }))
    }
}

impl FromStr for ImageRef {
    type Err = ReferenceParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(ReferenceParseError::Empty);
        }
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let digest =
                    digest.parse().map_err(|_| ReferenceParseError::Digest(shorten(digest)))?;
                (rest, Some(digest))
            }
        };
        // A colon behind the last slash starts the tag; before it, a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(ReferenceParseError::Tag(shorten(tag)));
        }
        let (registry, repository) = split_registry(name);
        if !is_registry(registry) {
            return Err(ReferenceParseError::Registry(shorten(registry)));
        }
        check_repository(repository)?;
        let (registry, repository) = match registry {
            "docker.io" | "index.docker.io" if !repository.contains('/') => {
                ("docker.io", format!("library/{repository}"))
            }
            "index.docker.io" => ("docker.io", repository.to_owned()),
            _ => (registry, repository.to_owned()),
        };
        if registry.len() + 1 + repository.len() > 255 {
            return Err(ReferenceParseError::TooLong);
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self(Arc::new(Parts { registry: registry.to_owned(), repository, tag, digest })))
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { registry, repository, tag, digest } = &*self.0;
        write!(f, "{registry}/{repository}")?;
        tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

impl fmt::Debug for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl TryFrom<String> for ImageRef {
    type Error = ReferenceParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ImageRef> for String {
    fn from(image: ImageRef) -> Self {
        image.to_string()
    }
}

/// The first component is a registry if it could not be part of a Docker Hub name.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => ("docker.io", name),
    }
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) => {
                let is_ipv6 = host.bytes().all(|c| c.is_ascii_hexdigit() || c == b':');
                return !host.is_empty() && is_ipv6 && (port.is_empty() || is_port(port));
            }
            None => return false,
        },
        None => match registry.find(':') {
            Some(at) => registry.split_at(at),
            None => (registry, ""),
        },
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    host.split('.').all(is_label) && (port.is_empty() || is_port(port))
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|digits| {
        digits.bytes().all(|c| c.is_ascii_digit()) && digits.parse::<u16>().is_ok()
    })
}

fn is_tag(tag: &str) -> bool {
    let is_word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|c| is_word(c) || c == b'.' || c == b'-')
}

fn check_repository(repository: &str) -> Result<(), ReferenceParseError> {
    if repository.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(ReferenceParseError::Uppercase(shorten(repository)));
    }
    if repository.split('/').all(is_component) {
        Ok(())
    } else {
        Err(ReferenceParseError::Repository(shorten(repository)))
    }
}

/// Letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_component(component: &str) -> bool {
    let is_alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    component.starts_with(is_alnum)
        && component.ends_with(is_alnum)
        && component
            .split(is_alnum)
            .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|c| c == b'-'))
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let found = match text.parse::<ImageRef>() {
            Ok(image) => {
                assert_eq!(image.to_string().parse(), Ok(image.clone()), "does not round-trip");
                image.to_string()
            }
            Err(err) => format!("error: {err}"),
        };
        assert_eq!(found, expected, "{text}");
    }

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn short_names_mean_docker_hub_and_latest() {
        check("nginx", "docker.io/library/nginx:latest");
        check("nginx:1.27", "docker.io/library/nginx:1.27");
        check("library/nginx", "docker.io/library/nginx:latest");
        check("grafana/grafana:11", "docker.io/grafana/grafana:11");
        check("docker.io/nginx", "docker.io/library/nginx:latest");
        check("index.docker.io/a/b", "docker.io/a/b:latest");
    }

    #[test]
    fn registries_are_told_from_names() {
        check("localhost/app", "localhost/app:latest");
        check("127.0.0.1:5000/outbye/nginx:1", "127.0.0.1:5000/outbye/nginx:1");
        check("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1");
        check("[fd00::1]:5000/a:b", "[fd00::1]:5000/a:b");
        check("Registry/a", "Registry/a:latest");
        check("a.b:70000/c", "error: registry \"a.b:70000\" is not valid");
        check("-a.b/c", "error: registry \"-a.b\" is not valid");
    }

    #[test]
    fn a_digest_pins_and_takes_no_default_tag() {
        check(&format!("nginx@sha256:{HEX}"), &format!("docker.io/library/nginx@sha256:{HEX}"));
        check(&format!("nginx:1@sha256:{HEX}"), &format!("docker.io/library/nginx:1@sha256:{HEX}"));
        check("nginx@sha256:12", "error: digest \"sha256:12\" is not valid or not supported");
        check("nginx@", "error: digest \"\" is not valid or not supported");
    }

    #[test]
    fn bad_names_say_what_is_bad() {
        check("", "error: image name is empty");
        check("Nginx", "error: repository name \"Nginx\" must be lowercase");
        check("a..b", "error: repository name \"a..b\" is not valid");
        check("a___b", "error: repository name \"a___b\" is not valid");
        check("a--b__c.d_e", "docker.io/library/a--b__c.d_e:latest");
        check("a//b", "error: repository name \"a//b\" is not valid");
        check("../../etc", "error: registry \"..\" is not valid");
        check("a/../b", "error: repository name \"a/../b\" is not valid");
        check("a:", "error: tag \"\" is not valid");
        check("a:.x", "error: tag \".x\" is not valid");
        check("a b", "error: repository name \"a b\" is not valid");
        check(&"a".repeat(300), "error: repository name must not be more than 255 characters");
    }
}
