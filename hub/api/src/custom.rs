//! Custom resources: what a `CustomResourceDefinition` says, and the rules it gives to its objects.

use std::sync::Arc;

use serde_json::Value;

use crate::resource::Resource;

/// What one version of a definition says of its resource.
#[derive(Clone, Debug)]
pub struct Custom {
    /// What all versions share.
    pub definition: Arc<Definition>,
    /// Kind of a list of the objects.
    pub list_kind: String,
    /// Short names, for command lines.
    pub short_names: Vec<String>,
    /// Categories that the resource is in.
    pub categories: Vec<String>,
}

impl Custom {
    /// Whether objects are stored in this version.
    pub fn is_stored(&self, version: &str) -> bool {
        self.definition.storage_version == version
    }
}

/// What all versions of a definition share.
#[derive(Clone, Debug)]
pub struct Definition {
    /// `<plural>.<group>`.
    pub name: String,
    /// Revision at which the definition was stored.
    pub revision: u64,
    /// Version in which objects are stored.
    pub storage_version: String,
    /// Versions in which objects are served.
    pub served: Vec<String>,
}

/// The rows that a stored definition makes; none before its names are accepted.
pub fn rows(_definition: &Value, _revision: u64) -> Vec<Resource> {
    Vec::new()
}
