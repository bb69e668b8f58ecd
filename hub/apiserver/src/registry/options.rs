//! What callers may ask of reads and writes.

use std::sync::Arc;

use hub_api::Status;
use hub_api::selector::{FieldSelector, LabelSelector};
use serde_json::Value;

use crate::auth::User;

/// Which objects are meant.
#[derive(Clone, Debug)]
pub struct Selection {
    /// By labels.
    pub labels: LabelSelector,
    /// By fields.
    pub fields: FieldSelector,
}

impl Default for Selection {
    fn default() -> Self {
        Self { labels: LabelSelector::everything(), fields: FieldSelector::everything() }
    }
}

impl Selection {
    /// Whether nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether the object is meant.
    pub fn matches(&self, object: &Value) -> bool {
        self.labels.matches_object(object) && self.fields.matches(object)
    }
}

/// How the revision of a list is meant.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum VersionMatch {
    /// Not said.
    #[default]
    Unset,
    /// That one.
    Exact,
    /// That one or a later one.
    NotOlderThan,
}

/// How to list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Which objects.
    pub selection: Selection,
    /// At most so many.
    pub limit: Option<usize>,
    /// Where the page before ended, empty for the first.
    pub continue_token: String,
    /// The wanted revision; `None` and zero accept any, and get the newest.
    pub revision: Option<u64>,
    /// How `revision` is meant.
    pub version_match: VersionMatch,
}

/// How to watch.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    /// Which objects.
    pub selection: Selection,
    /// Events after this revision. `None` and zero begin with the current state.
    pub revision: Option<u64>,
    /// Whether the current state comes first, and its end is marked (`sendInitialEvents`).
    pub initial_events: Option<bool>,
}

/// Who manages what the hub writes for itself.
const HUB_MANAGER: &str = "outbye-hub";

/// How to write.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// Do everything but store.
    pub dry_run: bool,
    /// Who manages the fields that are written.
    pub field_manager: String,
    /// Who writes.
    pub user: Arc<User>,
    /// What becomes of unknown fields in patches.
    pub field_validation: hub_api::FieldValidation,
    /// Why a write of what is not there may not make it, if it may not.
    pub create_refusal: Option<Arc<Status>>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            field_manager: HUB_MANAGER.to_owned(),
            user: Arc::default(),
            field_validation: hub_api::FieldValidation::Warn,
            create_refusal: None,
        }
    }
}

/// The kinds of patches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own, by schema.
    Strategic,
}
