//! The versions that one kind is served in: entries name the version they were written in.

use std::borrow::Cow;

use serde_json::Value;

use super::model::Model;

/// The versions of one kind.
pub trait Versions {
    /// The type in a version; absent if there is no such version (any more).
    fn model(&self, api_version: &str) -> Option<&dyn Model>;

    /// An object in another version. Both are versions that have a model.
    ///
    /// # Errors
    /// If it cannot be converted.
    fn convert<'a>(&self, object: &'a Value, api_version: &str) -> Result<Cow<'a, Value>, String>;
}

/// A kind in one version.
#[derive(Clone, Copy, Debug)]
pub struct OneVersion<'a> {
    /// That version.
    pub api_version: &'a str,
    /// The type.
    pub model: &'a dyn Model,
}

impl Versions for OneVersion<'_> {
    fn model(&self, api_version: &str) -> Option<&dyn Model> {
        (api_version == self.api_version).then_some(self.model)
    }

    fn convert<'a>(&self, object: &'a Value, _api_version: &str) -> Result<Cow<'a, Value>, String> {
        Ok(Cow::Borrowed(object))
    }
}
