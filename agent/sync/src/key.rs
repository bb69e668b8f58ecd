//! Names of the objects that cross the wire.

use std::{fmt, str::FromStr};

/// Kind, namespace and name of one object in a node's view.
///
/// Its text form is `Kind/namespace/name`; the namespace of a cluster-scoped object is empty.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectKey {
    pub kind: String,
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
    pub fn new(
        kind: impl Into<String>,
        namespace: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self { kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

/// The text is not `Kind/namespace/name`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("could not parse object key {text:?}: want Kind/namespace/name")]
pub struct ParseKeyError {
    text: String,
}

impl FromStr for ObjectKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(kind), Some(namespace), Some(name), None)
                if !kind.is_empty() && !name.is_empty() =>
            {
                Ok(Self::new(kind, namespace, name))
            }
            _ => Err(ParseKeyError { text: text.chars().take(256).collect() }),
        }
    }
}
