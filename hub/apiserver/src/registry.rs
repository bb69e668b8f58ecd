//! The one way to objects: HTTP, controllers, scheduler and fleet sessions all read and write
//! through a [`Registry`]. It joins the rules of `hub_api` with the revisions of `hub_storage`,
//! and adds what needs both: conflicts, selectors over history, namespaces, addresses of services.
//!
//! A resource may be another version of a stored one: what is written is converted here, what is
//! read comes as it is stored, and whoever shows it asks [`Resource::show`].

pub mod apply;
mod bootstrap;
mod catalog;
mod conversion;
mod custom;
mod delete;
mod events;
mod eviction;
#[cfg(test)]
mod fuzz;
mod list;
mod namespaces;
mod options;
mod ownership;
mod patch;
mod pods;
mod service_ips;
mod watch;
mod write;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hub_api::{Catalog, Clock, Resource, Status, WriteContext};
use hub_storage::{CatchUpError, Entry, Key, Prefix, Revision, Storage};
use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde_json::Value;

use crate::admission::{AdmissionState, QuotaLocks, Requester};
use crate::auth::{Guard, User};

pub use apply::Application;
pub use bootstrap::{BootstrapError, Seed};
pub use delete::Deleted;
pub use list::List;
pub use options::{ListOptions, PatchKind, Selection, VersionMatch, WatchOptions, WriteOptions};
pub(crate) use patch::SCALE;
pub use watch::{RegistryWatch, WatchEvent};
pub(crate) use write::Companions;
pub use write::Written;

/// What a registry must be told.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// Where cluster addresses of services come from.
    pub service_cidr: Ipv4Net,
}

/// Reads and writes objects. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    config: Arc<RegistryConfig>,
    requester: Arc<Requester>,
    admission: Arc<AdmissionState>,
    definitions: Arc<catalog::Definitions>,
    converted: Arc<conversion::Converted>,
    guard: Option<Arc<Guard>>,
    is_unquestioned: bool,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Registry {
    /// A registry over a storage.
    pub fn new(storage: Arc<dyn Storage>, clock: Arc<dyn Clock>, config: RegistryConfig) -> Self {
        Self {
            storage,
            clock,
            config: Arc::new(config),
            requester: Arc::default(),
            admission: Arc::default(),
            definitions: Arc::default(),
            converted: Arc::default(),
            guard: None,
            is_unquestioned: false,
        }
    }

    /// The same registry, about whose writes no webhook and no policy is asked: for what a hub must be able to write
    /// before any of them can answer, because their pods are reached through this very hub.
    #[must_use]
    pub fn unquestioned(&self) -> Self {
        Self { is_unquestioned: true, ..self.clone() }
    }

    pub(crate) fn is_unquestioned(&self) -> bool {
        self.is_unquestioned
    }

    /// The same registry, acting on behalf of a user: admission is told who it is, and what it has
    /// to say is kept in [`Self::requester`].
    #[must_use]
    pub fn on_behalf_of(&self, user: Arc<User>) -> Self {
        Self { requester: Arc::new(Requester::new(user)), ..self.clone() }
    }

    /// What plugins keep between requests, shared by all clones.
    pub(crate) fn admission(&self) -> &AdmissionState {
        &self.admission
    }

    pub(crate) fn quota_locks(&self) -> &QuotaLocks {
        &self.admission.quota_locks
    }

    /// Whether new pods get a token mounted. Off until [`Self::mount_tokens`] is called.
    pub(crate) fn mounts_tokens(&self) -> bool {
        self.admission.mounts_tokens.load(Ordering::Relaxed)
    }

    /// Mounts a token into every new pod whose account wants that: for hubs whose nodes can fetch
    /// tokens.
    pub fn mount_tokens(&self, on: bool) {
        self.admission.mounts_tokens.store(on, Ordering::Relaxed);
    }

    /// The same registry, whose clients' writes a guard looks at.
    #[must_use]
    pub fn with_guard(&self, guard: Arc<Guard>) -> Self {
        Self { guard: Some(guard), ..self.clone() }
    }

    pub(crate) fn guard(&self) -> Option<&Guard> {
        self.guard.as_deref()
    }

    /// On whose behalf this registry acts. A nameless user stands for the hub itself.
    pub fn requester(&self) -> &Requester {
        &self.requester
    }

    /// The storage below, for what is not an object.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// What is served now. Every custom definition that was acknowledged before the call is in it.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.definitions.catalog(&*self.storage)
    }

    /// The time, as everything that is written has it.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The revision up to which writes are visible.
    pub fn revision(&self) -> Revision {
        self.storage.revision()
    }

    /// Waits until the revision is reached. The caller bounds the time.
    pub async fn wait_for(&self, revision: Revision) {
        let mut progress = self.storage.progress();
        // An error means that the storage is closed: what follows will say so.
        let _ = progress.wait_for(|reached| *reached >= revision).await;
    }

    /// Waits until reads here see every write that was acknowledged before the call, whichever hub on the same store it
    /// went through. Bounded in time.
    ///
    /// # Errors
    /// `ServiceUnavailable` or `Timeout` if that cannot be known.
    pub async fn catch_up(&self) -> Result<Revision, Status> {
        self.storage.catch_up().await.map_err(|err| match err {
            CatchUpError::Unreachable { .. } => Status::service_unavailable(err.to_string()),
            CatchUpError::TimedOut => Status::timeout(&err.to_string()),
            CatchUpError::Behind { wanted } => {
                Status::timeout_rv_too_large(wanted.get(), self.revision().get())
            }
            CatchUpError::Closed => Status::service_unavailable("the server is shutting down"),
        })
    }

    /// One object.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn get(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Arc<Entry>, Status> {
        let found = self.storage.get(&key(resource, namespace, name));
        let found = found.map(|it| custom::shown(resource, it));
        found.ok_or_else(|| Status::not_found(&resource.group, &resource.plural, name))
    }
}

/// Where an object is stored.
pub(crate) fn key(resource: &Resource, namespace: Option<&str>, name: &str) -> Key {
    let resource = resource.stored();
    Key::new(resource.storage_group(), &resource.plural, namespace, name)
}

/// Where the objects of a resource are stored.
pub(crate) fn prefix(resource: &Resource, namespace: Option<&str>) -> Prefix {
    let resource = resource.stored();
    match namespace {
        Some(namespace) => Prefix::namespace(resource.storage_group(), &resource.plural, namespace),
        None => Prefix::all(resource.storage_group(), &resource.plural),
    }
}

/// Takes `metadata.resourceVersion` out of an object; empty if there is none.
pub(crate) fn take_revision(object: &mut Value) -> String {
    match object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        Some(metadata) => match metadata.remove("resourceVersion") {
            Some(Value::String(text)) => text,
            _ => String::new(),
        },
        None => String::new(),
    }
}

/// Random material of one write: nothing below draws any.
pub(crate) struct Fresh {
    uid: String,
    suffix: String,
}

impl Fresh {
    pub(crate) fn draw() -> Self {
        let letters = uuid::Uuid::new_v4();
        let suffix = letters
            .as_bytes()
            .iter()
            // Bytes 6 and 8 of a UUID are not fully random.
            .take(5)
            .map(|byte| {
                let alphabet = hub_api::write::SUFFIX_ALPHABET;
                char::from(alphabet[usize::from(*byte) % alphabet.len()])
            })
            .collect();
        Self { uid: uuid::Uuid::new_v4().to_string(), suffix }
    }

    /// Five fresh characters for a name.
    pub(crate) fn suffix(&self) -> &str {
        &self.suffix
    }

    pub(crate) fn context<'a>(
        &'a self,
        resource: &'a Resource,
        namespace: Option<&'a str>,
        name: Option<&'a str>,
        now: Timestamp,
    ) -> WriteContext<'a> {
        WriteContext { resource, namespace, name, now, uid: &self.uid, suffix: &self.suffix }
    }
}
