//! Paths inside a volume, which cannot say "outside".

use std::{ffi::OsStr, fmt, path::Path, str::FromStr};

/// A relative path without `.`, `..` or empty components.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RelPath(String);

/// Why a text is not a path inside a volume.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RelPathError {
    /// Nothing there.
    #[error("path is empty")]
    Empty,
    /// It starts with a slash.
    #[error("path must be relative")]
    Absolute,
    /// It has a `..` component.
    #[error("path must not contain '..'")]
    Backstep,
    /// A component is above 255 bytes, or the whole above 4095.
    #[error("path is too long")]
    TooLong,
    /// It has a NUL byte.
    #[error("path must not contain a NUL byte")]
    Nul,
}

impl RelPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its components, outermost first; there is at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The outermost component.
    pub fn first(&self) -> &str {
        self.0.split('/').next().unwrap_or(&self.0)
    }

    /// The directory part, if there is one, and the name.
    pub fn split(&self) -> (Option<&str>, &str) {
        match self.0.rsplit_once('/') {
            Some((dir, name)) => (Some(dir), name),
            None => (None, &self.0),
        }
    }
}

impl FromStr for RelPath {
    type Err = RelPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            return Err(RelPathError::Absolute);
        }
        if text.contains('\0') {
            return Err(RelPathError::Nul);
        }
        let components: Vec<&str> =
            text.split('/').filter(|component| !matches!(*component, "" | ".")).collect();
        if components.contains(&"..") {
            return Err(RelPathError::Backstep);
        }
        if components.is_empty() {
            return Err(RelPathError::Empty);
        }
        if components.iter().any(|component| component.len() > 255) || text.len() > 4095 {
            return Err(RelPathError::TooLong);
        }
        Ok(Self(components.join("/")))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<Path> for RelPath {
    fn as_ref(&self) -> &Path {
        Path::new(OsStr::new(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, RelPathError>) {
        assert_eq!(
            text.parse::<RelPath>().as_ref().map(RelPath::as_str),
            expected.as_ref().map(|it| *it)
        );
    }

    #[test]
    fn only_paths_that_stay_inside_parse() {
        check("a", Ok("a"));
        check("a//b/./c/", Ok("a/b/c"));
        check("..a/b..", Ok("..a/b.."));
        check("", Err(RelPathError::Empty));
        check("./", Err(RelPathError::Empty));
        check("/etc", Err(RelPathError::Absolute));
        check("a/../b", Err(RelPathError::Backstep));
        check("..", Err(RelPathError::Backstep));
        check("a\0b", Err(RelPathError::Nul));
        check(&"a".repeat(256), Err(RelPathError::TooLong));
    }
}
