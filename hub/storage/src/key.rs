//! Names of stored objects: `group/plural/namespace/name`, so that a kind, and a namespace of a kind, is a range.
//!
//! The parts never contain a slash; names and namespaces were validated before they come here, and the parts of a
//! request path cannot contain one.

use std::fmt;

/// The place of one object: `core/pods/default/web`; cluster scoped `core/nodes//n1`.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key(Box<str>);

impl Key {
    /// The place of an object. `group` is the storage group (`core` for the legacy group).
    pub fn new(group: &str, plural: &str, namespace: Option<&str>, name: &str) -> Self {
        let namespace = namespace.unwrap_or_default();
        let capacity = group.len() + plural.len() + namespace.len() + name.len() + 3;
        let mut text = String::with_capacity(capacity);
        for part in [group, plural, namespace] {
            text.push_str(part);
            text.push('/');
        }
        text.push_str(name);
        Self(text.into())
    }

    /// Reads what [`Self::as_str`] gave: `None` if it has not four parts.
    pub fn parse(text: &str) -> Option<Self> {
        (text.split('/').count() == 4).then(|| Self(text.into()))
    }

    /// The whole key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Group and plural with both slashes: `core/pods/`.
    pub(crate) fn table(&self) -> &str {
        table(&self.0)
    }

    /// The storage group.
    pub fn group(&self) -> &str {
        self.part(0)
    }

    /// The plural name of the kind.
    pub fn plural(&self) -> &str {
        self.part(1)
    }

    /// The namespace; `None` if cluster scoped.
    pub fn namespace(&self) -> Option<&str> {
        Some(self.part(2)).filter(|it| !it.is_empty())
    }

    /// The name of the object.
    pub fn name(&self) -> &str {
        self.part(3)
    }

    fn part(&self, index: usize) -> &str {
        self.0.splitn(4, '/').nth(index).unwrap_or_default()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// All objects of one kind, or those in one namespace.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Prefix(Box<str>);

impl Prefix {
    /// Objects of a kind, in every namespace.
    pub fn all(group: &str, plural: &str) -> Self {
        Self(format!("{group}/{plural}/").into())
    }

    /// Objects of a kind in one namespace.
    pub fn namespace(group: &str, plural: &str, namespace: &str) -> Self {
        Self(format!("{group}/{plural}/{namespace}/").into())
    }

    /// The common beginning of the keys, with the last slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the key lies in here.
    pub fn contains(&self, key: &Key) -> bool {
        key.0.starts_with(&*self.0)
    }

    pub(crate) fn table(&self) -> &str {
        table(&self.0)
    }

    /// The least possible key of the range.
    pub(crate) fn first(&self) -> Key {
        Key(self.0.clone())
    }
}

fn table(text: &str) -> &str {
    let end = text.match_indices('/').nth(1).map_or(text.len(), |(at, _)| at + 1);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_its_parts_back() {
        let pod = Key::new("core", "pods", Some("default"), "web");
        assert_eq!(pod.as_str(), "core/pods/default/web");
        assert_eq!(
            (pod.group(), pod.plural(), pod.namespace(), pod.name()),
            ("core", "pods", Some("default"), "web")
        );
        let node = Key::new("core", "nodes", None, "n1");
        assert_eq!(node.as_str(), "core/nodes//n1");
        assert_eq!((node.namespace(), node.name()), (None, "n1"));
        assert_eq!(Key::parse(node.as_str()), Some(node));
        assert_eq!(Key::parse("a/b/c"), None);
    }

    #[test]
    fn a_namespace_does_not_contain_its_longer_sisters() {
        let prefix = Prefix::namespace("core", "pods", "a");
        assert!(prefix.contains(&Key::new("core", "pods", Some("a"), "x")));
        assert!(!prefix.contains(&Key::new("core", "pods", Some("ab"), "x")));
        assert_eq!(prefix.table(), "core/pods/");
        assert_eq!(Prefix::all("core", "pods").table(), "core/pods/");
    }
}
