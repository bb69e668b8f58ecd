//! Tables: what `kubectl get` prints, computed by the server.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::resource::Resource;

/// What a table tells about the list it stands for.
#[derive(Clone, Debug, Default)]
pub struct TableMeta {
    /// Revision of the list.
    pub resource_version: String,
    /// Token of the next page, empty on the last.
    pub continue_token: String,
    /// How many objects come after this page, if known.
    pub remaining: Option<u64>,
}

/// What each row carries beside its cells.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IncludeObject {
    /// The whole object.
    Object,
    /// Its metadata as `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// Nothing.
    None,
}

/// Makes the `meta.k8s.io/v1` table of objects.
pub fn table(
    _resource: &Resource,
    _items: &[&Value],
    _meta: TableMeta,
    _include: IncludeObject,
    _now: Timestamp,
) -> Value {
    json!({})
}
